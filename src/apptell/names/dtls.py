"""Joins the DTLS ClientHello messages of UDP segments, in the form of TLS handshake messages.

Source: RFC 6347 section 4.1 (records of 13 bytes) and 4.2.2 (handshake header of 12 bytes, fragments);
RFC 9147 section 5 keeps both for the first flight of DTLS 1.3. Fragments may overlap (RFC 6347 section 4.2.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.kernels.compiled import inlined, kernel, subroutine
from apptell.names.streams import MAX_STREAM, begins_with
from apptell.names.tls import Messages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.list_columns import SegmentColumns

_BEGINNINGS: Final = np.zeros(256, dtype=np.bool_)
_BEGINNINGS[22] = True  # a record of a handshake
_MAX_FRAGMENTS: Final = 1024
"""Fragments of one flow's hellos that are looked at."""
_MAX_MESSAGES: Final = 4
"""Hellos of one flow that are looked at: a client sends a second one with the server's cookie."""


@inlined
def _u24(data: NDArray[np.uint8], at: Any) -> Any:
    return (np.int64(data[at]) << 16) | (np.int64(data[at + 1]) << 8) | np.int64(data[at + 2])


@subroutine
def list_fragments(
    first: int,
    stop: int,
    direction: bool,
    to_server: NDArray[np.bool_],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    fragments: NDArray[np.int64],
) -> int:
    """Lists the fragments of one side's ClientHello messages, in the order in which they came.

    Args:
        first: the flow's first row.
        stop: what follows its last row.
        direction: the side: whether it sends to the server.
        to_server: as in ``SegmentColumns``, and so the next two.
        start: first bytes.
        data: kept bytes.
        fragments: out, shape (k, 4): sequence and size of the message in one number, so that each message
            has its own; offset in the message; first byte and its end in ``data``.

    Returns:
        How many there are, at most k.
    """
    n = 0
    for segment in range(first, stop):
        if to_server[segment] != direction:
            continue
        place: Any = start[segment]
        end: Any = start[segment + 1]
        while end - place >= 25 and data[place] == 22 and data[place + 1] == 254:
            at: Any = place + 13
            place = at + ((np.int64(data[place + 11]) << 8) | np.int64(data[place + 12]))
            # a record holds one handshake message or fragment after another
            while at + 12 <= min(place, end) and n < len(fragments):
                kind = data[at]
                size = _u24(data, at + 1)
                sequence = (np.int64(data[at + 4]) << 8) | np.int64(data[at + 5])
                offset, length = _u24(data, at + 6), _u24(data, at + 9)
                at += 12
                if offset + length > size:
                    break
                if kind == 1:
                    fragments[n, 0] = (sequence << 24) | size
                    fragments[n, 1] = offset
                    fragments[n, 2], fragments[n, 3] = at, min(min(place, end), at + length)
                    n += 1
                at += length
    return n


@kernel
def collect_dtls_hellos(
    wanted: NDArray[np.bool_],
    beginnings: NDArray[np.bool_],
    first: NDArray[np.int64],
    to_server: NDArray[np.bool_],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    rows: NDArray[np.int64],
    ends: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    """Writes a ClientHello of each wanted flow into ``out``, its fragments joined; how many there are.

    It is the first complete one, else the first up to its first gap. Fragments may overlap and come in any
    order; a message ends before a byte of which two versions were sent. Message m is
    ``out[ends[m] : ends[m + 1]]``: type, length, body.
    """
    fragments = np.empty((_MAX_FRAGMENTS, 4), dtype=np.int64)
    stream = np.empty(MAX_STREAM, dtype=np.uint8)
    filled = np.empty(MAX_STREAM, dtype=np.bool_)
    count = 0
    at = 0
    ends[0] = 0
    for flow in range(len(wanted)):
        if not wanted[flow]:
            continue
        for side in range(2):
            if not begins_with(
                first[flow], first[flow + 1], side == 0, to_server, start, data, beginnings
            ):
                continue
            n = list_fragments(
                first[flow], first[flow + 1], side == 0, to_server, start, data, fragments
            )
            best = 0
            n_messages = 0
            for index in range(n):
                message = fragments[index, 0]
                is_new = True
                for earlier in range(index):
                    if fragments[earlier, 0] == message:
                        is_new = False
                        break
                if not is_new:
                    continue
                n_messages += 1
                if n_messages > _MAX_MESSAGES:
                    break
                size = message & 0xFFFFFF
                have = _join(fragments, index, n, data, stream, filled)
                is_whole = have == size
                if have >= 40 and stream[0] == 254 and (best == 0 or is_whole):
                    best = 4 + min(have, len(out) - at - 4)
                    out[at] = 1
                    for place in range(3):
                        out[at + 1 + place] = (size >> (16 - 8 * place)) & 255
                    for place in range(best - 4):
                        out[at + 4 + place] = stream[place]
                    if is_whole:
                        break
            if best > 0:
                rows[count] = flow
                count += 1
                at += best
                ends[count] = at
                break
    return count


@subroutine
def _join(
    fragments: NDArray[np.int64],
    first: int,
    n: int,
    data: NDArray[np.uint8],
    stream: NDArray[np.uint8],
    filled: NDArray[np.bool_],
) -> int:
    """Joins the fragments of the message of ``fragments[first]``; its bytes up to a gap or two versions."""
    end = min(len(stream), fragments[first, 0] & 0xFFFFFF)
    filled[:end] = False
    for index in range(first, n):
        if fragments[index, 0] != fragments[first, 0]:
            continue
        place = fragments[index, 1] - fragments[index, 2]
        for byte in range(fragments[index, 2], min(fragments[index, 3], end - place)):
            if not filled[place + byte]:
                filled[place + byte] = True
                stream[place + byte] = data[byte]
            elif stream[place + byte] != data[byte]:
                end = place + byte
                break
    have = 0
    while have < end and filled[have]:
        have += 1
    return have


def find_dtls_hellos(segments: SegmentColumns, wanted: NDArray[np.bool_]) -> Messages:
    """The DTLS ClientHello messages of UDP flows; ``read_hellos({"d": messages})`` reads them.

    Args:
        segments: the kept segments of n flows.
        wanted: flows to look at, shape (n,).
    """
    n = len(wanted)
    rows = np.empty(n, dtype=np.int64)
    ends = np.empty(n + 1, dtype=np.int64)
    out = np.empty(len(segments.data), dtype=np.uint8)
    count = collect_dtls_hellos(
        wanted,
        _BEGINNINGS,
        segments.first,
        segments.to_server,
        segments.start,
        segments.data,
        rows,
        ends,
        out,
    )
    return Messages(rows[:count], ends[: count + 1], out[: ends[count]])
