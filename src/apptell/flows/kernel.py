"""Adds decoded packets to flow records; the compiled pass of the flow table.

The paper's flow (Section 3.1) is the bidirectional 5-tuple with 90 s of silence. ``clean`` adds what TCP
itself says: a SYN with a new sequence number begins a new connection, and bytes that were seen before are
no payload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from apptell.flows.clients import client_of
from apptell.flows.hash_table import find_flow
from apptell.flows.hashing import mix, stable_hash, tuple_of_packet
from apptell.flows.heads import block_needed, is_compared, new_in_head
from apptell.flows.schema import MAX_LATE_VIEWS
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
    ENDED,
    FIN_A,
    FIN_B,
    FORGET_NS,
    MAX_HOLES,
    REORDERING_NS,
    UNDECIDED,
)
from apptell.flows.tcp import ACK, RST, SYN, begins_connection, reaches_beyond, read_tcp
from apptell.flows.turnover import (
    BY_ACTIVE,
    BY_HANDSHAKE,
    BY_IDLE,
    decide,
    end_closed,
    end_flow,
    follow_close,
)
from apptell.kernels.compiled import inlined, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

DONE, FULL_FLOWS, FULL_ARENA, FULL_BUCKETS = 0, 1, 2, 3
"""Why ``add_packets`` returns: all rows taken; no record free; no arena block free; hash table crowded."""

STAYS, BEGINS_PART, BEGINS_CONNECTION, IS_LATE = 0, 1, 2, 3
"""What becomes of a packet: it belongs to its tuple's flow; begins the next part of the connection, or another
connection; or it is late, of a connection that was closed, and brings nothing new."""


class Packets(NamedTuple):
    """Decoded packets of one capture."""

    rows: NDArray[Any]
    """Shape (n,), dtype ``packets.headers.HEADER``."""
    places: NDArray[np.int64]
    """Their places in the order of packets (``packets.order``), shape (n,)."""
    buffer: NDArray[np.uint8]
    """The bytes that the rows point into."""
    whole: NDArray[np.uint8]
    """The bytes that they point into where ``is_whole`` is set."""
    capture: int
    """The capture's number."""
    links: NDArray[np.int32]
    """The numbers of their links (``packets.links``), shape (n,); empty if not requested."""


class FlowRules(NamedTuple):
    """How packets become flows: ``FlowOptions`` as the kernel takes them."""

    clean: bool
    """Whether TCP's own signs count."""
    tcp: bool
    """Whether TCP packets become flows."""
    udp: bool
    """Whether UDP packets do."""
    idle_ns: int
    """Silence that ends a flow."""
    active_ns: int
    """Age at which a flow is cut; 0 for never."""
    view_packets: int
    """Payload packets after which a flow is cut for the first late view of its connection; 0 for never."""
    max_segments: int
    """Payload segments whose bytes are kept."""
    decision_packets: int
    """Payload packets after which a verdict is due."""


@kernel
def add_packets(packets, first_row, rules, memory):
    """Adds packets ``rows[first_row:]``; returns (next row to add, DONE or what is full).

    A row is taken whole or not at all: every block and record it needs is taken before it counts.
    """
    # Arrays are taken out of the tuples once: inside the loop that would count references, which costs more
    # than the rest of a packet's work.
    rows, places, buffer, whole, capture, links = packets
    records, buckets, secret, arena, arena32, arena64 = memory[:6]
    free_records, service_ports, ready, young, early, counters = memory[6:]
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
            end_closed(counters.clock_ns, records, ready, counters)
        key, way = tuple_of_packet(header)
        bucket, record = find_flow(key, secret, buckets, records)
        fate, reason = BEGINS_CONNECTION, BY_IDLE
        if record >= 0:
            fate, reason = fate_of(records[record], header, way, rules, counters)
        if fate == IS_LATE:
            counters.n_after_close += 1
            continue
        is_new = fate != STAYS
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
            begin_flow(records[record], header, places[row], key, way, capture)
            records[record].link = links[row] if len(links) > 0 else -1
            if fate == BEGINS_CONNECTION:
                begin_connection(records[record], header, key)
            else:
                counters.n_parts += 1
                earlier = records[before]
                if earlier.state == ENDED:  # else it was handed out, which does the same
                    side, rule = client_of(earlier, arena, arena32, service_ports)
                    earlier.client, earlier.client_rule = 1 + side, rule
                carry_on(records[record], earlier, rules.clean)
        flow = records[record]
        count_packet(flow, header, way, counters)
        skip, length = np.int64(0), np.int64(header.payload)
        if is_tcp:
            skip, length, is_late = read_tcp(flow, header, way, rules.clean)
            if rules.clean and header.payload > 0 and header.flags & RST == 0:
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
            if rules.clean and (flow.finished or flow.is_closed):
                follow_close(record, way, header, length, records, counters)
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
                decide(record, header.time_ns, places[row], records, young, counters)
            elif len(early) > 0 and flow.decided == UNDECIDED:
                flow.decided = CANDIDATE
                early[counters.n_early] = record
                counters.n_early += 1
    return len(rows), DONE


