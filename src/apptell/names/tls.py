"""Joins the TLS ClientHello message of each flow over segments and records.

Sources: RFC 8446 sections 5.1 (records) and 4 (handshake messages); the PROXY protocol's specification
(HAProxy) for the prefix that may precede a hello.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.kernels.compiled import kernel, subroutine
from apptell.names.streams import (
    MAX_STREAM,
    begins_with,
    extend_stream,
    list_side,
    longest,
    paint_stream,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.list_columns import SegmentColumns

_BEGINNINGS: Final = np.zeros(256, dtype=np.bool_)
"""First bytes of segments with which a hello may begin: records (RFC 8446, section 5.1) and PROXY prefixes."""
_BEGINNINGS[[13, 20, 21, 22, 23, 80]] = True
_MAX_PREFIX: Final = 16 + 216
"""Bytes of a PROXY prefix of either version (its addresses at most those of Unix sockets)."""


@dataclass(frozen=True, slots=True)
class Messages:
    """Handshake messages of some flows: message i is ``data[start[i] : start[i + 1]]``."""

    rows: NDArray[np.int64]
    """Flow of each message, ascending, shape (m,)."""
    start: NDArray[np.int64]
    """Shape (m + 1,)."""
    data: NDArray[np.uint8]
    """Each message from its type and 24-bit length on, perhaps cut at its end."""


@subroutine
def _begins_hello(data: NDArray[np.uint8], at: int, end: int) -> bool:
    """Whether data[at:end] may be the start of a TLS record that holds the start of a ClientHello."""
    n = end - at
    if n < 1 or data[at] != 22:
        return False
    if n > 1 and data[at + 1] != 3:
        return False
    if n > 2 and data[at + 2] > 4:
        return False
    if n < 6:
        return True
    size = (np.int64(data[at + 3]) << 8) | np.int64(
        data[at + 4]
    )  # of the record: it may be one byte
    if size < 1 or data[at + 5] != 1:
        return False
    if size > 1 and n > 6 and data[at + 6] != 0:  # no hello is longer than 65,535 bytes in practice
        return False
    return not (size > 4 and n > 9 and data[at + 9] != 3)


@subroutine
def skip_prefix(data: NDArray[np.uint8], at: Any, end: int) -> Any:
    """What follows the PROXY prefix that data[at:end] begins with; ``at`` where it begins with none."""
    if end - at < 16:
        return at
    if data[at] == 80 and data[at + 1] == 82 and data[at + 2] == 79 and data[at + 3] == 88:
        # "PROXY TCP4 ...\r\n", 107 bytes at most
        for index in range(at, min(end - 1, at + 107)):
            if data[index] == 13 and data[index + 1] == 10:
                return index + 2
    elif data[at] == 13 and data[at + 1] == 10 and data[at + 4] == 0:
        if data[at + 5] == 13 and data[at + 7] == 81 and data[at + 8] == 85 and data[at + 9] == 73:
            return at + 16 + ((np.int64(data[at + 14]) << 8) | np.int64(data[at + 15]))
    return at


@subroutine
def _hello_offset(data: NDArray[np.uint8], at: Any, end: int) -> Any:
    """Where in data[at:end] a hello's record begins, or -1; looks behind a prefix or other records."""
    at = skip_prefix(data, at, end)
    while at < end:
        if _begins_hello(data, at, end):
            return at
        if end - at < 5 or data[at] < 20 or data[at] > 23 or data[at + 1] != 3:
            return -1
        at += 5 + ((np.int64(data[at + 3]) << 8) | np.int64(data[at + 4]))
    return -1


@subroutine
def _is_http(data: NDArray[np.uint8], at: Any, end: Any) -> bool:
    """Whether a stream begins with an HTTP response, or a request that cannot become a tunnel.

    What looks like a hello later in such a stream is content, such as a capture that is sent to a server.
    A stream can become TLS after ``CONNECT`` and ``OPTIONS`` (RFC 9110, section 9.3.6; RFC 2817, section 3).
    """
    if end - at < 5:
        return False
    word = 0
    for index in range(at, at + 4):
        word = (word << 8) | int(data[index])
    # "GET ", "POST", "PUT ", "PATC", "HEAD", "HTTP"
    return word in (0x47455420, 0x504F5354, 0x50555420, 0x50415443, 0x48454144, 0x48545450)


