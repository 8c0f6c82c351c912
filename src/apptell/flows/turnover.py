"""What happens to flow records besides packets: room taken and given back, flows ended, forgotten, evicted.

The kernels see arrays alone; ``state.Memory`` holds them. Hash table: open addressing, linear probing.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from apptell.flows.state import (
    ACTIVE,
    CANDIDATE,
    CLASS_UNITS,
    DECIDED,
    DORMANT,
    ENDED,
    FREE,
    HANDED_OUT,
    KIND_SHIFT,
    N_DORMANT,
    N_EARLY,
    N_EVICTED,
    N_FREE_RECORDS,
    N_OCCUPIED,
    N_READY,
    N_RECORDS,
    N_UNITS,
    N_YOUNG,
    SEQUENCE_KIND,
    SWEPT,
    UNDECIDED,
    UNIT,
)

BY_IDLE, BY_HANDSHAKE, BY_CAPTURE, BY_EVICTION = 0, 1, 2, 3
"""Why a flow ended, places in ``schema.END_REASONS``."""

_kernel = njit(cache=True, nogil=True)
_inline = njit(inline="always")


@_inline
def mix(value):
    """Finaliser of MurmurHash3 (public domain): spreads 64 bits."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    value ^= value >> np.uint64(33)
    return value


@_inline
def hash_tuple(low_high, low_low, high_high, high_low, ports):
    """Hash of a 5-tuple in canonical order."""
    value = mix(low_low ^ (ports * np.uint64(0x9E3779B97F4A7C15)))
    value = mix(value ^ high_low ^ (low_high * np.uint64(0xD6E8FEB86659FD93)))
    return value ^ (high_high * np.uint64(0xA0761D6478BD642F))


