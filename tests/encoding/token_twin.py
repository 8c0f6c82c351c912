"""Tokens of a flow once more, written plainly from the formats: the twin that the kernels are held against.

Streams are lists of bytes with None where a byte was on the wire and was not kept. Only the numbers of the
fields and the number of buckets are taken from the code: they are the format.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from apptell.encoding import tokens as f

if TYPE_CHECKING:
    from collections.abc import Iterator

Order = Literal["little", "big"]
ORDERS: tuple[Order, ...] = ("big", "little")

WORD = 2**64
CLIENT, SERVER = 0, 1
NO_SIZE = {0, 21, 35, 41, 44, 51, 65037}  # names, padding, tickets, cookies, keys, ECH
LISTS = {10: (2, 2), 13: (2, 2), 43: (1, 2)}  # extension: bytes before its list, step


@dataclass
class Segment:
    side: int
    kept: bytes
    length: int
    place: int  # in the stream of its side


@dataclass
class Record:
    kind: int
    minor: int
    size: int
    turn: int


@dataclass
class Tokens:
    names: str
    found: list[int] = field(default_factory=list)

    def put(self, key: int) -> None:
        bucket = mix(key, 0x5BD1E995) >> 17 & 0xFFFF
        if bucket and bucket not in self.found:
            self.found.append(bucket)


def mix(*values: int) -> int:
    """A multiplicative hash of numbers, folded from the left, in 64 bits."""
    key = values[0] % WORD
    for value in values[1:]:
        key = (key ^ value % WORD) * 0x9E3779B97F4A7C15 % WORD
        key ^= key >> 29
    return key


def mix_bytes(key: int, data: bytes) -> int:
    return mix(key, *(byte + 1 for byte in data), len(data))


def step(size: int) -> int:
    """Sizes to 64 as they are, then four steps a doubling."""
    if size <= 64:
        return size
    doublings = size.bit_length() - 1
    quarter: int = size // 2 ** (doublings - 2) - 4
    return 4 * doublings + quarter + 41


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def is_grease(code: int) -> bool:
    return code in {0x0A0A + 0x1010 * n for n in range(16)}


def tokens_of(
    segments: list[Segment],
    *,
    is_udp: bool = False,
    hello: bytes | None = None,
    is_dtls: bool = False,
    names: str = "on",
    packets: int = 5,
    skip: int = 0,
) -> list[int]:
    """The tokens of a flow; ``hello`` is a ClientHello that was read from QUIC or DTLS."""
    segments = segments[skip:][:packets]
    into = Tokens(names)
    if not segments or (skip and len(segments) < 2):
        return []
    if not is_udp:
        segments = ordered(segments)
    turns = [list(run) for _, run in itertools.groupby(segments, key=lambda each: each.side)]
    streams = [stream(segments, side) for side in (CLIENT, SERVER)]
    records: list[list[Record]] = [[], []]
    has_hello = False
    if is_udp:
        for at, each in enumerate(segments):
            into.put(mix(mix(f.DATAGRAM, each.side), at, step(each.length)))
            into.put(mix(f.DATAGRAM_EXACT, each.side, each.length))
        if hello is not None:
            client_hello(into, hello, is_dtls)
    else:
        found = [read_records(turns, side, streams[side]) for side in (CLIENT, SERVER)]
        records = [each for each, _ in found]
        has_hello = found[CLIENT][1][:1] == b"\1"
        order = record_order(records, len(turns), [run[0].side for run in turns])
        if order:
            into.put(mix(f.RECORD_ORDER, 0, *order[:6]))
        for side in (CLIENT, SERVER):
            messages(into, side, found[side][1])
            put_records(into, side, records[side])
    is_tls = any(records)
    into.put(mix(f.KIND, 4 * is_udp + 2 * is_tls + has_hello))
    put_turns(into, turns, records, is_tls)
    if not is_tls:
        for side in (CLIENT, SERVER):
            plain(into, side, streams[side])
    return into.found


def ordered(segments: list[Segment]) -> list[Segment]:
    """Each side's segments in the order of their places; who speaks when stays as it was captured."""
    sides = {
        side: iter(sorted((s for s in segments if s.side == side), key=lambda each: each.place))
        for side in (CLIENT, SERVER)
    }
    return [next(sides[each.side]) for each in segments]


def stream(segments: list[Segment], side: int) -> list[int | None]:
    made: list[int | None] = []
    mine = [each for each in segments if each.side == side]
    for each in mine:
        at = each.place - mine[0].place
        made += [None] * (at + each.length - len(made))
        made[at : at + len(each.kept)] = each.kept
    return made


def known(data: list[int | None]) -> bytes:
    """What is there without a gap."""
    found = bytearray()
    for byte in data:
        if byte is None:
            break
        found.append(byte)
    return bytes(found)


