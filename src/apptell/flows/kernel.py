"""Headers in, flow records out: the flow table's compiled pass. It knows no link type and no clock.

The paper's flow (Section 3.1) is the bidirectional 5-tuple with 90 s of silence. ``clean`` adds what TCP
itself says: a SYN with a new sequence number begins a new connection, and bytes that were seen before are
no payload (RFC 9293, Section 3.4: sequence numbers compare modulo 2**32).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from apptell.flows.schema import DECISION_SEGMENTS, MAX_SEGMENT_BYTES, MAX_SEGMENTS, MAX_SEQUENCE
from apptell.flows.state import (
    ACTIVE,
    BLOCK_HEADER,
    CLASS_OF_UNITS,
    CLASS_UNITS,
    CLOCK,
    DECIDED,
    DORMANT,
    ENDED,
    FREE,
    HANDED_OUT,
    KIND_SHIFT,
    MAX_HOLES,
    N_DORMANT,
    N_EVICTED,
    N_FLOW_PACKETS,
    N_FREE_RECORDS,
    N_NOT_ASKED,
    N_OCCUPIED,
    N_READY,
    N_RECORDS,
    N_UNITS,
    N_YOUNG,
    SEQUENCE_BLOCK,
    SEQUENCE_KIND,
    SWEPT,
    UNDECIDED,
    UNIT,
)

BY_IDLE, BY_HANDSHAKE, BY_CAPTURE, BY_EVICTION = 0, 1, 2, 3
DONE, FULL_FLOWS, FULL_ARENA, FULL_BUCKETS = 0, 1, 2, 3
"""Why ``add_packets`` returns: all rows taken; no record free; no arena block free; hash table crowded."""

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_FAR: Final = 1 << 26
"""A jump in sequence space that no window explains: the numbering began anew."""

_kernel = njit(cache=True, nogil=True)
_inline = njit(inline="always")


@_inline
def _signed(difference):
    """Difference of two sequence numbers modulo 2**32, as a signed number."""
    value = np.int64(difference) & 0xFFFFFFFF
    return value - 0x100000000 if value >= 0x80000000 else value


@_inline
def _mix(value):
    """Finaliser of MurmurHash3 (public domain): spreads 64 bits."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    value ^= value >> np.uint64(33)
    return value


@_inline
def _hash(low_high, low_low, high_high, high_low, ports):
    """Hash of a 5-tuple in canonical order."""
    value = _mix(low_low ^ (ports * np.uint64(0x9E3779B97F4A7C15)))
    value = _mix(value ^ high_low ^ (low_high * np.uint64(0xD6E8FEB86659FD93)))
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
            _hash(flow.low_high, flow.low_low, flow.high_high, flow.high_low, ports)
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
        at = _hash(flow.low_high, flow.low_low, flow.high_high, flow.high_low, ports) & mask
        while buckets[np.int64(at)] >= 0:
            at = (at + np.uint64(1)) & mask
        buckets[np.int64(at)] = record
        flow.bucket = np.int32(at)


@_inline
def _end(record, reason, records, ready, counts):
    """Puts a flow on the list of those to hand out."""
    flow = records[record]
    flow.state = ENDED
    flow.end_reason = reason
    ready[counts[N_READY]] = record
    counts[N_READY] += 1


@_inline
def _decide(record, time_ns, records, young, counts):
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
            and flow.decided == UNDECIDED
            and now_ns - flow.start_ns >= after_ns
            and flow.payload_packets[0] + flow.payload_packets[1] >= min_payload_packets
        ):
            _decide(record, now_ns, records, young, counts)


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
def sweep(now_ns, idle_ns, forget_ns, records, buckets, free_records, ready, counts):
    """Ends the flows that were silent for ``idle_ns``, forgets connections silent for ``forget_ns``."""
    for record in range(counts[N_RECORDS]):
        flow = records[record]
        if flow.state == ACTIVE:
            if now_ns - flow.last_ns > idle_ns:
                _end(record, BY_IDLE, records, ready, counts)
        elif flow.state == DORMANT and now_ns - flow.last_ns > forget_ns:
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
            _end(record, BY_EVICTION, records, ready, counts)
            counts[N_EVICTED] += 1


