"""Headers in, flow records out: the flow table's compiled pass. It knows no link type and no clock.

The paper's flow (Section 3.1) is the bidirectional 5-tuple with 90 s of silence. ``clean`` adds what TCP
itself says: a SYN with a new sequence number begins a new connection, and bytes that were seen before are
no payload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from apptell.flows.hashing import mix, stable_hash, tuple_of_packet
from apptell.flows.heads import block_needed, is_compared, new_in_head
from apptell.flows.lookup import find_flow
from apptell.flows.segments import (
    NO_BLOCK,
    give_block,
    keep_bytes,
    keep_length,
    take_block,
)
from apptell.flows.state import (
    ACTIVE,
    CANDIDATE,
    DECIDED,
    DORMANT,
    FORGET_NS,
    MAX_HOLES,
    REORDERING_NS,
    UNDECIDED,
)
from apptell.flows.tcp import begins_connection, new_data
from apptell.flows.turnover import BY_HANDSHAKE, BY_IDLE, decide, end_flow
from apptell.kernels.compiled import inlined, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

DONE, FULL_FLOWS, FULL_ARENA, FULL_BUCKETS = 0, 1, 2, 3
"""Why ``add_packets`` returns: all rows taken; no record free; no arena block free; hash table crowded."""

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16


class Packets(NamedTuple):
    """Decoded packets of one capture."""

    rows: NDArray[Any]
    """Shape (n,), dtype ``packets.headers.HEADER``."""
    buffer: NDArray[np.uint8]
    """The bytes that the rows point into."""
    whole: NDArray[np.uint8]
    """The bytes that they point into where ``is_whole`` is set."""
    capture: int
    """The capture's number."""


class Rules(NamedTuple):
    """How packets become flows: ``FlowOptions`` as the kernel takes them."""

    clean: bool
    """Whether TCP's own signs count."""
    tcp: bool
    """Whether TCP packets become flows."""
    udp: bool
    """Whether UDP packets do."""
    timeout_ns: int
    """Silence that ends a flow."""
    max_segments: int
    """Payload segments whose bytes are kept."""
    decision_packets: int
    """Payload packets after which a verdict is due."""
    share: int
    """Which of the shares of all tuples this table takes."""
    n_shares: int
    """How many shares there are."""


@kernel
def add_packets(packets, first_row, rules, memory):
    """Adds packets ``rows[first_row:]``; returns (next row to add, DONE or what is full).

    A row is taken whole or not at all: every block and record it needs is taken before it counts.
    """
    # Arrays are taken out of the tuples once: inside the loop that would count references, which costs more
    # than the rest of a packet's work.
    rows, buffer, whole, capture = packets
    records, buckets, secret, arena, arena32, arena64 = memory[:6]
    free_records, ready, young, early, counters = memory[6:]
    max_occupied = len(buckets) // 4 * 3
    for row in range(first_row, len(rows)):
        header = rows[row]
        if header.status != 0:
            continue
        is_tcp = header.protocol == 6
        if not (rules.tcp if is_tcp else rules.udp):
            counters.n_not_asked += 1
            continue
        if counters.n_occupied >= max_occupied:
            return row, FULL_BUCKETS
        if header.time_ns > counters.clock_ns:
            counters.clock_ns = header.time_ns
        key, way = tuple_of_packet(header)
        if rules.n_shares > 1:
            number = (stable_hash(key) >> np.uint64(40)) % np.uint64(rules.n_shares)
            if number != np.uint64(rules.share):
                continue  # another table's tuple
        bucket, record = find_flow(key, secret, buckets, records)
        reason, is_beginning = -1, True
        if record >= 0:
            reason, is_beginning = what_ends(records[record], header, way, rules, counters)
        is_new = record < 0 or reason >= 0
        # Take what the packet needs, or give up before anything is changed.
        if is_new and not (record >= 0 and records[record].state == DORMANT):
            if counters.n_free_records == 0 and counters.n_records >= len(records):
                return row, FULL_FLOWS
        keeps_bytes, kind = block_needed(
            header, records[record], way, is_new, rules.max_segments, arena, arena32
        )
        block = np.int64(NO_BLOCK)
        if kind >= 0:
            block = take_block(kind, arena32, counters)
            if block < 0:
                return row, FULL_ARENA
        counters.n_flow_packets += 1
        if is_new:
            before = record
            if before >= 0 and records[before].state == ACTIVE:
                end_flow(before, reason, records, ready, counters)
            record = take_record(before, bucket, records, buckets, free_records, counters)
            begin_flow(records[record], header, key, way, capture)
            if is_beginning:
                begin_connection(records[record], header, key)
            else:
                carry_on(records[record], records[before])
        flow = records[record]
        count_packet(flow, header, way, counters)
        skip, length = np.int64(0), np.int64(header.payload)
        if is_tcp:
            skip, length, is_late = read_tcp(flow, header, way, rules.clean)
            if rules.clean and header.payload > 0 and header.flags & _RST == 0:
                if length < header.payload and is_compared(flow):
                    if header.is_whole:
                        skip, length, is_late = new_in_head(
                            header, whole, flow, way, arena, arena32
                        )
                    else:
                        skip, length, is_late = new_in_head(
                            header, buffer, flow, way, arena, arena32
                        )
                if length == 0:
                    flow.retransmissions += 1
                elif is_late:
                    flow.out_of_order += 1
        if length <= 0:
            if block >= 0:
                give_block(block, kind, arena32, counters)
            continue
        flow.payload_packets[way] += 1
        flow.payload_bytes[way] += length
        signed = length if way == 0 else -length
        if not keeps_bytes:
            keep_length(header, flow, signed, block, arena32, arena64)
        elif header.is_whole:
            keep_bytes(header, whole, flow, skip, signed, block, kind, arena, arena32, arena64)
        else:
            keep_bytes(header, buffer, flow, skip, signed, block, kind, arena, arena32, arena64)
        if flow.decided < DECIDED:
            if flow.payload_packets[0] + flow.payload_packets[1] >= rules.decision_packets:
                decide(record, header.time_ns, records, young, counters)
            elif len(early) > 0 and flow.decided == UNDECIDED:
                flow.decided = CANDIDATE
                early[counters.n_early] = record
                counters.n_early += 1
    return len(rows), DONE


