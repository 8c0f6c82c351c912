"""What the tokens of a flow mean: the fields that they were read from, in words and with their bytes.

``structure`` turns a flow into hashes, quickly. Here one flow is read again, slowly, into the same hashes, each
with its meaning. ``tests/encoding/test_token_meanings.py`` holds both readings against each other.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from apptell.encoding import tokens as t
from apptell.encoding.handshake_meanings import read_client_hello, read_messages, read_words
from apptell.encoding.stream_tokens import MAX_PLAIN, MAX_RECORDS, MAX_STREAM
from apptell.encoding.structure import find_flow_hellos
from apptell.encoding.token_sink import (
    SIDES,
    ByteSpan,
    Chunk,
    TokenSink,
    about,
    fold,
    fold_bytes,
    size_step,
)
from apptell.flows.schema import DECISION_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from apptell.flows.schema import FlowBatch

RECORD_KINDS: Final = {
    20: "change-cipher record",
    21: "alert record",
    22: "handshake record",
    23: "application data record",
    24: "heartbeat record",
}
"""TLS records by their content type (RFC 8446, Section 5.1)."""
_KINDS: Final = {
    0: "TCP without TLS",
    2: "TLS begun before the capture",
    3: "TLS from its hello on",
    4: "UDP",
}
_UDP: Final = 17
_N_TURNS: Final = 8


@dataclass(frozen=True, slots=True)
class _Piece:
    """A kept segment."""

    index: int
    side: int
    kept: bytes
    length: int
    place: int

    def span(self, start: int = 0, stop: int | None = None) -> ByteSpan:
        return ByteSpan(
            self.index, start, len(self.kept) if stop is None else min(stop, len(self.kept))
        )


class _TlsRecord(NamedTuple):
    kind: int
    minor: int
    size: int
    turn: int
    spans: tuple[ByteSpan, ...]


class _ByteStream:
    """One side's bytes: None where a byte was on the wire and was not kept."""

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        self.bytes: list[int | None] = []
        self._where: list[tuple[int, int] | None] = []
        for piece in pieces:
            at = piece.place - pieces[0].place
            grown = at + piece.length - len(self.bytes)
            if grown > 0:
                self.bytes += [None] * grown
                self._where += [None] * grown
            if at >= 0:
                stop = at + len(piece.kept)
                self.bytes[at:stop] = piece.kept
                self._where[at:stop] = [(piece.index, i) for i in range(len(piece.kept))]

    def __len__(self) -> int:
        return len(self.bytes)

    def chunk(self, start: int, stop: int) -> Chunk:
        """The bytes from ``start``, up to a gap or to ``stop``."""
        found = bytearray()
        places: list[tuple[int, ByteSpan]] = []
        for at in range(start, min(stop, len(self.bytes))):
            byte, where = self.bytes[at], self._where[at]
            if byte is None or where is None:
                break
            found.append(byte)
            segment, index = where
            last = places[-1][1] if places else None
            if last is not None and last.segment == segment and last.stop == index:
                places[-1] = (places[-1][0], last._replace(stop=index + 1))
            else:
                places.append((at - start, ByteSpan(segment, index, index + 1)))
        return Chunk(bytes(found), places)


def token_meanings(
    flows: FlowBatch,
    row: int = 0,
    *,
    packets: int = DECISION_SEGMENTS,
    skip: int = 0,
    names: str = "on",
) -> TokenSink:
    """What the tokens of one flow mean, and which protocol fields its bytes have.

    Args:
        flows: flows with the groups ``core`` and ``segments``.
        row: which of them.
        packets: as in ``structure``.
        skip: as in ``structure``.
        names: as in ``structure``.

    Raises:
        DatasetError: the flows were read without their segments.
    """
    one = flows.take([row])
    is_udp = one.column("protocol")[0].as_py() == _UDP
    sink = TokenSink(names)
    pieces = _pieces(one)[skip:][:packets]
    if not pieces or (skip and len(pieces) < 2):
        return sink
    if not is_udp:
        pieces = _ordered(pieces)
    turns = [list(run) for _, run in itertools.groupby(pieces, key=lambda piece: piece.side)]
    streams = [_ByteStream([piece for piece in pieces if piece.side == side]) for side in (0, 1)]
    records: list[list[_TlsRecord]] = [[], []]
    has_hello = False
    if is_udp:
        _read_datagrams(sink, one, pieces)
    else:
        for side in (0, 1):
            records[side], shake = _read_records(sink, turns, side, streams[side])
            has_hello |= side == 0 and shake.data[:1] == b"\1"
            read_messages(sink, side, shake)
            _put_records(sink, side, records[side])
        _put_order(sink, turns, records)
    is_tls = any(records)
    kind = 4 * is_udp + 2 * is_tls + has_hello
    sink.put(fold(t.KIND, kind), "kind of flow", _KINDS.get(kind, "kind of flow"))
    _put_turns(sink, turns, records, is_tls=is_tls)
    if not is_tls:
        for side in (0, 1):
            _put_plain(sink, side, streams[side])
    return sink