def read_records(
    turns: list[list[Segment]], side: int, data: list[int | None]
) -> tuple[list[Record], bytes]:
    """TLS records of one side, and its handshake messages in plain text.

    Where no record is, reading goes on with the next segment: it may begin one.
    """
    starts, first = [], None
    for turn, run in enumerate(turns):
        for each in run:
            if each.side == side:
                first = each.place if first is None else first
                starts.append((each.place - first, turn))
    prefix, records, shake = known(data), [], b""
    at, is_open, is_joined = 0, True, True
    while at < len(data):
        header = known(data[at : at + 5])
        kind, major, minor, size = -1, 0, 0, 0
        if len(header) == 5:
            kind, major, minor, size = *header[:3], number(header[3:])
        if kind not in range(20, 25) or major != 3 or minor > 4 or size > 2**14 + 2048:
            is_joined = False
            at = min((start for start, _ in starts if start > at), default=len(data))
            continue
        records.append(
            Record(kind, minor, size, max(turn for start, turn in starts if start <= at))
        )
        if kind not in (21, 22):
            is_open = False
        elif kind == 22 and is_open and is_joined and at + 5 <= len(prefix):
            shake += prefix[at + 5 : at + 5 + size]
        at += 5 + size
    return records, shake


def record_order(records: list[list[Record]], n_turns: int, sides: list[int]) -> list[int]:
    return [
        2 * each.kind + sides[turn]
        for turn in range(n_turns)
        for each in records[sides[turn]]
        if each.turn == turn
    ]


def put_records(into: Tokens, side: int, records: list[Record]) -> None:
    for at, each in enumerate(records):
        into.put(mix(f.RECORD_VERSION, each.kind, each.minor))
        if at < 8:
            into.put(mix(mix(f.RECORD, side), 8 * each.kind + at, step(each.size)))
    sizes = [each.size for each in records if each.kind == 23]
    for at, size in enumerate(sizes):
        into.put(mix(f.DATA_EXACT, side, size))
        if at < 6:
            into.put(mix(f.DATA, 2 * at + side, step(size)))
    for before, after in itertools.pairwise(sizes):
        into.put(mix(f.DATA_PAIR, side, step(before), step(after)))


def put_turns(
    into: Tokens, turns: list[list[Segment]], records: list[list[Record]], is_tls: bool
) -> None:
    turns = turns[:8]
    for at, run in enumerate(turns[:6]):
        side, size = run[0].side, sum(each.length for each in run)
        into.put(mix(f.TURN, side, at, step(size)))
        into.put(mix(f.TURN_EXACT, side, size))
        if is_tls:
            kinds = [each.kind for each in records[side] if each.turn == at]
            into.put(mix(f.TURN_RECORDS, side, *kinds, at))
        elif at < 4:
            for width in (1, 2, 3, 4):
                if len(run[0].kept) >= width:
                    into.put(mix_bytes(mix(f.TURN_PREFIX, side, at), run[0].kept[:width]))
    into.put(mix(f.TURN_ORDER, 0, *(run[0].side for run in turns)))


def messages(into: Tokens, side: int, data: bytes) -> None:
    """Handshake messages: a type, a length of 24 bits, a body (RFC 8446, section 4)."""
    while len(data) >= 4:
        kind, size = data[0], number(data[1:4])
        into.put(mix(f.MESSAGE, side, kind, step(size)))
        message, data = data[: 4 + size], data[4 + size :]
        if kind == 1:
            client_hello(into, message, is_dtls=False)
        elif kind == 2:
            server_hello(into, message)
        elif kind == 11:
            certificates(into, message)
        elif kind > 24:
            return