@inlined
def what_ends(flow, header, way, rules, counters):
    """Why a packet of a flow's tuple ends that flow, -1 where it does not; does a connection begin?

    Silence is also measured by the clock, as ``sweep`` has it: flows do not depend on when it was called.
    """
    reason, is_beginning = -1, True
    silence_ns = counters.clock_ns - flow.clock_ns
    if (
        flow.state != ACTIVE
        or header.time_ns - flow.last_ns > rules.timeout_ns
        or silence_ns > rules.timeout_ns + REORDERING_NS
    ):
        is_beginning = silence_ns > max(FORGET_NS, rules.timeout_ns + REORDERING_NS)
        reason = BY_IDLE
    if (
        rules.clean
        and header.protocol == 6
        and header.flags & (_SYN | _RST) == _SYN
        and begins_connection(flow, way, header.flags, header.sequence, header.acknowledgement)
    ):
        is_beginning = True
        reason = BY_HANDSHAKE if reason < 0 else reason
    return reason, is_beginning


@inlined
def take_record(before, bucket, records, buckets, free_records, counters):
    """A record for a new flow, in its tuple's bucket.

    Args:
        before: record of the tuple's flow so far, or -1. A dormant one is used again.
        bucket: the tuple's bucket.
        records: the table's.
        buckets: the table's.
        free_records: the table's.
        counters: the table's.
    """
    if before >= 0 and records[before].state == DORMANT:
        counters.n_dormant -= 1
        return before
    if before >= 0:
        records[before].bucket = -1
    else:
        counters.n_occupied += 1
    if counters.n_free_records > 0:
        counters.n_free_records -= 1
        record = np.int64(free_records[counters.n_free_records])
    else:
        record = counters.n_records
        counters.n_records += 1
    buckets[bucket] = np.int32(record)
    records[record].bucket = bucket
    return record


@inlined
def begin_flow(flow, header, key, way, capture):
    """Makes a record that of a new flow; what it knows of the connection stays as it was."""
    flow.low_high, flow.low_low = key.low_high, key.low_low
    flow.high_high, flow.high_low = key.high_high, key.high_low
    flow.low_port = key.ports >> np.uint64(32)
    flow.high_port = (key.ports >> np.uint64(8)) & np.uint64(0xFFFF)
    flow.protocol, flow.ip_version = header.protocol, header.ip_version
    flow.state = ACTIVE
    flow.first_from = way
    flow.finished = 0
    flow.client = 0
    flow.owner_conflict = 0
    flow.owner = header.owner
    flow.capture = capture
    flow.n_segments = 0
    flow.n_sequence = 0
    flow.more_sequence = -1
    flow.decided = UNDECIDED
    flow.only_handshake = 1
    flow.start_ns = header.time_ns
    flow.last_ns = header.time_ns
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


@inlined
def begin_connection(flow, header, key):
    """Makes a new flow the first part of a connection."""
    flow.part = 0
    # tuple, time and numbering: two connections of one tuple differ
    begun = mix(np.uint64(header.time_ns) ^ (np.uint64(header.sequence) << np.uint64(32)))
    flow.connection_id = mix(stable_hash(key) ^ begun)
    for side in range(2):
        flow.has_next[side] = 0
        flow.has_initial[side] = 0
        flow.n_holes[side] = 0


@inlined
def carry_on(flow, earlier):
    """Makes a new flow the next part of an earlier one's connection; both may be the same record."""
    flow.part = earlier.part + np.int32(1)
    flow.connection_id = earlier.connection_id
    for side in range(2):
        flow.has_next[side] = earlier.has_next[side]
        flow.next[side] = earlier.next[side]
        flow.has_initial[side] = earlier.has_initial[side]
        flow.initial[side] = earlier.initial[side]
        flow.n_holes[side] = earlier.n_holes[side]
        for index in range(MAX_HOLES):
            flow.hole_start[side, index] = earlier.hole_start[side, index]
            flow.hole_end[side, index] = earlier.hole_end[side, index]


@inlined
def count_packet(flow, header, way, counters):
    """Adds a packet to a flow's times, owner and totals."""
    flow.last_ns = max(flow.last_ns, header.time_ns)
    flow.clock_ns = counters.clock_ns
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


@inlined
def read_tcp(flow, header, way, clean):
    """Takes a TCP packet's flags and sequence number; returns what ``new_data`` does."""
    skip, length, is_late = np.int64(0), np.int64(header.payload), False
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
        skip, length, is_late = new_data(flow, way, sequence & 0xFFFFFFFF, length)
    return skip, length, is_late
