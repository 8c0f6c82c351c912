"""Interprets a TCP packet in its flow: new bytes, another connection, or the end of this one.

Sequence numbers compare modulo 2**32 (RFC 9293, Section 3.4). ``docs/explanation/flows.md`` has the rules.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from apptell.flows.clients import BY_HANDSHAKE
from apptell.flows.segments import payload_sequence
from apptell.flows.state import FIN_A, FIN_B, MAX_HOLES, RST_A, RST_B
from apptell.kernels.compiled import inlined

FIN, SYN, RST, ACK = 1, 2, 4, 16
"""Flags of a TCP header."""
_FAR: Final = 1 << 26
"""A jump in sequence space that no window explains: the numbering has restarted."""


@inlined
def signed_difference(difference):
    """The difference of two sequence numbers, given as any number, modulo 2**32 as a signed one."""
    value = np.int64(difference) & 0xFFFFFFFF
    return value - 0x100000000 if value >= 0x80000000 else value


@inlined
def new_data(flow, way, sequence, length):
    """What a segment adds to its direction: (skipped bytes, new bytes, filled a gap).

    Bytes below the highest one seen count only where they fill a remembered gap. Those below the number of the
    SYN count too: a forged SYN must not hide the later data of its connection.
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
    is_before_syn = (
        flow.has_initial[way] == 1
        and signed_difference(sequence + length - 1 - np.int64(flow.initial[way])) < 0
    )
    if ahead < -_FAR or is_before_syn:  # numbering began anew without a SYN in the capture
        if is_before_syn:
            flow.has_initial[way] = 0  # it was no SYN of this stream
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
def is_near(flow, way, sequence):
    """Whether a FIN or RST may be of a side's stream; one from far away is forged or damaged."""
    return (
        not flow.has_next[way] or abs(signed_difference(sequence - np.int64(flow.next[way]))) < _FAR
    )


@inlined
def reaches_beyond(flow, way, header):
    """Whether a packet has payload beyond the highest byte that was seen in its direction."""
    length = np.int64(header.payload)
    if length <= 0 or header.flags & RST:
        return False
    if not flow.has_next[way]:
        return True
    ahead = signed_difference(payload_sequence(header) - np.int64(flow.next[way]))
    return ahead + length > 0 or ahead < -_FAR


@inlined
def begins_connection(flow, way, header, is_over):
    """Whether a packet with SYN begins another connection than the flow's.

    Args:
        flow: the tuple's latest flow.
        way: the packet's direction.
        header: the packet's; it has SYN and no RST.
        is_over: whether the flow has ended or was silent for too long.
    """
    sequence, acknowledgement = np.int64(header.sequence), np.int64(header.acknowledgement)
    if flow.has_initial[way] == 1:
        return np.int64(flow.initial[way]) != sequence
    peer = 1 - way
    if header.flags & ACK:
        if flow.has_initial[peer] != 1:
            return True  # the flow was caught in mid-connection
        # The answer to the SYN that we saw: to all, a part or nothing of its data (RFC 7413).
        first = np.int64(flow.initial[peer]) + 1
        accepted = signed_difference(acknowledgement - first)
        return accepted < 0 or accepted > signed_difference(np.int64(flow.next[peer]) - first)
    if flow.has_initial[way] == 2:  # a SYN stored behind its SYN-ACK
        accepted = signed_difference(np.int64(flow.initial[way]) - payload_sequence(header))
        return accepted < 0 or accepted > header.payload
    # both sides open at once (RFC 9293, Section 3.5)
    return flow.has_initial[peer] != 1 or is_over or not flow.only_handshake


@inlined
def read_tcp(flow, header, way, clean):
    """Takes a TCP packet's flags and numbers; returns what ``new_data`` does."""
    skip, length, is_late = np.int64(0), np.int64(header.payload), False
    flags = header.flags
    peer = 1 - way
    if flags & SYN:
        if flow.has_initial[way] != 1:
            flow.has_initial[way] = 1
            flow.initial[way] = header.sequence
            if not flow.has_next[way]:
                flow.has_next[way] = 1
                flow.next[way] = np.uint32(payload_sequence(header) & 0xFFFFFFFF)
        if clean:
            flow.finished &= FIN_A | FIN_B  # another attempt
        if flags & ACK and not flow.has_initial[peer]:
            flow.has_initial[peer] = 2
            flow.initial[peer] = header.acknowledgement
        if not flow.has_syn:
            flow.has_syn = 1
            flow.client = 1 + (peer if flags & ACK else way)
            flow.client_rule = BY_HANDSHAKE
    else:
        flow.only_handshake = 0
    if not clean:
        if flags & RST:
            flow.finished |= _rst_bit(way)
        elif flags & FIN:
            flow.finished |= _fin_bit(way)
        return skip, length, is_late
    if flags & ACK and (
        not flow.has_acknowledged[way]
        or signed_difference(np.int64(header.acknowledgement) - np.int64(flow.acknowledged[way]))
        > 0
    ):
        flow.has_acknowledged[way] = 1
        flow.acknowledged[way] = header.acknowledgement
    if flags & RST:
        length = np.int64(0)  # RFC 9293, Section 3.5.3: text in a RST is a diagnostic
        if is_near(flow, way, np.int64(header.sequence)):
            flow.finished |= _rst_bit(way)
            flow.end_sequence[way] = header.sequence
    elif flags & FIN and is_near(flow, way, payload_sequence(header)):
        flow.finished |= _fin_bit(way)
        flow.end_sequence[way] = np.uint32((payload_sequence(header) + length + 1) & 0xFFFFFFFF)
    if length > 0:
        skip, length, is_late = new_data(flow, way, payload_sequence(header) & 0xFFFFFFFF, length)
    return skip, length, is_late


@inlined
def goes_on(flow, header, way, length):
    """Whether new payload of a side, ``length`` bytes, shows that a RST in its name was not its own."""
    if length <= 0 or not flow.finished & _rst_bit(way):
        return False
    end = payload_sequence(header) + header.payload
    return signed_difference(end - np.int64(flow.end_sequence[way])) > 0


@inlined
def take_back_reset(flow, way):
    """The side was not reset."""
    flow.finished &= ~_rst_bit(way)


@inlined
def _fin_bit(way):
    return np.uint8(FIN_B if way else FIN_A)


@inlined
def _rst_bit(way):
    return np.uint8(RST_B if way else RST_A)


@inlined
def has_closed(flow):
    """Whether a connection is closed: by a RST, or by a FIN of each side that the other has acknowledged."""
    if flow.finished & (RST_A | RST_B):
        return True
    if flow.finished & (FIN_A | FIN_B) != FIN_A | FIN_B:
        return False
    for side in range(2):
        beyond = signed_difference(
            np.int64(flow.acknowledged[1 - side]) - np.int64(flow.end_sequence[side])
        )
        if not flow.has_acknowledged[1 - side] or beyond < 0 or beyond >= _FAR:
            return False
    return True