def extensions_of(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Code, size and value of each extension, the last perhaps cut."""
    while len(data) >= 4:
        size = number(data[2:4])
        yield number(data[:2]), size, data[4 : 4 + size]
        data = data[4 + size :]


def client_hello(into: Tokens, message: bytes, is_dtls: bool) -> None:
    if len(message) < 39:
        return
    into.put(mix(f.HELLO, 1, number(message[4:6])))
    into.put(mix(f.HELLO, 2, step(len(message))))
    into.put(mix(f.HELLO, 3, message[38]))
    rest = message[39 + message[38] :]
    if is_dtls:
        if not rest:
            return
        rest = rest[1 + rest[0] :]
    if len(rest) < 2:
        return
    said, rest = rest[2:][: number(rest[:2])], rest[2 + number(rest[:2]) :]
    ciphers = [number(said[at : at + 2]) for at in range(0, len(said) - 1, 2)]
    ciphers = [code for code in ciphers if not is_grease(code)]
    for code in ciphers:
        into.put(mix(f.CIPHER, code))
    into.put(mix(f.CIPHERS, 0, *(code + 1 for code in ciphers)))
    if not rest:
        return
    into.put(mix(f.HELLO, 4, rest[0]))
    codes = []
    for code, size, value in extensions_of(rest[1 + rest[0] + 2 :]):
        if is_grease(code):
            continue
        codes.append(code)
        into.put(mix(f.EXTENSION, code))
        if code == 0:
            if len(value) >= 5:
                into.put(mix(f.NAME_SIZE, size - 5))
                if value[5:].strip(b"\0"):
                    host_name(into, value[5:])
        elif code == 16:
            into.put(mix_bytes(f.ALPN, value))
        elif code == 51:
            into.put(mix(f.EXTENSION_LIST, 51, *(n + 1 for n in shares(value[2:]))))
        elif code in LISTS:
            before, width = LISTS[code]
            value = value[before:]
            listed = [number(value[at : at + 2]) for at in range(0, len(value) - 1, width)]
            listed = [each + 1 for each in listed if not is_grease(each)]
            into.put(mix(f.EXTENSION_LIST, code, *listed))
        elif code not in NO_SIZE:
            into.put(mix(f.EXTENSION_SIZE, code, size))
    into.put(mix(f.EXTENSIONS, 1, *(code + 1 for code in codes)))
    together = 0
    for code in codes:
        together ^= mix(f.EXTENSIONS, 2, code)
    into.put(together)


def shares(value: bytes) -> Iterator[int]:
    """Groups of key shares."""
    while len(value) >= 2:
        if not is_grease(number(value[:2])):
            yield number(value[:2])
        if len(value) < 4:
            return
        value = value[4 + number(value[2:4]) :]


def server_hello(into: Tokens, message: bytes) -> None:
    if len(message) < 39:
        return
    into.put(mix(f.SERVER_HELLO, 1, number(message[4:6])))
    into.put(mix(f.SERVER_HELLO, 2, step(len(message))))
    into.put(mix(f.SERVER_HELLO, 3, message[38]))
    rest = message[39 + message[38] :]
    if len(rest) < 3:
        return
    into.put(mix(f.SERVER_HELLO, 4, number(rest[:2])))
    parts = []
    for code, size, value in extensions_of(rest[5:]):
        if code == 16:
            into.put(mix_bytes(mix(f.ALPN, 1), value))
        parts += [code, size]
        into.put(mix(f.SERVER_EXTENSION, code, size))
    into.put(mix(f.SERVER_EXTENSIONS, 0, *parts))


def certificates(into: Tokens, message: bytes) -> None:
    if len(message) < 7:
        return
    sizes, rest = [], message[7:]
    while len(rest) >= 3:
        sizes.append(step(number(rest[:3])))
        rest = rest[3 + number(rest[:3]) :]
    into.put(mix(f.CERTIFICATE, 0, *sizes))
    words(into, message[7:])


def host_name(into: Tokens, name: bytes) -> None:
    if into.names == "masked" or not name:
        return
    mode = {"on": 0, "hashed": 2}[into.names]
    key = mix(f.NAME_PART, mode)
    labels = [
        bytes(byte | 32 if 65 <= byte <= 90 else byte for byte in x) for x in name.split(b".")
    ]
    for at, label in enumerate(reversed(labels)):
        key = mix(key, *label, ord("."))
        if at >= 1:
            into.put(key)
    if into.names == "on":
        letters(into, f.NAME_WORD, name)


def letters(into: Tokens, kind: int, data: bytes) -> None:
    for run in re.findall(rb"[A-Za-z]{3,}", data):
        into.put(mix(kind, 0, *run.lower()))


def words(into: Tokens, data: bytes) -> None:
    for run in re.findall(rb"[!-~]{4,}", data):
        host = host_in(run)
        if host is not None:
            host_name(into, host)
        elif len(run) <= 40:
            into.put(mix_bytes(f.WORD, run))
            letters(into, f.LETTERS, run)


def host_in(run: bytes) -> bytes | None:
    """The first run of labels and dots that ends in two letters or more."""
    for match in re.finditer(rb"[A-Za-z0-9_-][A-Za-z0-9._-]*", run):
        if re.fullmatch(rb".+\.[A-Za-z]{2,}", match[0], re.DOTALL):
            return match[0]
    return None


def plain(into: Tokens, side: int, data: list[int | None]) -> None:
    """A stream that is no TLS."""
    kept = known(data)
    for width in (1, 2, 3, 4, 6, 8):
        if len(kept) >= width:
            into.put(mix_bytes(mix(f.PREFIX, side), kept[:width]))
    if len(kept) >= 8:
        into.put(mix_bytes(mix(f.PREFIX, 2 + side), kept[4:8]))
    for width, skip, order in itertools.product((2, 3, 4), range(9), ORDERS):
        count = frames(kept, len(data), skip, width, order)
        if count and kept:
            place = 100 * width + 2 * skip + (order == "big")
            into.put(mix(f.FRAMES, side, place, min(count, 2)))
    words(into, kept[:600])


def frames(kept: bytes, total: int, skip: int, width: int, order: Order) -> int:
    """How many frames with a length before each fill the stream exactly, or the whole of it on the wire."""
    at, count = skip, 0
    while at + width <= len(kept):
        size = int.from_bytes(kept[at : at + width], order)
        if not 0 < size <= 65_536:
            return 0
        at, count = at + width + size, count + 1
    return count if at == len(kept) or (at == total and count > 1) else 0