@_kernel
def end_all(reason, records, ready, counts):
    """Ends every active flow."""
    for record in range(counts[N_RECORDS]):
        if records[record].state == ACTIVE:
            _end(record, reason, records, ready, counts)


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


@_inline
def _new_data(flow, way, sequence, length):
    """What a segment adds to its direction: (skipped bytes, new bytes, filled a gap).

    Bytes below the highest one seen count only where they fill a remembered gap.
    """
    if not flow.has_next[way]:
        flow.has_next[way] = 1
        flow.next[way] = np.uint32((sequence + length) & 0xFFFFFFFF)
        return np.int64(0), length, False
    ahead = _signed(sequence - np.int64(flow.next[way]))
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
        start = _signed(np.int64(flow.hole_start[way, index]) - sequence)
        end = _signed(np.int64(flow.hole_end[way, index]) - sequence)
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


@_inline
def _begins_connection(flow, way, flags, sequence, acknowledgement):
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


@_kernel
def add_packets(
    rows,
    first_row,
    buffer,
    capture,
    clean,
    want_tcp,
    want_udp,
    timeout_ns,
    max_segments,
    share,
    n_shares,
    records,
    buckets,
    arena,
    arena32,
    arena64,
    free_blocks,
    free_records,
    ready,
    young,
    counts,
):
    """Adds packets ``rows[first_row:]``; returns (next row to add, DONE or what is full).

    A row is taken whole or not at all: every block and record it needs is taken before it counts.
    """
    mask = np.uint64(len(buckets) - 1)
    max_occupied = len(buckets) // 4 * 3
    for row in range(first_row, len(rows)):
        header = rows[row]
        if header.status != 0:
            continue
        is_tcp = header.protocol == 6
        if not (want_tcp if is_tcp else want_udp):
            counts[N_NOT_ASKED] += 1
            continue
        if counts[N_OCCUPIED] >= max_occupied:
            return row, FULL_BUCKETS
        time_ns = header.time_ns
        way = 0
        if header.source_high > header.target_high or (
            header.source_high == header.target_high
            and (
                header.source_low > header.target_low
                or (
                    header.source_low == header.target_low
                    and header.source_port > header.target_port
                )
            )
        ):
            way = 1
            low_high, low_low, low_port = header.target_high, header.target_low, header.target_port
            high_high, high_low, high_port = (
                header.source_high,
                header.source_low,
                header.source_port,
            )
        else:
            low_high, low_low, low_port = header.source_high, header.source_low, header.source_port
            high_high, high_low, high_port = (
                header.target_high,
                header.target_low,
                header.target_port,
            )
        ports = (
            (np.uint64(low_port) << np.uint64(32))
            | (np.uint64(high_port) << np.uint64(8))
            | np.uint64(header.protocol)
        )
        key = _hash(low_high, low_low, high_high, high_low, ports)
        if time_ns > counts[CLOCK]:
            counts[CLOCK] = time_ns
        if n_shares > 1 and (key >> np.uint64(40)) % np.uint64(n_shares) != np.uint64(share):
            continue  # another table's tuple
        at = key & mask
        record = np.int64(-1)
        while True:
            candidate = np.int64(buckets[np.int64(at)])
            if candidate < 0:
                break
            flow = records[candidate]
            if (
                flow.low_low == low_low
                and flow.high_low == high_low
                and flow.low_port == low_port
                and flow.high_port == high_port
                and flow.low_high == low_high
                and flow.high_high == high_high
                and flow.protocol == header.protocol
                and flow.ip_version == header.ip_version
            ):
                record = candidate
                break
            at = (at + np.uint64(1)) & mask
        # What becomes of the tuple's flow so far.
        begins_connection = True
        reason = -1
        if record >= 0:
            flow = records[record]
            if flow.state != ACTIVE or time_ns - flow.last_ns > timeout_ns:
                begins_connection = False
                reason = BY_IDLE
            if (
                clean
                and is_tcp
                and header.flags & (_SYN | _RST) == _SYN
                and _begins_connection(
                    flow, way, header.flags, header.sequence, header.acknowledgement
                )
            ):
                begins_connection = True
                reason = BY_HANDSHAKE if reason < 0 else reason
        is_new = record < 0 or reason >= 0
        # Take what the packet needs, or give up before anything is changed.
        payload = np.int64(header.payload)
        if is_new and not (record >= 0 and records[record].state == DORMANT):
            if counts[N_FREE_RECORDS] == 0 and counts[N_RECORDS] >= len(records):
                return row, FULL_FLOWS
        n_segments, n_sequence, more_sequence = np.int64(0), np.int64(0), np.int64(-1)
        if not is_new:
            n_segments = np.int64(records[record].n_segments)
            n_sequence = np.int64(records[record].n_sequence)
            more_sequence = np.int64(records[record].more_sequence)
        keeps_bytes = n_segments < max_segments and n_segments == n_sequence
        spare, kind = np.int64(-1), np.int64(0)
        if payload > 0 and (keeps_bytes or (n_sequence < MAX_SEQUENCE and more_sequence < 0)):
            size = SEQUENCE_BLOCK
            if keeps_bytes:
                size = BLOCK_HEADER + min(np.int64(header.payload_captured), MAX_SEGMENT_BYTES)
            kind = CLASS_OF_UNITS[(size + UNIT - 1) // UNIT]
            spare = take_block(kind, arena32, free_blocks, counts)
            if spare < 0:
                return row, FULL_ARENA
        counts[N_FLOW_PACKETS] += 1
        if is_new:
            part = np.int32(0)
            connection_id = np.uint64(0)
            carries = np.int64(-1)
            if record >= 0:
                old = records[record]
                bucket = old.bucket
                if not begins_connection:
                    part = old.part + np.int32(1)
                    connection_id = old.connection_id
                    carries = record
                if old.state == DORMANT:
                    fresh = record
                    counts[N_DORMANT] -= 1
                else:
                    if old.state == ACTIVE:
                        _end(record, reason, records, ready, counts)
                    old.bucket = -1
                    if counts[N_FREE_RECORDS] > 0:
                        counts[N_FREE_RECORDS] -= 1
                        fresh = np.int64(free_records[counts[N_FREE_RECORDS]])
                    else:
                        fresh = counts[N_RECORDS]
                        counts[N_RECORDS] += 1
            else:
                bucket = np.int32(at)
                counts[N_OCCUPIED] += 1
                if counts[N_FREE_RECORDS] > 0:
                    counts[N_FREE_RECORDS] -= 1
                    fresh = np.int64(free_records[counts[N_FREE_RECORDS]])
                else:
                    fresh = counts[N_RECORDS]
                    counts[N_RECORDS] += 1
            buckets[bucket] = np.int32(fresh)
            flow = records[fresh]
            flow.low_high, flow.low_low, flow.low_port = low_high, low_low, low_port
            flow.high_high, flow.high_low, flow.high_port = high_high, high_low, high_port
            flow.protocol, flow.ip_version = header.protocol, header.ip_version
            flow.state = ACTIVE
            flow.bucket = bucket
            flow.first_from = way
            flow.finished = 0
            flow.client = 0
            flow.owner_conflict = 0
            flow.owner = header.owner
            flow.capture = capture
            flow.n_segments = 0
            flow.n_sequence = 0
            flow.more_sequence = -1
            flow.decided = 0
            flow.only_handshake = 1
            flow.start_ns = time_ns
            flow.last_ns = time_ns
            flow.part = part
            if carries >= 0:
                flow.connection_id = connection_id
            else:  # tuple, time and numbering: two connections of one tuple differ
                begun = _mix(np.uint64(time_ns) ^ (np.uint64(header.sequence) << np.uint64(32)))
                flow.connection_id = _mix(key ^ begun)
            flow.retransmissions = 0
            flow.out_of_order = 0
            flow.decided_ns = 0
            for side in range(2):
                flow.packets[side] = 0
                flow.bytes[side] = 0
                flow.payload_packets[side] = 0
                flow.payload_bytes[side] = 0
                flow.decided_packets[side] = 0
                flow.decided_bytes[side] = 0
                flow.seen[side] = 0
                if carries < 0:
                    flow.has_next[side] = 0
                    flow.has_initial[side] = 0
                    flow.n_holes[side] = 0
                elif carries != fresh:  # a later part of a connection knows what it has seen
                    earlier = records[carries]
                    flow.has_next[side] = earlier.has_next[side]
                    flow.next[side] = earlier.next[side]
                    flow.has_initial[side] = earlier.has_initial[side]
                    flow.initial[side] = earlier.initial[side]
                    flow.n_holes[side] = earlier.n_holes[side]
                    for index in range(MAX_HOLES):
                        flow.hole_start[side, index] = earlier.hole_start[side, index]
                        flow.hole_end[side, index] = earlier.hole_end[side, index]
            record = fresh
        flow = records[record]
        flow.last_ns = max(flow.last_ns, time_ns)
        if flow.owner != header.owner and header.owner >= 0:
            if flow.owner >= 0:
                flow.owner_conflict = 1
            else:
                flow.owner = header.owner
        flow.packets[way] += 1
        flow.bytes[way] += np.int64(header.ip_bytes)
        if not flow.seen[way]:
            flow.seen[way] = 1
            flow.ttl[way] = header.ttl
            flow.first_sequence[way] = header.sequence
            flow.checksum[way] = header.checksum
        skip = np.int64(0)
        length = payload
        if is_tcp:
            flags = header.flags
            sequence = np.int64(header.sequence)
            if flags & _SYN:
                flow.has_initial[way] = 1
                flow.initial[way] = header.sequence
                if flow.client == 0:
                    from_client = flags & _ACK == 0
                    flow.client = 1 + (way if from_client else 1 - way)
                sequence += 1
                flow.has_next[way] = 1 if clean else 0
                flow.next[way] = np.uint32(sequence & 0xFFFFFFFF)
                flow.n_holes[way] = 0
            else:
                flow.only_handshake = 0
            if flags & _RST:
                flow.finished |= 4
                if clean:
                    length = np.int64(0)  # RFC 9293, Section 3.5.3: text in a RST is a diagnostic
            elif flags & _FIN:
                flow.finished |= 1 + way
            if clean and length > 0:
                skip, length, filled = _new_data(flow, way, sequence & 0xFFFFFFFF, length)
                if length == 0:
                    flow.retransmissions += 1
                elif filled:
                    flow.out_of_order += 1
        if length <= 0:
            if spare >= 0:
                give_block(spare, kind, arena32, free_blocks)
            continue
        flow.payload_packets[way] += 1
        flow.payload_bytes[way] += length
        signed = length if way == 0 else -length
        if keeps_bytes:
            stored = max(
                min(min(length, np.int64(header.payload_captured) - skip), MAX_SEGMENT_BYTES), 0
            )
            start = header.payload_at + skip
            if start < 0 or start + stored > len(buffer):
                stored = np.int64(0)
            arena64[spare * (UNIT // 8)] = time_ns
            arena32[spare * (UNIT // 4) + 2] = signed
            arena32[spare * (UNIT // 4) + 3] = stored | (kind << KIND_SHIFT)
            target = spare * UNIT + BLOCK_HEADER
            arena[target : target + stored] = buffer[start : start + stored]
            flow.segment[n_segments] = spare
            flow.n_segments = n_segments + 1
            flow.n_sequence = n_sequence + 1
        elif n_sequence < MAX_SEQUENCE and n_sequence - n_segments < MAX_SEQUENCE - MAX_SEGMENTS:
            if more_sequence < 0:
                flow.more_sequence = spare
            block = np.int64(flow.more_sequence)
            beyond = n_sequence - n_segments
            arena64[block * (UNIT // 8) + beyond] = time_ns
            arena32[block * (UNIT // 4) + (MAX_SEQUENCE - MAX_SEGMENTS) * 2 + beyond] = signed
            flow.n_sequence = n_sequence + 1
        if (
            not flow.decided
            and flow.payload_packets[0] + flow.payload_packets[1] >= DECISION_SEGMENTS
        ):
            _decide(record, time_ns, records, young, counts)
    return len(rows), DONE
