"""Decides which segments at the beginning of a flow keep their bytes, and which of the bytes are new.

As long as all payload of a flow is kept, its segments tell exactly what was seen, however much was reordered or
sent again. The first segments are kept (``FlowOptions.segments``), then those that continue what may be the
beginning of a TLS or DTLS hello or of an HTTP request, until the other side answers: a hello can be cut into
any number of segments.

Bytes that were sent in two versions before a verdict is due are not kept from the first difference on. A
receiver trims what it has seen (RFC 9293, section 3.10.7.4), but implementations differ in which version they
take, so neither is certain. Once a verdict is due, the data that it is based on does not change.
"""

from __future__ import annotations

import numpy as np

from apptell.flows.schema import (
    MAX_HEAD_BYTES,
    MAX_HEAD_SEGMENTS,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENTS,
    MAX_SEQUENCE,
)
from apptell.flows.segments import NO_BLOCK, block_at, payload_sequence
from apptell.flows.state import (
    BLOCK_HEADER,
    CLASS_OF_UNITS,
    DECIDED,
    KIND_SHIFT,
    SEQUENCE_KIND,
    STORED_MASK,
    UNIT,
)
from apptell.flows.tcp import signed_difference
from apptell.kernels.compiled import inlined, subroutine

_MAX_STEPS = 16
"""How often the kept segments are gone through for the new bytes of one that overlaps several of them."""
_MAX_COMPARED = 256
"""Segments of a flow that are compared with the kept ones; genuine traffic never overlaps so often."""


@inlined
def is_complete(flow):
    """Whether all payload packets of a flow so far are kept as segments."""
    return flow.n_segments == flow.payload_packets[0] + flow.payload_packets[1]


@inlined
def is_compared(flow):
    """Whether the kept segments of a flow tell what of a TCP segment is new; not of a later part."""
    return (
        flow.part == 0
        and flow.n_segments > 0
        and is_complete(flow)
        and flow.retransmissions + flow.out_of_order < _MAX_COMPARED
    )