def _pieces(one: FlowBatch) -> list[_Piece]:
    columns = one.segments()
    found = []
    for row in range(int(columns.first[0]), int(columns.first[1])):
        kept = columns.data[columns.start[row] : columns.start[row + 1]].tobytes()
        side = 0 if columns.to_server[row] else 1
        index = row - int(columns.first[0])
        found.append(_Piece(index, side, kept, int(columns.length[row]), int(columns.offset[row])))
    return found


def _ordered(pieces: list[_Piece]) -> list[_Piece]:
    """Each side's segments in the order of the stream; who speaks when stays as it was captured."""
    sides = {
        side: iter(sorted((p for p in pieces if p.side == side), key=lambda piece: piece.place))
        for side in (0, 1)
    }
    return [next(sides[piece.side]) for piece in pieces]


def _read_datagrams(sink: TokenSink, one: FlowBatch, pieces: list[_Piece]) -> None:
    for at, piece in enumerate(pieces):
        words = f"datagram {at + 1}, {SIDES[piece.side]}, {about(piece.length)}"
        step = size_step(piece.length)
        sink.put(fold(fold(t.DATAGRAM, piece.side), at, step), "datagram", words, [piece.span()])
        words = f"a datagram of exactly {piece.length:,} bytes {SIDES[piece.side]}"
        key = fold(t.DATAGRAM_EXACT, piece.side, piece.length)
        sink.put(key, "datagram", words, [piece.span()])
    for hello, is_dtls in find_flow_hellos(one):
        read_client_hello(sink, Chunk(hello, []), is_datagram=is_dtls)


def _read_records(
    sink: TokenSink, turns: list[list[_Piece]], side: int, stream: _ByteStream
) -> tuple[list[_TlsRecord], Chunk]:
    """TLS records of one side, and its handshake messages in plain text."""
    starts, first = [], None
    for turn, run in enumerate(turns):
        for piece in run:
            if piece.side == side:
                first = piece.place if first is None else first
                starts.append((piece.place - first, turn))
    known = len(stream.chunk(0, len(stream)))
    records: list[_TlsRecord] = []
    shake: list[Chunk] = []
    at, is_open, is_joined = 0, True, True
    while at < len(stream) and len(records) < MAX_RECORDS:
        head = stream.chunk(at, at + 5)
        size = head.number(3)
        is_record = (
            len(head) == 5
            and head.data[0] in RECORD_KINDS
            and head.data[1] == 3
            and head.data[2] <= 4
            and size <= 2**14 + 2048
        )
        if not is_record:
            is_joined = False
            at = min((start for start, _ in starts if start > at), default=len(stream))
            continue
        kind = head.data[0]
        turn = max(turn for start, turn in starts if start <= at)
        whole = stream.chunk(at, at + 5 + size)
        records.append(_TlsRecord(kind, head.data[2], size, turn, whole.spans))
        sink.mark(RECORD_KINDS[kind], whole.spans)
        sink.mark("record header", head.spans)
        if kind not in (21, 22):
            is_open = False
        elif kind == 22 and is_open and is_joined and at + 5 <= min(known, MAX_STREAM):
            shake.append(whole.part(5))
        at += 5 + size
    return records, Chunk.join(shake).part(0, MAX_STREAM)


def _put_order(sink: TokenSink, turns: list[list[_Piece]], records: list[list[_TlsRecord]]) -> None:
    order = [
        2 * each.kind + run[0].side
        for turn, run in enumerate(turns)
        for each in records[run[0].side]
        if each.turn == turn
    ]
    if order:
        words = f"order of the first {len(order[:6])} records by type and direction"
        sink.put(fold(t.RECORD_ORDER, 0, *order[:6]), "records", words)


