"""Changes the state of flow records: decides, ends, forgets, evicts and frees them.

The kernels take only arrays: ``state.Arrays``.
"""

from __future__ import annotations

from apptell.flows.hash_table import unlink
from apptell.flows.schema import END_REASONS
from apptell.flows.segments import give_segments_back
from apptell.flows.state import (
    ACTIVE,
    CANDIDATE,
    DECIDED,
    DORMANT,
    ENDED,
    FREE,
    HANDED_OUT,
    LINGER_NS,
    NEVER_NS,
    UNDECIDED,
)
from apptell.flows.tcp import goes_on, has_closed, take_back_reset
from apptell.kernels.compiled import inlined, kernel

BY_IDLE, BY_HANDSHAKE, BY_CAPTURE, BY_EVICTION, BY_CLOSE, _, BY_SHUTDOWN, BY_ACTIVE = range(
    len(END_REASONS)
)
"""Why a flow ended, places in ``schema.END_REASONS``; ``handout`` replaces them by the reason from TCP."""


@inlined
def end_flow(record, reason, records, ready, counters):
    """Puts an active flow on the list of those to hand out."""
    flow = records[record]
    if flow.is_closed:
        _stop_waiting(record, records, counters)
    flow.state = ENDED
    flow.end_reason = reason
    ready[counters.n_ready] = record
    counters.n_ready += 1


@inlined
def follow_close(record, way, header, length, records, counters):
    """After a packet with ``length`` new bytes: its connection is closed, and waits for its end, or goes on."""
    flow = records[record]
    if goes_on(flow, header, way, length):
        take_back_reset(flow, way)
    is_closed = has_closed(flow)
    if is_closed and not flow.is_closed:
        flow.is_closed = 1
        flow.closed_ns = counters.clock_ns
        flow.closed_before = counters.closed_last
        flow.closed_after = -1
        if counters.closed_last >= 0:
            records[counters.closed_last].closed_after = record
        else:
            counters.closed_first = record
            counters.close_due_ns = flow.closed_ns + LINGER_NS
        counters.closed_last = record
    elif flow.is_closed and not is_closed:
        _stop_waiting(record, records, counters)
        flow.is_closed = 0


@inlined
def _stop_waiting(record, records, counters):
    """Takes the flow of a closed connection out of the list of those that wait for their end."""
    before, after = records[record].closed_before, records[record].closed_after
    if before >= 0:
        records[before].closed_after = after
    else:
        counters.closed_first = after
        counters.close_due_ns = NEVER_NS if after < 0 else records[after].closed_ns + LINGER_NS
    if after >= 0:
        records[after].closed_before = before
    else:
        counters.closed_last = before


@inlined
def end_closed(now_ns, records, ready, counters):
    """Ends the flows of connections that were closed more than LINGER_NS before a time, in that order."""
    while now_ns > counters.close_due_ns:
        end_flow(counters.closed_first, BY_CLOSE, records, ready, counters)


@kernel
def end_closed_by(now_ns, memory):
    """The same, for when no packet arrives."""
    end_closed(now_ns, memory.records, memory.ready, memory.counters)


@inlined
def decide(record, time_ns, place, records, young, counters):
    """Freezes the data for a verdict; lists the flow if open flows are requested."""
    flow = records[record]
    flow.decided = DECIDED
    flow.decided_ns = time_ns
    flow.decided_place = place
    for side in range(2):
        flow.decided_packets[side] = flow.packets[side]
        flow.decided_bytes[side] = flow.bytes[side]
    if len(young) > 0:
        young[counters.n_young] = record
        counters.n_young += 1


@kernel
def decide_waiting(now_ns, after_ns, min_payload_packets, memory):
    """Decides open flows that began ``after_ns`` ago and have enough payload packets, up to the list's room."""
    for record in range(memory.counters.n_records):
        flow = memory.records[record]
        if memory.counters.n_young == len(memory.young):
            break
        if (
            flow.state == ACTIVE
            and flow.decided < DECIDED
            and now_ns - flow.start_ns >= after_ns
            and flow.payload_packets[0] + flow.payload_packets[1] >= min_payload_packets
        ):
            decide(record, now_ns, now_ns, memory.records, memory.young, memory.counters)


@kernel
def open_ones(memory):
    """Moves the listed flows that were not handed out yet to the list's beginning and empties it; how many.

    The others were handed out as finished flows; a record may be listed again for a later flow.
    """
    n = 0
    for index in range(memory.counters.n_young):
        record = memory.young[index]
        flow = memory.records[record]
        if (flow.state == ACTIVE or flow.state == ENDED) and flow.decided == DECIDED:
            flow.decided = HANDED_OUT
            memory.young[n] = record
            n += 1
    memory.counters.n_young = 0
    return n


@kernel
def candidates(memory):
    """Moves the listed flows that are still open and undecided to the list's beginning; how many."""
    n = 0
    for index in range(memory.counters.n_early):
        record = memory.early[index]
        flow = memory.records[record]
        if flow.state == ACTIVE and flow.decided == CANDIDATE:
            flow.decided = UNDECIDED
            memory.early[n] = record
            n += 1
    memory.counters.n_early = 0
    return n


@kernel
def sweep(now_ns, idle_ns, forget_ns, memory):
    """Ends the flows that were silent for ``idle_ns``, forgets connections silent for ``forget_ns``.

    Silence is measured from the clock at a flow's last packet, not from the packet's own time: after one
    packet with a time far ahead the others' flows live on.
    """
    for record in range(memory.counters.n_records):
        flow = memory.records[record]
        if flow.state == ACTIVE:
            if now_ns - flow.clock_ns > idle_ns:
                end_flow(record, BY_IDLE, memory.records, memory.ready, memory.counters)
        elif flow.state == DORMANT and now_ns - flow.clock_ns > forget_ns:
            _forget(record, memory)
    memory.counters.swept_ns = now_ns


@inlined
def _free(record, memory):
    """Puts a record that is in no bucket among the free ones."""
    memory.records[record].state = FREE
    memory.free_records[memory.counters.n_free_records] = record
    memory.counters.n_free_records += 1


@inlined
def _forget(record, memory):
    """Frees the record of a dormant connection."""
    unlink(record, memory.secret, memory.records, memory.buckets, memory.counters)
    memory.counters.n_dormant -= 1
    _free(record, memory)


@kernel
def evict(cutoff_ns, only_dormant, memory):
    """Makes room: forgets dormant connections, ends active flows, not seen after ``cutoff_ns``."""
    for record in range(memory.counters.n_records):
        flow = memory.records[record]
        if flow.last_ns > cutoff_ns:
            continue
        if flow.state == DORMANT:
            _forget(record, memory)
        elif flow.state == ACTIVE and not only_dormant:
            end_flow(record, BY_EVICTION, memory.records, memory.ready, memory.counters)
            memory.counters.n_evicted += 1


@kernel
def end_all(reason, memory):
    """Ends every active flow."""
    for record in range(memory.counters.n_records):
        if memory.records[record].state == ACTIVE:
            end_flow(record, reason, memory.records, memory.ready, memory.counters)


@kernel
def release(n, memory):
    """After the first ``n`` ready flows were handed out: their payload and, where nothing follows, records."""
    ready, counters = memory.ready, memory.counters
    for index in range(n):
        record = ready[index]
        flow = memory.records[record]
        give_segments_back(flow, memory)
        if flow.bucket >= 0:
            flow.state = DORMANT
            counters.n_dormant += 1
        else:
            _free(record, memory)
    left = counters.n_ready - n
    for index in range(left):
        ready[index] = ready[n + index]
    counters.n_ready = left
