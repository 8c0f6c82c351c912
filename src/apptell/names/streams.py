"""Joins the kept segments of one side of a flow into a byte stream; compiled code.

Segments are joined by their places in the stream (``SegmentColumns.offset``), however they were cut, reordered
or sent again (RFC 9293, section 3.4). A stream ends before the first byte that was not kept. It also ends
before the first byte of which two versions were sent: receivers differ in which of them they take, so nothing
that is read from there on is certain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.kernels.compiled import inlined, subroutine

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_STREAM: Final = 18 << 10
"""Bytes of a stream that are joined: more than a TLS record holds (RFC 8446, section 5.1)."""


@inlined
def begins_with(
    first: int,
    stop: int,
    direction: bool,
    to_server: NDArray[np.bool_],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
) -> bool:
    """Whether any of one side's segments begins with a byte of ``wanted``, shape (256,)."""
    for segment in range(first, stop):
        if to_server[segment] == direction and start[segment] < start[segment + 1]:
            if wanted[data[start[segment]]]:
                return True
    return False


@inlined
def longest(first: NDArray[np.int64]) -> int:
    """Rows of the flow that has most, of flows with the rows ``first[i]`` to ``first[i + 1]``."""
    most = 0
    for flow in range(len(first) - 1):
        most = max(most, first[flow + 1] - first[flow])
    return most


@inlined
def list_side(
    first: int,
    stop: int,
    direction: bool,
    to_server: NDArray[np.bool_],
    offset: NDArray[np.int32],
    length: NDArray[np.int32],
    rows: NDArray[np.int64],
) -> tuple[int, bool]:
    """Lists one side's segments of the rows ``first`` to ``stop`` in the order of their places.

    Args:
        first: the flow's first row.
        stop: what follows its last row.
        direction: the side: whether it sends to the server.
        to_server: as in ``SegmentColumns``, and so the next two.
        offset: places in the stream.
        length: bytes on the wire.
        rows: the rows, out.

    Returns:
        How many there are, and whether they came in this order without overlap.
    """
    n = 0
    is_ordered = True
    reach: Any = 0
    for segment in range(first, stop):
        if to_server[segment] != direction:
            continue
        if n > 0 and offset[segment] < reach:
            is_ordered = False
        reach = np.int64(offset[segment]) + length[segment]
        rows[n] = segment
        n += 1
    if not is_ordered:
        for index in range(1, n):  # insertion sort: nearly ordered, as packets come
            row = rows[index]
            spot = index
            while spot > 0 and offset[rows[spot - 1]] > offset[row]:
                rows[spot] = rows[spot - 1]
                spot -= 1
            rows[spot] = row
    return n, is_ordered


@inlined
def extend_stream(
    rows: NDArray[np.int64],
    n: int,
    place: int,
    have: int,
    wanted: int,
    offset: NDArray[np.int32],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    stream: NDArray[np.uint8],
) -> tuple[int, int]:
    """Joins segments that came in order: appends ``rows[place:n]`` until ``wanted`` bytes are joined.

    Args:
        rows: one side's segments in order, without overlap.
        n: how many there are.
        place: the next one; 0 is the one with which the stream begins.
        have: bytes joined so far.
        wanted: bytes that are enough.
        offset: as in ``SegmentColumns``, and so the next two.
        start: first bytes.
        data: kept bytes.
        stream: the bytes, out.

    Returns:
        The next segment (n where nothing follows without a gap) and the bytes joined.
    """
    while have < wanted and place < n:
        row = rows[place]
        if np.int64(offset[row]) - offset[rows[0]] != have:
            return n, have
        size = min(start[row + 1] - start[row], len(stream) - have)
        begin = start[row]
        for index in range(size):
            stream[have + index] = data[begin + index]
        have += size
        place += 1
    return place, have


@subroutine
def paint_stream(
    first: int,
    stop: int,
    direction: bool,
    begin: int,
    to_server: NDArray[np.bool_],
    offset: NDArray[np.int32],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    stream: NDArray[np.uint8],
    filled: NDArray[np.bool_],
) -> int:
    """Joins segments that came in any order: the bytes from the place ``begin`` on; how many there are.

    Args:
        first: the flow's first row.
        stop: what follows its last row.
        direction: the side.
        begin: place in the stream of the first byte.
        to_server: as in ``SegmentColumns``, and so the next three.
        offset: places in the stream.
        start: first bytes.
        data: kept bytes.
        stream: the bytes, out.
        filled: room of the size of ``stream``.
    """
    end = len(stream)
    filled[:] = False
    for segment in range(first, stop):
        if to_server[segment] != direction:
            continue
        place = np.int64(offset[segment]) - begin - start[segment]
        for index in range(max(start[segment], -place), min(start[segment + 1], end - place)):
            if not filled[place + index]:
                filled[place + index] = True
                stream[place + index] = data[index]
            elif stream[place + index] != data[index]:
                end = place + index  # contested: two versions were sent
                break
    n = 0
    while n < end and filled[n]:
        n += 1
    return n