@_inline
def take_block(kind, arena32, free_blocks, counts):
    """An arena block of a size class, as a unit index; -1 when the arena is full."""
    head = free_blocks[kind]
    if head >= 0:
        free_blocks[kind] = np.int64(arena32[head * (UNIT // 4)])
        return head
    head = counts[N_UNITS]
    if (head + CLASS_UNITS[kind]) * (UNIT // 4) > len(arena32):
        return np.int64(-1)
    counts[N_UNITS] = head + CLASS_UNITS[kind]
    return head


@_inline
def give_block(block, kind, arena32, free_blocks):
    """Hands a block of a size class back."""
    arena32[block * (UNIT // 4)] = free_blocks[kind]
    free_blocks[kind] = block


@_inline
def _unlink(record, records, buckets, counts):
    """Takes a record out of the hash table, closing the gap it leaves (linear probing)."""
    mask = np.int64(len(buckets) - 1)
    hole = np.int64(records[record].bucket)
    at = hole
    while True:
        at = (at + 1) & mask
        other = buckets[at]
        if other < 0:
            break
        flow = records[other]
        ports = (
            (np.uint64(flow.low_port) << np.uint64(32))
            | (np.uint64(flow.high_port) << np.uint64(8))
            | np.uint64(flow.protocol)
        )
        home = np.int64(
            hash_tuple(flow.low_high, flow.low_low, flow.high_high, flow.high_low, ports)
            & np.uint64(mask)
        )
        # may it move to the hole? yes unless its home lies between hole and where it is
        if (at - home) & mask >= (at - hole) & mask:
            buckets[hole] = other
            flow.bucket = hole
            hole = at
    buckets[hole] = -1
    records[record].bucket = -1
    counts[N_OCCUPIED] -= 1


@_kernel
def rebuild_buckets(records, buckets, counts):
    """Fills a new, larger hash table from the records that are active or dormant."""
    mask = np.uint64(len(buckets) - 1)
    for record in range(counts[N_RECORDS]):
        flow = records[record]
        if flow.bucket < 0 or flow.state == FREE:
            continue
        ports = (
            (np.uint64(flow.low_port) << np.uint64(32))
            | (np.uint64(flow.high_port) << np.uint64(8))
            | np.uint64(flow.protocol)
        )
        at = hash_tuple(flow.low_high, flow.low_low, flow.high_high, flow.high_low, ports) & mask
        while buckets[np.int64(at)] >= 0:
            at = (at + np.uint64(1)) & mask
        buckets[np.int64(at)] = record
        flow.bucket = np.int32(at)


@_inline
def end_flow(record, reason, records, ready, counts):
    """Puts a flow on the list of those to hand out."""
    flow = records[record]
    flow.state = ENDED
    flow.end_reason = reason
    ready[counts[N_READY]] = record
    counts[N_READY] += 1


@_inline
def decide(record, time_ns, records, young, counts):
    """Freezes what a verdict may rest on; lists the flow where open flows are asked for."""
    flow = records[record]
    flow.decided = DECIDED
    flow.decided_ns = time_ns
    for side in range(2):
        flow.decided_packets[side] = flow.packets[side]
        flow.decided_bytes[side] = flow.bytes[side]
    if len(young) > 0:
        young[counts[N_YOUNG]] = record
        counts[N_YOUNG] += 1


@_kernel
def decide_waiting(now_ns, after_ns, min_payload_packets, records, young, counts):
    """Decides open flows that began ``after_ns`` ago and have enough payload packets, up to the list's room."""
    for record in range(counts[N_RECORDS]):
        flow = records[record]
        if counts[N_YOUNG] == len(young):
            break
        if (
            flow.state == ACTIVE
            and flow.decided < DECIDED
            and now_ns - flow.start_ns >= after_ns
            and flow.payload_packets[0] + flow.payload_packets[1] >= min_payload_packets
        ):
            decide(record, now_ns, records, young, counts)


@_kernel
def open_ones(records, young, counts):
    """Moves the listed flows that are still open to the list's beginning and empties it; how many.

    The others were or will be handed out as finished flows; a record may be listed again for a later flow.
    """
    n = 0
    for index in range(counts[N_YOUNG]):
        flow = records[young[index]]
        if flow.state == ACTIVE and flow.decided == DECIDED:
            flow.decided = HANDED_OUT
            young[n] = young[index]
            n += 1
    counts[N_YOUNG] = 0
    return n


@_kernel
def candidates(records, early, counts):
    """Moves the listed flows that are still open and undecided to the list's beginning; how many."""
    n = 0
    for index in range(counts[N_EARLY]):
        flow = records[early[index]]
        if flow.state == ACTIVE and flow.decided == CANDIDATE:
            flow.decided = UNDECIDED
            early[n] = early[index]
            n += 1
    counts[N_EARLY] = 0
    return n


@_kernel
def sweep(now_ns, idle_ns, forget_ns, records, buckets, free_records, ready, counts):
    """Ends the flows that were silent for ``idle_ns``, forgets connections silent for ``forget_ns``.

    Silence is measured from the clock at a flow's last packet, not from the packet's own time: after one
    packet with a time far ahead the others' flows live on.
    """
    for record in range(counts[N_RECORDS]):
        flow = records[record]
        if flow.state == ACTIVE:
            if now_ns - flow.clock_ns > idle_ns:
                end_flow(record, BY_IDLE, records, ready, counts)
        elif flow.state == DORMANT and now_ns - flow.clock_ns > forget_ns:
            _forget(record, records, buckets, free_records, counts)
    counts[SWEPT] = now_ns


@_inline
def _forget(record, records, buckets, free_records, counts):
    _unlink(record, records, buckets, counts)
    records[record].state = FREE
    counts[N_DORMANT] -= 1
    free_records[counts[N_FREE_RECORDS]] = record
    counts[N_FREE_RECORDS] += 1


@_kernel
def evict(cutoff_ns, only_dormant, records, buckets, free_records, ready, counts):
    """Makes room: forgets dormant connections, ends active flows, not seen after ``cutoff_ns``."""
    for record in range(counts[N_RECORDS]):
        flow = records[record]
        if flow.last_ns > cutoff_ns:
            continue
        if flow.state == DORMANT:
            _forget(record, records, buckets, free_records, counts)
        elif flow.state == ACTIVE and not only_dormant:
            end_flow(record, BY_EVICTION, records, ready, counts)
            counts[N_EVICTED] += 1


@_kernel
def end_all(reason, records, ready, counts):
    """Ends every active flow."""
    for record in range(counts[N_RECORDS]):
        if records[record].state == ACTIVE:
            end_flow(record, reason, records, ready, counts)


@_kernel
def release(keep_dormant, n, records, buckets, free_records, ready, arena32, free_blocks, counts):
    """After the first ``n`` ready flows were handed out: their payload and, where nothing follows, records."""
    for index in range(n):
        record = ready[index]
        flow = records[record]
        for segment in range(flow.n_segments):
            block = np.int64(flow.segment[segment])
            kind = np.int64(arena32[block * (UNIT // 4) + 3]) >> KIND_SHIFT
            give_block(block, kind, arena32, free_blocks)
        if flow.more_sequence >= 0:
            give_block(np.int64(flow.more_sequence), SEQUENCE_KIND, arena32, free_blocks)
        flow.n_segments = 0
        flow.more_sequence = -1
        if flow.bucket >= 0 and keep_dormant:
            flow.state = DORMANT
            counts[N_DORMANT] += 1
        else:
            if flow.bucket >= 0:
                _unlink(record, records, buckets, counts)
            flow.state = FREE
            free_records[counts[N_FREE_RECORDS]] = record
            counts[N_FREE_RECORDS] += 1
    left = counts[N_READY] - n
    for index in range(left):
        ready[index] = ready[n + index]
    counts[N_READY] = left