@inlined
def fate_of(flow, header, way, rules, counters):
    """What becomes of a packet whose tuple has a flow, and why it ends that flow where it does.

    Silence is also measured by the clock, as ``sweep`` has it: flows do not depend on when it was called.
    """
    flags = header.flags
    is_tcp = rules.clean and header.protocol == 6
    silence_ns = counters.clock_ns - flow.clock_ns
    is_over = (
        flow.state != ACTIVE
        or header.time_ns - flow.last_ns > rules.idle_ns
        or silence_ns > rules.idle_ns + REORDERING_NS
    )
    if is_tcp and flags & (SYN | RST) == SYN and begins_connection(flow, way, header, is_over):
        return BEGINS_CONNECTION, BY_IDLE if is_over else BY_HANDSHAKE
    is_closed = is_tcp and flow.is_closed
    if is_over:
        if silence_ns > max(FORGET_NS, rules.idle_ns + REORDERING_NS):
            return BEGINS_CONNECTION, BY_IDLE
        if is_closed:
            if flags & (SYN | ACK | RST) == SYN:
                return BEGINS_CONNECTION, BY_IDLE
            if not reaches_beyond(flow, way, header):
                return IS_LATE, BY_IDLE
        return BEGINS_PART, BY_IDLE
    if (
        rules.active_ns > 0
        and header.time_ns - flow.start_ns > rules.active_ns
        and not flow.is_closed
    ):
        return BEGINS_PART, BY_ACTIVE
    if (
        rules.view_packets > 0
        and flow.part < MAX_LATE_VIEWS
        and header.payload > 0
        and flow.payload_packets[0] + flow.payload_packets[1] >= rules.view_packets << flow.part
        and not flow.is_closed
    ):
        return BEGINS_PART, BY_ACTIVE
    return STAYS, BY_IDLE


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
def begin_flow(flow, header, place, key, way, capture):
    """Makes a record that of a new flow; what it knows of the connection stays as it was."""
    flow.low_high, flow.low_low = key.low_high, key.low_low
    flow.high_high, flow.high_low = key.high_high, key.high_low
    flow.low_port = key.ports >> np.uint64(32)
    flow.high_port = (key.ports >> np.uint64(8)) & np.uint64(0xFFFF)
    flow.protocol, flow.ip_version = header.protocol, header.ip_version
    flow.state = ACTIVE
    flow.first_from = way
    flow.owner_conflict = 0
    flow.has_syn = 0
    flow.owner = header.owner
    flow.capture = capture
    flow.n_segments = 0
    flow.n_sequence = 0
    flow.more_sequence = -1
    flow.decided = UNDECIDED
    flow.start_ns = header.time_ns
    flow.last_ns = header.time_ns
    flow.retransmissions = 0
    flow.out_of_order = 0
    flow.decided_ns = 0
    flow.start_place = place
    flow.decided_place = 0
    for side in range(2):
        flow.packets[side] = 0
        flow.bytes[side] = 0
        flow.payload_packets[side] = 0
        flow.payload_bytes[side] = 0
        flow.decided_packets[side] = 0
        flow.decided_bytes[side] = 0
        flow.flags[side] = 0
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
    flow.client = 0
    flow.finished = 0
    flow.is_closed = 0
    flow.only_handshake = 1
    for side in range(2):
        flow.has_next[side] = 0
        flow.has_initial[side] = 0
        flow.has_acknowledged[side] = 0
        flow.n_holes[side] = 0


@inlined
def carry_on(flow, earlier, clean):
    """Makes a new flow the next part of an earlier one's connection; both may be the same record."""
    flow.part = earlier.part + np.int32(1)
    flow.connection_id = earlier.connection_id
    flow.client = earlier.client
    flow.client_rule = earlier.client_rule
    flow.only_handshake = earlier.only_handshake
    # A side that has sent its FIN has done so in later parts too, unless the end proved to be none.
    keeps_fins = clean and not earlier.is_closed
    flow.finished = earlier.finished & (FIN_A | FIN_B) if keeps_fins else 0
    flow.is_closed = 0
    for side in range(2):
        flow.end_sequence[side] = earlier.end_sequence[side]
        flow.has_acknowledged[side] = earlier.has_acknowledged[side]
        flow.acknowledged[side] = earlier.acknowledged[side]
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
    if flow.packets[way] == 0:
        flow.ttl[way] = header.ttl
        flow.first_sequence[way] = header.sequence
        flow.checksum[way] = header.checksum
    flow.packets[way] += 1
    flow.bytes[way] += np.int64(header.ip_bytes)
    flow.flags[way] |= header.flags
