"""Kept segments in, ClientHello messages out; messages in, server names, ALPN lists, JA4 parts out.

Sources: RFC 8446 (records 5.1, ClientHello 4.1.2), RFC 6066 section 3 (server_name), RFC 7301 (ALPN),
RFC 6347 (DTLS), the PROXY protocol's specification (HAProxy) for the prefix that may precede a hello.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import SegmentColumns

MAX_HELLO: Final = 12 * 1500 + 8
"""Bytes of a hello that the kept segments of a flow can hold."""
MAX_CODES: Final = 512
"""Ciphers, extensions or signature algorithms that are looked at in one hello."""
_kernel = njit(cache=True, nogil=True)


@dataclass(frozen=True, slots=True)
class Messages:
    """Handshake messages of some flows: message i is ``data[start[i] : start[i + 1]]``."""

    rows: NDArray[np.int64]
    """Flow of each message, ascending, shape (m,)."""
    start: NDArray[np.int64]
    """Shape (m + 1,)."""
    data: NDArray[np.uint8]
    """Each message from its type and 24-bit length on, perhaps cut at its end."""


@dataclass(frozen=True, slots=True)
class Hellos:
    """What m ClientHello messages say, each an Arrow array of length m."""

    server_name: pa.Array
    """string; null where none was offered or the name was cut."""
    alpn: pa.Array
    """string: protocols joined by commas; null where none was offered."""
    parts: pa.Array
    """binary: what JA4 is made of (``ja4.fingerprint``); null where the hello was cut."""


@_kernel
def _begins_hello(data: NDArray[np.uint8], at: int, end: int) -> bool:
    """Whether data[at:end] may be the start of a TLS record that holds a ClientHello."""
    n = end - at
    if n < 1 or data[at] != 22:
        return False
    if n > 1 and data[at + 1] != 3:
        return False
    if n > 2 and data[at + 2] > 4:
        return False
    if n > 5 and data[at + 5] != 1:
        return False
    if n > 6 and data[at + 6] != 0:  # no hello is longer than 65,535 bytes in practice
        return False
    return not (n > 9 and data[at + 9] != 3)


@_kernel
def _hello_offset(data: NDArray[np.uint8], at: Any, end: int) -> Any:
    """Where in data[at:end] a hello's record begins, or -1; looks behind a prefix or other records."""
    if end - at < 1:
        return -1
    if end - at >= 16 and data[at] == 80 and data[at + 1] == 82 and data[at + 2] == 79:
        # "PROXY TCP4 ...\r\n", 107 bytes at most
        for index in range(at, min(end - 1, at + 107)):
            if data[index] == 13 and data[index + 1] == 10:
                at = index + 2
                break
    elif end - at >= 16 and data[at] == 13 and data[at + 1] == 10 and data[at + 4] == 0:
        if data[at + 5] == 13 and data[at + 7] == 81 and data[at + 8] == 85 and data[at + 9] == 73:
            at += 16 + ((np.int64(data[at + 14]) << 8) | np.int64(data[at + 15]))
    while at < end:
        if _begins_hello(data, at, end):
            return at
        if end - at < 5 or data[at] < 20 or data[at] > 23 or data[at + 1] != 3:
            return -1
        at += 5 + ((np.int64(data[at + 3]) << 8) | np.int64(data[at + 4]))
    return -1


@_kernel
def _unwrap(
    stream: NDArray[np.uint8], n: int, out: NDArray[np.uint8], at: int, room: int
) -> tuple[int, int]:
    """Joins the handshake bytes of the records in stream[:n] into out[at:]: (bytes, bytes wanted).

    Wanted is -1 when what follows is no handshake record.
    """
    have: Any = 0
    place: Any = 0
    while True:
        wanted: Any = MAX_HELLO
        if have >= 4:
            wanted = 4 + (
                (np.int64(out[at + 1]) << 16) | (np.int64(out[at + 2]) << 8) | np.int64(out[at + 3])
            )
            if have >= wanted:
                return wanted, wanted
        if n - place < 5:
            return have, wanted
        if stream[place] != 22 or stream[place + 1] != 3:
            return have, -1
        length = (np.int64(stream[place + 3]) << 8) | np.int64(stream[place + 4])
        place += 5
        for index in range(place, min(n, place + length)):
            if have >= room:
                return have, -1
            out[at + have] = stream[index]
            have += 1
        place += length
        if place > n:
            if have >= 4:
                wanted = 4 + (
                    (np.int64(out[at + 1]) << 16)
                    | (np.int64(out[at + 2]) << 8)
                    | np.int64(out[at + 3])
                )
                if have >= wanted:
                    return wanted, wanted
            return have, wanted


