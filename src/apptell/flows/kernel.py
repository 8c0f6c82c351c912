"""Headers in, flow records out: the flow table's compiled pass. It knows no link type and no clock.

The paper's flow (Section 3.1) is the bidirectional 5-tuple with 90 s of silence. ``clean`` adds what TCP
itself says: a SYN with a new sequence number begins a new connection, and bytes that were seen before are
no payload.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from apptell.flows.schema import MAX_SEGMENT_BYTES, MAX_SEGMENTS, MAX_SEQUENCE
from apptell.flows.state import (
    ACTIVE,
    BLOCK_HEADER,
    CANDIDATE,
    CLASS_OF_UNITS,
    CLOCK,
    DECIDED,
    DORMANT,
    FORGET_NS,
    KIND_SHIFT,
    MAX_HOLES,
    N_DORMANT,
    N_EARLY,
    N_FLOW_PACKETS,
    N_FREE_RECORDS,
    N_NOT_ASKED,
    N_OCCUPIED,
    N_RECORDS,
    REORDERING_NS,
    SEQUENCE_BLOCK,
    UNDECIDED,
    UNIT,
)
from apptell.flows.tcp import begins_connection, new_data
from apptell.flows.turnover import (
    BY_HANDSHAKE,
    BY_IDLE,
    decide,
    end_flow,
    give_block,
    hash_tuple,
    mix,
    take_block,
)
from apptell.packets.fields import copy_bytes

DONE, FULL_FLOWS, FULL_ARENA, FULL_BUCKETS = 0, 1, 2, 3
"""Why ``add_packets`` returns: all rows taken; no record free; no arena block free; hash table crowded."""

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16

_kernel = njit(cache=True, nogil=True)


@_kernel
def add_packets(
    rows,
    first_row,
    buffer,
    whole,
    capture,
    clean,
    want_tcp,
    want_udp,
    timeout_ns,
    max_segments,
    decision_packets,
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
    early,
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
        key = hash_tuple(low_high, low_low, high_high, high_low, ports)
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
        is_beginning = True
        reason = -1
        if record >= 0:
            flow = records[record]
            # Also by the clock, as ``sweep`` has it: flows do not depend on when it was called.
            silence_ns = counts[CLOCK] - flow.clock_ns
            if (
                flow.state != ACTIVE
                or time_ns - flow.last_ns > timeout_ns
                or silence_ns > timeout_ns + REORDERING_NS
            ):
                is_beginning = silence_ns > max(FORGET_NS, timeout_ns + REORDERING_NS)
                reason = BY_IDLE
            if (
                clean
                and is_tcp
                and header.flags & (_SYN | _RST) == _SYN
                and begins_connection(
                    flow, way, header.flags, header.sequence, header.acknowledgement
                )
            ):
                is_beginning = True
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
                if not is_beginning:
                    part = old.part + np.int32(1)
                    connection_id = old.connection_id
                    carries = record
                if old.state == DORMANT:
                    fresh = record
                    counts[N_DORMANT] -= 1
                else:
                    if old.state == ACTIVE:
                        end_flow(record, reason, records, ready, counts)
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
                begun = mix(np.uint64(time_ns) ^ (np.uint64(header.sequence) << np.uint64(32)))
                flow.connection_id = mix(key ^ begun)
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
                flow.ttl[side] = 0  # of a direction without packets too
                flow.first_sequence[side] = 0
                flow.checksum[side] = 0
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
        flow.clock_ns = counts[CLOCK]
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
                skip, length, filled = new_data(flow, way, sequence & 0xFFFFFFFF, length)
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
            if start < 0 or start + stored > len(whole if header.is_whole else buffer):
                stored = np.int64(0)
            arena64[spare * (UNIT // 8)] = time_ns
            arena32[spare * (UNIT // 4) + 2] = signed
            arena32[spare * (UNIT // 4) + 3] = stored | (kind << KIND_SHIFT)
            target = spare * UNIT + BLOCK_HEADER
            copy_bytes(whole if header.is_whole else buffer, start, arena, target, stored)
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
        if flow.decided < DECIDED:
            if flow.payload_packets[0] + flow.payload_packets[1] >= decision_packets:
                decide(record, time_ns, records, young, counts)
            elif len(early) > 0 and flow.decided == UNDECIDED:
                flow.decided = CANDIDATE
                early[counts[N_EARLY]] = record
                counts[N_EARLY] += 1
    return len(rows), DONE