def _put_records(sink: TokenSink, side: int, records: list[_TlsRecord]) -> None:
    where = SIDES[side]
    for at, each in enumerate(records):
        name = RECORD_KINDS[each.kind]
        words = f"{name} with version 3.{each.minor}"
        sink.put(fold(t.RECORD_VERSION, each.kind, each.minor), "record", words, each.spans[:1])
        if at < 8:
            key = fold(fold(t.RECORD, side), 8 * each.kind + at, size_step(each.size))
            words = f"{name} {at + 1} {where}, {about(each.size)}"
            sink.put(key, "record", words, each.spans)
    data = [each for each in records if each.kind == 23]
    for at, each in enumerate(data):
        words = f"record of {each.size:,} bytes {where}"
        sink.put(fold(t.DATA_EXACT, side, each.size), "application data", words, each.spans)
        if at < 6:
            words = f"application data {at + 1} {where}, {about(each.size)}"
            key = fold(t.DATA, 2 * at + side, size_step(each.size))
            sink.put(key, "application data", words, each.spans)
    for before, after in itertools.pairwise(data):
        key = fold(t.DATA_PAIR, side, size_step(before.size), size_step(after.size))
        words = f"records {where} of {about(before.size)}, then {about(after.size)}"
        sink.put(key, "application data", words, (*before.spans, *after.spans))


def _put_turns(
    sink: TokenSink, turns: list[list[_Piece]], records: list[list[_TlsRecord]], *, is_tls: bool
) -> None:
    for at, run in enumerate(turns[:6]):
        side, size = run[0].side, sum(piece.length for piece in run)
        spans = [piece.span() for piece in run]
        words = f"turn {at + 1}: {about(size)} {SIDES[side]}"
        sink.put(fold(t.TURN, side, at, size_step(size)), "turn", words, spans)
        words = f"a turn of exactly {size:,} bytes {SIDES[side]}"
        sink.put(fold(t.TURN_EXACT, side, size), "turn", words, spans)
        if is_tls:
            kinds = [each.kind for each in records[side] if each.turn == at]
            words = f"turn {at + 1}: records of types {', '.join(map(str, kinds)) or 'none'}"
            sink.put(fold(t.TURN_RECORDS, side, *kinds, at), "turn", words, spans)
        elif at < 4:
            for width in range(1, 5):
                if len(run[0].kept) >= width:
                    start = run[0].kept[:width]
                    sink.put(
                        fold_bytes(fold(t.TURN_PREFIX, side, at), start),
                        "first bytes",
                        f"turn {at + 1} begins with {start.hex(' ')}",
                        [run[0].span(0, width)],
                    )
    order = [run[0].side for run in turns[:_N_TURNS]]
    words = f"who speaks when: {''.join('cs'[side] for side in order)}"
    sink.put(fold(t.TURN_ORDER, 0, *order), "turn", words)


def _put_plain(sink: TokenSink, side: int, stream: _ByteStream) -> None:
    """A stream that is no TLS."""
    kept = stream.chunk(0, MAX_STREAM)
    for width in (1, 2, 3, 4, 6, 8):
        if len(kept) >= width:
            start = kept.part(0, width)
            words = f"stream {SIDES[side]} begins with {start.data.hex(' ')}"
            sink.put(
                fold_bytes(fold(t.PREFIX, side), start.data), "first bytes", words, start.spans
            )
    if len(kept) >= 8:
        word = kept.part(4, 8)
        words = f"bytes 4 to 7 {SIDES[side]} are {word.data.hex(' ')}"
        sink.put(fold_bytes(fold(t.PREFIX, 2 + side), word.data), "first bytes", words, word.spans)
    orders: tuple[Literal["big", "little"], ...] = ("big", "little")
    for width, skip, order in itertools.product((2, 3, 4), range(9), orders):
        count = _frames(kept.data, len(stream), skip, width, order)
        if count and len(kept):
            key = fold(t.FRAMES, side, 100 * width + 2 * skip + (order == "big"), min(count, 2))
            words = (
                f"frames {SIDES[side]} with a {width}-byte {order}-endian length after {skip} bytes"
            )
            sink.put(key, "framing", words, kept.part(skip, skip + width).spans)
    read_words(sink, kept.part(0, MAX_PLAIN))


def _frames(data: bytes, total: int, skip: int, width: int, order: Literal["big", "little"]) -> int:
    """How many frames with a length before each fill the stream exactly, else 0."""
    at, count = skip, 0
    while at + width <= len(data):
        size = int.from_bytes(data[at : at + width], order)
        if not 0 < size <= 65_536:
            return 0
        at, count = at + width + size, count + 1
    return count if at == len(data) or (at == total and count > 1) else 0
