"""Payload in, blocks of the arena out: the first payload bytes, times and lengths that a flow keeps.

The first segments keep their bytes, each in a block of its own; of later ones the time and the length alone
are kept, all in one block.
"""

from __future__ import annotations

import numpy as np

from apptell.flows.schema import MAX_SEGMENT_BYTES, MAX_SEGMENTS, MAX_SEQUENCE
from apptell.flows.state import (
    BLOCK_HEADER,
    CLASS_OF_UNITS,
    CLASS_UNITS,
    KIND_SHIFT,
    N_UNITS,
    SEQUENCE_BLOCK,
    SEQUENCE_KIND,
    UNIT,
)
from apptell.kernels.compiled import inlined
from apptell.packets.fields import copy_bytes

NOT_NEEDED, NO_ROOM = -1, -2
"""In place of a block: the packet needs none; the arena is full."""


@inlined
def take_block(kind, arena32, free_blocks, counts):
    """An arena block of a size class, as a unit index; NO_ROOM when the arena is full."""
    head = free_blocks[kind]
    if head >= 0:
        free_blocks[kind] = np.int64(arena32[head * (UNIT // 4)])
        return head
    head = counts[N_UNITS]
    if (head + CLASS_UNITS[kind]) * (UNIT // 4) > len(arena32):
        return np.int64(NO_ROOM)
    counts[N_UNITS] = head + CLASS_UNITS[kind]
    return head


@inlined
def give_block(block, kind, arena32, free_blocks):
    """Hands a block of a size class back."""
    arena32[block * (UNIT // 4)] = free_blocks[kind]
    free_blocks[kind] = block


@inlined
def take_room(header, record, max_segments, memory):
    """Takes the block that a packet's payload may need, before anything else of the packet is counted.

    Args:
        header: the packet's.
        record: of its flow, where that is open; -1 for a flow that begins.
        max_segments: segments whose bytes a flow keeps.
        memory: the table's.

    Returns:
        Block, or NOT_NEEDED or NO_ROOM; its size class; whether it is for the payload's bytes.
    """
    n_segments, n_sequence, more_sequence = np.int64(0), np.int64(0), np.int64(-1)
    if record >= 0:
        flow = memory.records[record]
        n_segments = np.int64(flow.n_segments)
        n_sequence = np.int64(flow.n_sequence)
        more_sequence = np.int64(flow.more_sequence)
    keeps_bytes = n_segments < max_segments and n_segments == n_sequence
    block, kind = np.int64(NOT_NEEDED), np.int64(0)
    if header.payload > 0 and (keeps_bytes or (n_sequence < MAX_SEQUENCE and more_sequence < 0)):
        size = SEQUENCE_BLOCK
        if keeps_bytes:
            size = BLOCK_HEADER + min(np.int64(header.payload_captured), MAX_SEGMENT_BYTES)
        kind = CLASS_OF_UNITS[(size + UNIT - 1) // UNIT]
        block = take_block(kind, memory.arena32, memory.free_blocks, memory.counts)
    return block, kind, keeps_bytes


@inlined
def keep_segment(header, source, flow, way, skip, length, block, kind, keeps_bytes, memory):
    """Keeps what is new of a packet's payload: ``length`` bytes behind the first ``skip`` ones.

    ``source`` is the buffer that the header's places point into; the block is that of ``take_room``.
    """
    arena32, arena64 = memory.arena32, memory.arena64
    n_segments, n_sequence = np.int64(flow.n_segments), np.int64(flow.n_sequence)
    signed = length if way == 0 else -length
    if keeps_bytes:
        captured = np.int64(header.payload_captured) - skip
        stored = max(min(min(length, captured), MAX_SEGMENT_BYTES), 0)
        start = header.payload_at + skip
        if start < 0 or start + stored > len(source):
            stored = np.int64(0)
        arena64[block * (UNIT // 8)] = header.time_ns
        arena32[block * (UNIT // 4) + 2] = signed
        arena32[block * (UNIT // 4) + 3] = stored | (kind << KIND_SHIFT)
        copy_bytes(source, start, memory.arena, block * UNIT + BLOCK_HEADER, stored)
        flow.segment[n_segments] = block
        flow.n_segments = n_segments + 1
        flow.n_sequence = n_sequence + 1
    elif n_sequence < MAX_SEQUENCE and n_sequence - n_segments < MAX_SEQUENCE - MAX_SEGMENTS:
        if flow.more_sequence < 0:
            flow.more_sequence = block
        more = np.int64(flow.more_sequence)
        beyond = n_sequence - n_segments
        arena64[more * (UNIT // 8) + beyond] = header.time_ns
        arena32[more * (UNIT // 4) + (MAX_SEQUENCE - MAX_SEGMENTS) * 2 + beyond] = signed
        flow.n_sequence = n_sequence + 1


@inlined
def give_segments_back(flow, memory):
    """Hands all blocks of a flow back."""
    for segment in range(flow.n_segments):
        block = np.int64(flow.segment[segment])
        kind = np.int64(memory.arena32[block * (UNIT // 4) + 3]) >> KIND_SHIFT
        give_block(block, kind, memory.arena32, memory.free_blocks)
    if flow.more_sequence >= 0:
        give_block(np.int64(flow.more_sequence), SEQUENCE_KIND, memory.arena32, memory.free_blocks)
    flow.n_segments = 0
    flow.more_sequence = -1
