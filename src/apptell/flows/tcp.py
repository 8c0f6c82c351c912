"""What a TCP segment adds to its direction, and whether a SYN begins another connection.

Sequence numbers compare modulo 2**32 (RFC 9293, Section 3.4).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from apptell.flows.state import (
    MAX_HOLES,
)
from apptell.kernels.compiled import inlined

_ACK: Final = 16
_FAR: Final = 1 << 26
"""A jump in sequence space that no window explains: the numbering began anew."""


@inlined
def signed_difference(difference):
    """The difference of two sequence numbers, given as any number, modulo 2**32 as a signed one."""
    value = np.int64(difference) & 0xFFFFFFFF
    return value - 0x100000000 if value >= 0x80000000 else value


@inlined
def new_data(flow, way, sequence, length):
    """What a segment adds to its direction: (skipped bytes, new bytes, filled a gap).

    Bytes below the highest one seen count only where they fill a remembered gap.
    """
    if not flow.has_next[way]:
        flow.has_next[way] = 1
        flow.next[way] = np.uint32((sequence + length) & 0xFFFFFFFF)
        return np.int64(0), length, False
    ahead = signed_difference(sequence - np.int64(flow.next[way]))
    if ahead >= 0:
        if ahead > 0:
            if ahead >= _FAR:
                flow.n_holes[way] = 0
            else:
                n = np.int64(flow.n_holes[way])
                if n == MAX_HOLES:
                    for index in range(MAX_HOLES - 1):
                        flow.hole_start[way, index] = flow.hole_start[way, index + 1]
                        flow.hole_end[way, index] = flow.hole_end[way, index + 1]
                    n -= 1
                flow.hole_start[way, n] = flow.next[way]
                flow.hole_end[way, n] = np.uint32(sequence)
                flow.n_holes[way] = n + 1
        flow.next[way] = np.uint32((sequence + length) & 0xFFFFFFFF)
        return np.int64(0), length, False
    if ahead < -_FAR:  # numbering began anew without a SYN in the capture
        flow.n_holes[way] = 0
        flow.next[way] = np.uint32((sequence + length) & 0xFFFFFFFF)
        return np.int64(0), length, False
    if ahead + length > 0:  # overlaps what was seen and goes on
        flow.next[way] = np.uint32((sequence + length) & 0xFFFFFFFF)
        return -ahead, ahead + length, False
    for index in range(np.int64(flow.n_holes[way])):
        start = signed_difference(np.int64(flow.hole_start[way, index]) - sequence)
        end = signed_difference(np.int64(flow.hole_end[way, index]) - sequence)
        skip = max(start, 0)
        stop = min(end, length)
        if skip < stop:
            n = np.int64(flow.n_holes[way])
            if skip == start and stop == end:  # filled: close it
                for later in range(index, n - 1):
                    flow.hole_start[way, later] = flow.hole_start[way, later + 1]
                    flow.hole_end[way, later] = flow.hole_end[way, later + 1]
                flow.n_holes[way] = n - 1
            elif skip == start:
                flow.hole_start[way, index] = np.uint32((sequence + stop) & 0xFFFFFFFF)
            else:
                if stop < end and n < MAX_HOLES:  # split
                    flow.hole_start[way, n] = np.uint32((sequence + stop) & 0xFFFFFFFF)
                    flow.hole_end[way, n] = flow.hole_end[way, index]
                    flow.n_holes[way] = n + 1
                flow.hole_end[way, index] = np.uint32((sequence + skip) & 0xFFFFFFFF)
            return skip, stop - skip, True
    return np.int64(0), np.int64(0), False


@inlined
def begins_connection(flow, way, flags, sequence, acknowledgement):
    """Whether a packet with SYN begins another connection than the flow's."""
    if flow.has_initial[way]:
        return flow.initial[way] != sequence
    if flow.has_initial[1 - way]:
        other = np.int64(flow.initial[1 - way])
        if flags & _ACK:  # the answer to the SYN that we saw
            return (other + 1) & 0xFFFFFFFF != np.int64(acknowledgement)
        # a SYN after its SYN-ACK (reordered), or both sides opening
        return not flow.only_handshake
    return True  # the flow was caught in mid-connection
