"""Reads the host of the HTTP/1.x request that a flow begins with.

Source: RFC 9112: the request line (section 3), its absolute form (3.2.2), the Host field (3.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.flows.plain_columns import Text
from apptell.kernels.compiled import kernel, subroutine
from apptell.names.streams import (
    MAX_STREAM,
    begins_with,
    extend_stream,
    list_side,
    longest,
    paint_stream,
)
from apptell.names.text import NO_SEPARATOR, escape_into, escaped_room
from apptell.names.tls import skip_prefix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.list_columns import SegmentColumns

_METHODS: Final = np.array(
    [
        int.from_bytes(method, "big")
        for method in (
            b"GET ",
            b"POST",
            b"HEAD",
            b"PUT ",
            b"DELE",
            b"OPTI",
            b"PATC",
            b"CONN",
            b"TRAC",
        )
        + (b"PROP", b"REPO", b"MKCO", b"NOTI", b"SUBS", b"UNSU", b"M-SE", b"RPC_", b"SEAR", b"MOVE")
        + (b"COPY", b"LOCK", b"UNLO", b"MKAC", b"REGI")
    ],
    dtype=np.int64,
)
_BEGINNINGS: Final = np.zeros(256, dtype=np.bool_)
"""First bytes of requests: letters of methods, and those of PROXY prefixes."""
_BEGINNINGS[13] = _BEGINNINGS[65:91] = True
_MAX_BEGINNING: Final = 256
"""Bytes that are joined before they are looked at: a PROXY prefix and a method."""


@subroutine
def _begins_request(data: NDArray[np.uint8], at: int, end: int, methods: NDArray[np.int64]) -> bool:
    if end - at < 8:
        return False
    word = (
        (np.int64(data[at]) << 24)
        | (np.int64(data[at + 1]) << 16)
        | (np.int64(data[at + 2]) << 8)
        | np.int64(data[at + 3])
    )
    known = False
    for method in methods:
        if word == method:
            known = True
    if not known:
        return False
    for index in range(at + 3, min(end, at + 16)):  # noqa: SIM110 (compiled code has no generators)
        if data[index] == 32:
            return True
    return False


@subroutine
def _target_host(head: NDArray[np.uint8], begin: int, end: int) -> tuple[int, int]:
    """Begin and end of the host that the target head[begin:end] of a request names; (0, 0) where it names none.

    A target of the absolute form begins with a scheme; ``://`` within a path is no authority.
    """
    if head[0] != 67 or head[1] != 79 or head[2] != 78:  # CONNECT names its host alone
        colon = begin
        while colon < end and (
            97 <= head[colon] | 32 <= 122
            or (colon > begin and (48 <= head[colon] <= 57 or 43 <= head[colon] <= 46))
        ):
            colon += 1
        if colon == begin or colon + 2 >= end:
            return 0, 0
        if head[colon] != 58 or head[colon + 1] != 47 or head[colon + 2] != 47:
            return 0, 0
        begin = colon + 3
    stop = begin
    host = begin
    while stop < end and head[stop] != 47 and head[stop] != 63 and head[stop] != 35:  # / ? #
        if head[stop] == 64:  # user information ends (RFC 3986, section 3.2)
            host = stop + 1
        stop += 1
    return host, stop


@subroutine
def _host_in(head: NDArray[np.uint8], n: int) -> tuple[int, int]:
    """Begin and end of the host in a request head; (0, 0) where it is not there, is cut or is not certain.

    The target counts before the Host field (RFC 9112, section 3.2.2). Two different fields, or one that is
    continued on the next line, name no host (sections 3.2 and 5.2).
    """
    line = 0
    begin = 0
    end = 0
    n_hosts = 0
    is_host = False
    while line < n:
        stop = line
        while stop < n and head[stop] != 10:
            stop += 1
        if stop >= n:
            return begin, end  # the line is cut
        last = stop - 1 if stop > line and head[stop - 1] == 13 else stop
        if last == line:
            return begin, end
        if line == 0:
            space = 0
            while space < last and head[space] != 32:
                space += 1
            while last > space and head[last - 1] == 32:
                last -= 1
            version = last
            while version > space and head[version - 1] != 32:
                version -= 1
            if (
                version <= space + 1
                or last - version < 5
                or head[version] != 72
                or head[version + 1] != 84
                or head[version + 2] != 84
                or head[version + 3] != 80
                or head[version + 4] != 47
            ):
                return 0, 0  # not "HTTP/": SIP, RTSP and HTTP/0.9 carry no host
            begin, end = _target_host(head, space + 1, version - 1)
            if end > begin:
                return begin, end
        elif is_host and (head[line] == 32 or head[line] == 9):
            return 0, 0
        else:
            is_host = (
                last - line >= 5
                and head[line] | 32 == 104
                and head[line + 1] | 32 == 111
                and head[line + 2] | 32 == 115
                and head[line + 3] | 32 == 116
                and head[line + 4] == 58
            )
            if is_host:
                first = line + 5
                while first < last and (head[first] == 32 or head[first] == 9):
                    first += 1
                while last > first and (head[last - 1] == 32 or head[last - 1] == 9):
                    last -= 1
                if n_hosts > 0 and not _are_equal(head, begin, end, first, last):
                    return 0, 0
                begin, end = first, last
                n_hosts += 1
        line = stop + 1
    return begin, end


@subroutine
def _are_equal(head: NDArray[np.uint8], begin: int, end: int, first: int, last: int) -> bool:
    """Whether head[begin:end] and head[first:last] have the same bytes."""
    if end - begin != last - first:
        return False
    for index in range(end - begin):  # noqa: SIM110 (compiled code has no generators)
        if head[begin + index] != head[first + index]:
            return False
    return True


@subroutine
def _has_whole_head(head: NDArray[np.uint8], begin: int, end: int) -> bool:
    """Whether an empty line ends within head[begin:end]."""
    for index in range(max(begin, 2), end):
        if head[index] == 10 and (
            head[index - 1] == 10 or (head[index - 1] == 13 and head[index - 2] == 10)
        ):
            return True
    return False


@kernel
def find_hosts(
    wanted: NDArray[np.bool_],
    methods: NDArray[np.int64],
    beginnings: NDArray[np.bool_],
    first: NDArray[np.int64],
    length: NDArray[np.int32],
    to_server: NDArray[np.bool_],
    offset: NDArray[np.int32],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    ends: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Writes the host of each wanted flow's first request into ``out``, its end into ``ends``.

    Only the beginning of each side's stream is looked at, behind a PROXY prefix.
    """
    head = np.empty(MAX_STREAM, dtype=np.uint8)
    filled = np.empty(MAX_STREAM, dtype=np.bool_)
    listed = np.empty(longest(first), dtype=np.int64)
    at = 0
    for flow in range(len(wanted)):
        ends[flow] = at
        if not wanted[flow]:
            continue
        for side in range(2):
            if not begins_with(
                first[flow], first[flow + 1], side == 0, to_server, start, data, beginnings
            ):
                continue
            n_rows, is_ordered = list_side(
                first[flow], first[flow + 1], side == 0, to_server, offset, length, listed
            )
            row = listed[0]
            if start[row + 1] == start[row] or not beginnings[data[start[row]]]:
                continue
            n = 0
            if is_ordered:
                follows, n = extend_stream(
                    listed, n_rows, 0, 0, _MAX_BEGINNING, offset, start, data, head
                )
                begin = skip_prefix(head, 0, n)
                before = begin
                while (
                    follows < n_rows
                    and _begins_request(head, begin, n, methods)
                    and not _has_whole_head(head, before, n)
                ):
                    before = n
                    follows, n = extend_stream(
                        listed, n_rows, follows, n, n + 1, offset, start, data, head
                    )
                    if n == before:
                        break
            else:
                n = paint_stream(
                    first[flow],
                    first[flow + 1],
                    side == 0,
                    offset[listed[0]],
                    to_server,
                    offset,
                    start,
                    data,
                    head,
                    filled,
                )
                begin = skip_prefix(head, 0, n)
            if not _begins_request(head, begin, n, methods):
                continue
            low, high = _host_in(head[begin:], n - begin)
            end = escape_into(head, begin + low, begin + high, NO_SEPARATOR, False, out, at)
            if end >= 0:
                at = end
            break
        ends[flow] = at


def read_hosts(segments: SegmentColumns, wanted: NDArray[np.bool_]) -> Text:
    """The host of each flow's first request: that of an absolute URI or of CONNECT, else the Host field.

    Args:
        segments: the kept segments of n flows.
        wanted: TCP flows to look at, shape (n,).

    Returns:
        n texts as they were sent, port included, written as in ``names.text``; null where the flow begins
        with no request, or its request names two hosts.
    """
    ends = np.zeros(len(wanted) + 1, dtype=np.int32)
    out = escaped_room(len(segments.data))
    find_hosts(
        wanted,
        _METHODS,
        _BEGINNINGS,
        segments.first,
        segments.length,
        segments.to_server,
        segments.offset,
        segments.start,
        segments.data,
        ends[1:],
        out,
    )
    return Text(ends, out[: ends[-1]].copy())