@_kernel
def _same(data: NDArray[np.uint8], a: int, b: int, n: int) -> bool:
    for index in range(n):  # noqa: SIM110 (compiled code has no generators)
        if data[a + index] != data[b + index]:
            return False
    return True


@_kernel
def collect_hellos(
    wanted: NDArray[np.bool_],
    first: NDArray[np.int64],
    length: NDArray[np.int32],
    to_server: NDArray[np.bool_],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    rows: NDArray[np.int64],
    ends: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    """Writes the ClientHello of each wanted flow into ``out``; returns how many there are.

    The client's segments are searched first, then the other side's (a client told wrongly). Message m
    belongs to flow ``rows[m]`` and lies in ``out[ends[m] : ends[m + 1]]``. ``out`` has the size of
    ``data``: no message is longer than its flow's kept bytes.
    """
    stream = np.empty(MAX_HELLO, dtype=np.uint8)
    count = 0
    at = 0
    ends[0] = 0
    for flow in range(len(wanted)):
        if not wanted[flow]:
            continue
        found = False
        for side in range(2):
            direction = side == 0
            for segment in range(first[flow], first[flow + 1]):
                if to_server[segment] != direction:
                    continue
                place = _hello_offset(data, start[segment], start[segment + 1])
                if place < 0:
                    continue
                n = 0
                have = 0
                need = 0
                for part in range(segment, first[flow + 1]):
                    if to_server[part] != direction:
                        continue
                    begin = place if part == segment else start[part]
                    kept = start[part + 1] - start[part]
                    if (
                        part > segment
                        and length[part] == length[segment]
                        and kept == start[segment + 1] - start[segment]
                        and _same(data, start[part], start[segment], kept)
                    ):
                        continue  # the hello sent again, where retransmissions are kept
                    for index in range(begin, start[part + 1]):
                        if n >= MAX_HELLO:
                            break
                        stream[n] = data[index]
                        n += 1
                    have, need = _unwrap(stream, n, out, at, len(out) - at)
                    if need < 0 or have == need or kept < length[part]:
                        break
                if have >= 44 and out[at] == 1 and out[at + 1] == 0 and out[at + 4] == 3:
                    rows[count] = flow
                    count += 1
                    at += have
                    ends[count] = at
                    found = True
                    break
            if found:
                break
    return count


@_kernel
def _u16(data: NDArray[np.uint8], at: Any, end: Any) -> Any:
    """Two bytes of data[:end] as a number, or -1 where they are not there."""
    if at < 0 or at + 2 > end:
        return -1
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@_kernel
def _is_grease(code: int) -> bool:
    """RFC 8701: 0x0a0a, 0x1a1a, ... 0xfafa."""
    return (code & 0x0F0F) == 0x0A0A and (code >> 8) == (code & 0xFF)


@_kernel
def _put_codes(codes: NDArray[np.int64], n: int, out: NDArray[np.uint8], at: int) -> int:
    for index in range(n):
        if at + 2 > len(out):
            return at
        out[at] = codes[index] >> 8
        out[at + 1] = codes[index] & 255
        at += 2
    return at


@_kernel
def _digit_pair(n: int, out: NDArray[np.uint8], at: int) -> None:
    n = min(n, 99)
    if at + 2 <= len(out):
        out[at] = 48 + n // 10
        out[at + 1] = 48 + n % 10


@_kernel
def _is_alphanumeric(byte: int) -> bool:
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122


@_kernel
def _hex_digit(value: int) -> int:
    return 48 + value if value < 10 else 87 + value


@_kernel
def parse_hellos(
    kind: int,
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    name_ends: NDArray[np.int32],
    names: NDArray[np.uint8],
    alpn_ends: NDArray[np.int32],
    alpns: NDArray[np.uint8],
    part_ends: NDArray[np.int32],
    parts: NDArray[np.uint8],
) -> None:
    """Parses m ClientHello messages; writes names, ALPN lists and JA4 parts with their ends.

    ``kind`` is the first letter of JA4: ``t`` TLS, ``q`` QUIC, ``d`` DTLS. A part is ten characters
    (JA4_a), the numbers of ciphers and extensions as u16, the sorted ciphers, the sorted extensions but
    server_name and ALPN, and the signature algorithms in order; it is empty where the hello was cut.
    ``names`` and ``alpns`` have the size of ``data``, ``parts`` 16 bytes a message more.
    """
    ciphers = np.empty(MAX_CODES, dtype=np.int64)
    extensions = np.empty(MAX_CODES, dtype=np.int64)
    algorithms = np.empty(MAX_CODES, dtype=np.int64)
    name_at = 0
    alpn_at = 0
    part_at = 0
    for message in range(len(start) - 1):
        at = start[message]
        end = start[message + 1]
        n_ciphers = 0
        n_extensions = 0
        n_algorithms = 0
        n_seen_ciphers = 0
        n_seen = 0
        has_name = False
        alpn_first: Any = 48
        alpn_last: Any = 48
        version = _u16(data, at + 4, end)
        whole = end - at >= 42
        if whole:
            body = 4 + (
                (np.int64(data[at + 1]) << 16)
                | (np.int64(data[at + 2]) << 8)
                | np.int64(data[at + 3])
            )
            whole = end - at >= body
            end = min(end, at + body)
        at += 38
        n_ids = 2 if kind == 100 else 1  # DTLS: a cookie follows the session id
        for _ in range(n_ids):
            if at < end:
                at += 1 + np.int64(data[at])
        size = _u16(data, at, end)
        at += 2
        if size < 0 or at + size > end:
            whole = False
            size = 0
            at = end
        for index in range(size // 2):
            code = _u16(data, at + 2 * index, end)
            if _is_grease(code):
                continue
            n_seen_ciphers += 1
            if n_ciphers < MAX_CODES:
                spot = n_ciphers
                while spot > 0 and ciphers[spot - 1] > code:
                    ciphers[spot] = ciphers[spot - 1]
                    spot -= 1
                ciphers[spot] = code
                n_ciphers += 1
        at += size
        if at < end:
            at += 1 + np.int64(data[at])
        else:
            whole = False
        size = _u16(data, at, end)
        at += 2
        if size > 0:
            if at + size > end:
                whole = False
            else:
                end = at + size
        else:
            at = end  # a hello without extensions
        highest = -1
        while at + 4 <= end:
            code = _u16(data, at, end)
            size = _u16(data, at + 2, end)
            at += 4
            stop = at + size
            complete = stop <= end
            if not complete:
                whole = False
                stop = end
            if not _is_grease(code):
                n_seen += 1
                if code == 0:
                    has_name = True
                if code != 0 and code != 16 and n_extensions < MAX_CODES:
                    spot = n_extensions
                    while spot > 0 and extensions[spot - 1] > code:
                        extensions[spot] = extensions[spot - 1]
                        spot -= 1
                    extensions[spot] = code
                    n_extensions += 1
            first_name = name_at == (name_ends[message - 1] if message > 0 else 0)
            if code == 0 and first_name:
                size = _u16(data, at + 3, stop)
                if size > 0 and at + 5 + size <= stop and data[at + 2] == 0:
                    for index in range(at + 5, at + 5 + size):
                        if 32 < data[index] < 127 and name_at < len(names):
                            names[name_at] = data[index]
                            name_at += 1
            elif code == 16:
                place = at + 2
                begin = alpn_ends[message - 1] if message > 0 else 0
                is_first = True
                while place < stop and complete:
                    size = np.int64(data[place])
                    place += 1
                    if place + size > stop:
                        break
                    if is_first and size > 0:
                        alpn_first = np.int64(data[place])
                        alpn_last = np.int64(data[place + size - 1])
                        if not (_is_alphanumeric(alpn_first) and _is_alphanumeric(alpn_last)):
                            alpn_first = _hex_digit(alpn_first >> 4)
                            alpn_last = _hex_digit(alpn_last & 15)
                    is_first = False
                    printable = 0
                    for index in range(place, place + size):
                        if 32 < data[index] < 127:
                            printable += 1
                    if printable > 0 and alpn_at + printable < len(alpns):
                        if alpn_at > begin:
                            alpns[alpn_at] = 44
                            alpn_at += 1
                        for index in range(place, place + size):
                            if 32 < data[index] < 127:
                                alpns[alpn_at] = data[index]
                                alpn_at += 1
                    place += size
            elif code == 13:
                size = min(_u16(data, at, stop), stop - at - 2)
                for index in range(size // 2):
                    value = _u16(data, at + 2 + 2 * index, stop)
                    if not _is_grease(value) and n_algorithms < MAX_CODES:
                        algorithms[n_algorithms] = value
                        n_algorithms += 1
            elif code == 43 and at < stop:
                size = min(np.int64(data[at]), stop - at - 1)
                for index in range(size // 2):
                    value = _u16(data, at + 1 + 2 * index, stop)
                    if _is_grease(value):
                        continue
                    if kind == 100:  # DTLS counts down: 0xfefd is newer than 0xfeff
                        if highest < 0 or value < highest:
                            highest = value
                    elif value > highest:
                        highest = value
            at = stop
        name_ends[message] = name_at
        alpn_ends[message] = alpn_at
        needed = 14 + 2 * (n_ciphers + n_extensions + n_algorithms)
        if whole and part_at + needed <= len(parts):
            if highest >= 0:
                version = highest
            tag = 0x3030
            if 0x0301 <= version <= 0x0304:
                tag = 0x3100 | (48 + version - 0x0301)
            elif version == 0x0300:
                tag = 0x7333  # s3
            elif version == 0x0002:
                tag = 0x7332  # s2
            elif version == 0xFEFF:
                tag = 0x6431  # d1
            elif version == 0xFEFD:
                tag = 0x6432  # d2
            elif version == 0xFEFC:
                tag = 0x6433  # d3
            parts[part_at] = kind
            parts[part_at + 1] = tag >> 8
            parts[part_at + 2] = tag & 255
            parts[part_at + 3] = 100 if has_name else 105
            _digit_pair(n_seen_ciphers, parts, part_at + 4)
            _digit_pair(n_seen, parts, part_at + 6)
            parts[part_at + 8] = alpn_first
            parts[part_at + 9] = alpn_last
            parts[part_at + 10] = n_ciphers >> 8
            parts[part_at + 11] = n_ciphers & 255
            parts[part_at + 12] = n_extensions >> 8
            parts[part_at + 13] = n_extensions & 255
            part_at = _put_codes(ciphers, n_ciphers, parts, part_at + 14)
            part_at = _put_codes(extensions, n_extensions, parts, part_at)
            part_at = _put_codes(algorithms, n_algorithms, parts, part_at)
        part_ends[message] = part_at


def find_hellos(segments: SegmentColumns, wanted: NDArray[np.bool_]) -> Messages:
    """The ClientHello messages of TCP flows.

    Args:
        segments: the kept segments of n flows.
        wanted: flows to look at, shape (n,).
    """
    n = len(wanted)
    rows = np.empty(n, dtype=np.int64)
    ends = np.empty(n + 1, dtype=np.int64)
    out = np.empty(len(segments.data), dtype=np.uint8)
    count = collect_hellos(
        wanted,
        segments.first,
        segments.length,
        segments.to_server,
        segments.start,
        segments.data,
        rows,
        ends,
        out,
    )
    return Messages(rows[:count], ends[: count + 1], out[: ends[count]])


def read_hellos(messages: Messages, kind: str) -> Hellos:
    """Names, ALPN and JA4 parts of ClientHello messages.

    Args:
        messages: what ``find_hellos`` or the QUIC reader gave.
        kind: ``t`` TLS, ``q`` QUIC, ``d`` DTLS (whose hellos carry a cookie).
    """
    n = len(messages.rows)
    ends = np.zeros((3, n + 1), dtype=np.int32)
    size = len(messages.data)
    names, alpns = np.empty(size, dtype=np.uint8), np.empty(size, dtype=np.uint8)
    parts = np.empty(size + 16 * n, dtype=np.uint8)
    parse_hellos(
        ord(kind),
        messages.start,
        messages.data,
        ends[0, 1:],
        names,
        ends[1, 1:],
        alpns,
        ends[2, 1:],
        parts,
    )
    return Hellos(
        arrow_text(ends[0], names, pa.string()),
        arrow_text(ends[1], alpns, pa.string()),
        arrow_text(ends[2], parts, pa.binary()),
    )


def arrow_text(ends: NDArray[np.int32], data: NDArray[np.uint8], kind: pa.DataType) -> pa.Array:
    """An Arrow array of ``data[ends[i] : ends[i + 1]]``, null where that is empty."""
    n = len(ends) - 1
    there = np.packbits(ends[1:] > ends[:-1], bitorder="little")
    return pa.Array.from_buffers(
        kind,
        n,
        [
            pa.py_buffer(there),
            pa.py_buffer(np.ascontiguousarray(ends)),
            pa.py_buffer(data[: ends[-1]].copy()),
        ],
    )