@subroutine
def _unwrap(
    stream: NDArray[np.uint8], place: Any, n: int, out: NDArray[np.uint8], at: int, room: int
) -> tuple[int, int]:
    """Joins the handshake bytes of the records in stream[place:n] into out[at:]: (bytes, bytes wanted).

    Wanted is -1 when what follows is no handshake record.
    """
    have: Any = 0
    while True:
        wanted: Any = MAX_STREAM
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


@kernel
def collect_hellos(
    wanted: NDArray[np.bool_],
    beginnings: NDArray[np.bool_],
    first: NDArray[np.int64],
    length: NDArray[np.int32],
    to_server: NDArray[np.bool_],
    offset: NDArray[np.int32],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    rows: NDArray[np.int64],
    ends: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    """Writes the ClientHello of each wanted flow into ``out``; returns how many there are.

    The client's stream is searched first, and then the server's (if the client was determined wrongly). A
    hello begins where a segment does. Message m belongs to flow ``rows[m]`` and lies in ``out[ends[m] :
    ends[m + 1]]``. ``out``
    has the size of ``data``: no message is longer than its flow's kept bytes.
    """
    stream = np.empty(MAX_STREAM, dtype=np.uint8)
    filled = np.empty(MAX_STREAM, dtype=np.bool_)
    listed = np.empty(longest(first), dtype=np.int64)
    count = 0
    at = 0
    ends[0] = 0
    for flow in range(len(wanted)):
        if not wanted[flow]:
            continue
        found = False
        for side in range(2):
            if not begins_with(
                first[flow], first[flow + 1], side == 0, to_server, start, data, beginnings
            ):
                continue
            n_rows, is_ordered = list_side(
                first[flow], first[flow + 1], side == 0, to_server, offset, length, listed
            )
            earliest = listed[0]
            for index in range(1, n_rows):
                if offset[listed[index]] < offset[earliest]:
                    earliest = listed[index]
            if _is_http(data, start[earliest], start[earliest + 1]):
                continue
            for index in range(n_rows):
                row = listed[index]
                begin = start[row]
                if start[row + 1] == begin:
                    continue
                may_have_prefix = data[begin] == 80 or data[begin] == 13
                if not may_have_prefix and _hello_offset(data, begin, start[row + 1]) < 0:
                    continue
                have = 0
                need = 0
                n = 0
                follows = 0
                enough = _MAX_PREFIX + 1 if may_have_prefix else 1
                while True:
                    before = n
                    if is_ordered:
                        follows, n = extend_stream(
                            listed[index:],
                            n_rows - index,
                            follows,
                            n,
                            enough,
                            offset,
                            start,
                            data,
                            stream,
                        )
                    elif n == 0:
                        n = paint_stream(
                            first[flow],
                            first[flow + 1],
                            side == 0,
                            offset[row],
                            to_server,
                            offset,
                            start,
                            data,
                            stream,
                            filled,
                        )
                    place = _hello_offset(stream, 0, n)
                    if place < 0:
                        break
                    have, need = _unwrap(stream, place, n, out, at, len(out) - at)
                    if need < 0 or have == need or n == before:
                        break
                    enough = n + need - have
                if place < 0:
                    continue
                if have >= 44 and out[at] == 1 and out[at + 1] == 0 and out[at + 4] == 3:
                    rows[count] = flow
                    count += 1
                    at += have
                    ends[count] = at
                    found = True
                # what follows the beginning of a hello belongs to it, also where some of it is missing
                if found or (have > 0 and out[at] == 1):
                    break
            if found:
                break
    return count


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
        _BEGINNINGS,
        segments.first,
        segments.length,
        segments.to_server,
        segments.offset,
        segments.start,
        segments.data,
        rows,
        ends,
        out,
    )
    return Messages(rows[:count], ends[: count + 1], out[: ends[count]])