@inlined
def block_needed(header, flow, way, is_new, max_segments, arena, arena32):
    """Whether a packet's payload is kept with its bytes, and the size class of the block that it needs.

    Args:
        header: the packet's.
        flow: its flow's record; of a flow that begins (``is_new``) nothing is read.
        way: the packet's direction.
        is_new: whether the packet begins a flow.
        max_segments: segments that every flow keeps with their bytes.
        arena: the table's.
        arena32: the table's.
    """
    n_segments, n_sequence, more_sequence = np.int64(0), np.int64(0), np.int64(-1)
    keeps_bytes = True
    if not is_new:
        n_segments = np.int64(flow.n_segments)
        n_sequence = np.int64(flow.n_sequence)
        more_sequence = np.int64(flow.more_sequence)
        keeps_bytes = is_complete(flow)
    kind = np.int64(NO_BLOCK)
    if header.payload > 0:
        if keeps_bytes and n_segments >= max_segments:
            keeps_bytes = continues_head(flow, way, max_segments, arena, arena32)
        if keeps_bytes:
            size = BLOCK_HEADER + min(np.int64(header.payload_captured), MAX_SEGMENT_BYTES)
            kind = CLASS_OF_UNITS[(size + UNIT - 1) // UNIT]
        elif n_sequence < MAX_SEQUENCE and more_sequence < 0:
            kind = np.int64(SEQUENCE_KIND)
    return keeps_bytes, kind


@subroutine
def continues_head(flow, way, max_segments, arena, arena32):
    """Whether a packet may continue the hello or request that the last turn of the kept segments begins.

    Args:
        flow: a flow whose payload is all kept, ``max_segments`` segments or more.
        way: the packet's direction.
        max_segments: segments that every flow keeps.
        arena: the table's.
        arena32: the table's.
    """
    n = np.int64(flow.n_segments)
    if n >= MAX_HEAD_SEGMENTS or flow.payload_bytes[0] + flow.payload_bytes[1] >= MAX_HEAD_BYTES:
        return False
    last = np.int64(flow.last_more if n > MAX_SEGMENTS else flow.segment[n - 1]) * (UNIT // 4)
    is_from_same = (arena32[last + 2] > 0) == (way == 0)
    is_cut = arena32[last + 3] & STORED_MASK < abs(arena32[last + 2])
    if not is_from_same or is_cut:
        return False
    if n > max_segments:
        return True  # the turn's beginning was looked at before
    is_tcp = flow.protocol == 6
    first = last  # where the turn's bytes begin
    turn_bytes = np.int64(0)
    for index in range(n - 1, -1, -1):
        word = np.int64(flow.segment[index]) * (UNIT // 4)
        if (arena32[word + 2] > 0) != (way == 0):
            break
        turn_bytes += abs(arena32[word + 2])
        if not is_tcp or signed_difference(arena32[word + 4] - arena32[first + 4]) <= 0:
            first = word
    if is_tcp and flow.has_initial[way] == 1:
        sent_before = flow.payload_bytes[way] - turn_bytes
        begin = np.int64(flow.initial[way]) + 1 + sent_before
        if signed_difference(arena32[first + 4] - begin) > 0:
            return True  # the turn's first bytes are still missing
    return _begins_head(arena, first * 4 + BLOCK_HEADER, arena32[first + 3] & STORED_MASK, is_tcp)


@inlined
def _begins_head(arena, at, stored, is_tcp):
    """Whether kept bytes may begin a client's hello, an HTTP request, or a PROXY prefix before one."""
    if stored == 0:
        return False
    if arena[at] == 22:  # a handshake record (RFC 8446, section 5.1; RFC 6347, section 4.1)
        kind = 5 if is_tcp else 13
        return (stored < 2 or arena[at + 1] == (3 if is_tcp else 254)) and (
            stored <= kind or arena[at + kind] == 1
        )
    if not is_tcp:
        return False
    is_response = (
        stored >= 4
        and arena[at] == 72
        and arena[at + 1] == 84
        and arena[at + 2] == 84
        and arena[at + 3] == 80  # "HTTP"
    )
    return (65 <= arena[at] <= 90 and not is_response) or arena[at] == 13


@subroutine
def new_in_head(header, source, flow, way, arena, arena32):
    """What a TCP segment adds to the kept segments of its side, some of whose bytes it may bring again.

    If kept bytes differ from it, they are discarded from the first difference on, unless a verdict is already
    due. A
    keep-alive probe is not compared: its byte may be anything (RFC 9293, section 3.8.4).

    Args:
        header: the packet's.
        source: the buffer that the header's places point into.
        flow: its flow.
        way: its direction.
        arena: the table's.
        arena32: the table's.

    Returns:
        Bytes before the first new one; bytes from there to the last new one; whether later ones were seen
        before.
    """
    sequence = payload_sequence(header)
    payload = np.int64(header.payload)
    start = np.int64(header.payload_at)
    captured = min(np.int64(header.payload_captured), payload)
    if start < 0 or start + captured > len(source):
        captured = np.int64(0)
    is_probe = payload == 1 and signed_difference(np.int64(flow.next[way]) - sequence) == 1
    if is_probe or flow.decided >= DECIDED:
        captured = np.int64(0)
    first, last, reach = np.int64(0), payload, np.int64(0)
    for step in range(_MAX_STEPS):
        is_moved = False
        block = np.int64(NO_BLOCK)
        for index in range(flow.n_segments):
            block = block_at(flow, index, block, arena32)
            word = block * (UNIT // 4)
            if (arena32[word + 2] > 0) != (way == 0):
                continue
            at = signed_difference(arena32[word + 4] - sequence)
            end = at + abs(arena32[word + 2])
            if step == 0:
                reach = max(reach, end)
                stored = arena32[word + 3] & STORED_MASK
                kept = block * UNIT + BLOCK_HEADER - at
                for byte in range(max(at, 0), min(at + stored, captured)):
                    if arena[kept + byte] != source[start + byte]:
                        kind = arena32[word + 3] >> KIND_SHIFT
                        arena32[word + 3] = (byte - at) | (kind << KIND_SHIFT)
                        break
            if at <= first < end:
                first = end
                is_moved = True
            if at < last <= end:
                last = at
                is_moved = True
        if not is_moved or first >= last:
            break
    return first, max(last - first, 0), first < reach
