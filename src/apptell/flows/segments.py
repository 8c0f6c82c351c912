"""Keeps the first payload bytes, times and lengths of a flow in blocks of the arena.

The first segments (``heads`` says which) keep their bytes and sequence numbers, each in its own block; of
later ones, only the time and the length are kept, all in one block.
"""

from __future__ import annotations

import numpy as np

from apptell.flows.schema import MAX_SEGMENT_BYTES, MAX_SEGMENTS, MAX_SEQUENCE
from apptell.flows.state import (
    BLOCK_HEADER,
    CLASS_UNITS,
    KIND_SHIFT,
    SEQUENCE_KIND,
    UNIT,
)
from apptell.kernels.compiled import inlined
from apptell.packets.byte_fields import copy_bytes

NO_BLOCK = -1
"""In place of a block or of its size class: none is needed, or none is free."""
_SYN = 2


@inlined
def take_block(kind, arena32, counters):
    """An arena block of a size class, as a unit index; NO_BLOCK when the arena is full."""
    block = counters.free_blocks[kind]
    if block >= 0:
        counters.free_blocks[kind] = np.int64(arena32[block * (UNIT // 4)])
    else:
        block = counters.n_units
        if (block + CLASS_UNITS[kind]) * (UNIT // 4) > len(arena32):
            block = np.int64(NO_BLOCK)
        else:
            counters.n_units = block + CLASS_UNITS[kind]
    return block


@inlined
def give_block(block, kind, arena32, counters):
    """Hands a block of a size class back."""
    arena32[block * (UNIT // 4)] = counters.free_blocks[kind]
    counters.free_blocks[kind] = block


@inlined
def block_at(flow, index, before, arena32):
    """Block of a kept segment.

    Args:
        flow: its flow.
        index: its number.
        before: block of the segment before it; read from the 14th on.
        arena32: the table's.
    """
    if index < MAX_SEGMENTS:
        return np.int64(flow.segment[index])
    if index == MAX_SEGMENTS:
        return np.int64(flow.first_more)
    return np.int64(arena32[before * (UNIT // 4) + 5])


@inlined
def payload_sequence(header):
    """The sequence number of a TCP packet's first payload byte (a SYN takes one, RFC 9293, section 3.4)."""
    return np.int64(header.sequence) + (1 if header.flags & _SYN else 0)


@inlined
def keep_bytes(header, source, flow, skip, signed, block, kind, arena, arena32, arena64):
    """Keeps a segment with its bytes.

    Args:
        header: the packet's.
        source: the buffer that the header's places point into.
        flow: the packet's.
        skip: payload bytes that were seen before.
        signed: the number of new ones behind them, + from A, - from B.
        block: where they go.
        kind: the block's size class.
        arena: the table's.
        arena32: the table's.
        arena64: the table's.
    """
    captured = np.int64(header.payload_captured) - skip
    stored = max(min(min(abs(signed), captured), MAX_SEGMENT_BYTES), 0)
    start = header.payload_at + skip
    if start < 0 or start + stored > len(source):
        stored = np.int64(0)
    arena64[block * (UNIT // 8)] = header.time_ns
    word = block * (UNIT // 4)
    arena32[word + 2] = signed
    arena32[word + 3] = stored | (kind << KIND_SHIFT)
    arena32[word + 4] = payload_sequence(header) + skip
    copy_bytes(source, start, arena, block * UNIT + BLOCK_HEADER, stored)
    n_segments = np.int64(flow.n_segments)
    if n_segments < MAX_SEGMENTS:
        flow.segment[n_segments] = block
    elif n_segments == MAX_SEGMENTS:
        flow.first_more = block
        flow.last_more = block
    else:
        arena32[np.int64(flow.last_more) * (UNIT // 4) + 5] = block
        flow.last_more = block
    flow.n_segments = n_segments + 1
    if flow.n_sequence < MAX_SEQUENCE:
        flow.n_sequence += 1


@inlined
def keep_length(header, flow, signed, block, arena32, arena64):
    """Keeps the time and length of a segment beyond those whose bytes are kept, up to MAX_SEQUENCE of all."""
    n_segments, n_sequence = np.int64(flow.n_segments), np.int64(flow.n_sequence)
    if n_sequence < MAX_SEQUENCE and n_sequence - n_segments < MAX_SEQUENCE - MAX_SEGMENTS:
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
    block = np.int64(NO_BLOCK)
    for segment in range(flow.n_segments):
        block = block_at(
            flow, segment, block, memory.arena32
        )  # one given back still names the next
        kind = np.int64(memory.arena32[block * (UNIT // 4) + 3]) >> KIND_SHIFT
        give_block(block, kind, memory.arena32, memory.counters)
    if flow.more_sequence >= 0:
        give_block(np.int64(flow.more_sequence), SEQUENCE_KIND, memory.arena32, memory.counters)
    flow.n_segments = 0
    flow.more_sequence = -1
