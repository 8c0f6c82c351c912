"""Converts flow records to a ``FlowBatch``, with their kept segments as Arrow lists.

The kernels write into slabs that Arrow takes over as they are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from apptell.flows.addresses import ADDRESS_TEXT, write_addresses
from apptell.flows.clients import find_clients
from apptell.flows.community_id import community_ids
from apptell.flows.rare_columns import audit_columns, bits, link_columns, owner_columns
from apptell.flows.schema import (
    CLIENT_RULES,
    COLUMNS,
    END_REASONS,
    LINK,
    MAX_SEGMENTS,
    MAX_SEQUENCE,
    ORDER,
    SCHEMA,
    FlowBatch,
)
from apptell.flows.segments import NO_BLOCK, block_at
from apptell.flows.slabs import Slab, Slabs
from apptell.flows.state import (
    BLOCK_HEADER,
    DECIDED,
    FIN_A,
    FIN_B,
    RST_A,
    RST_B,
    STORED_MASK,
    UNIT,
    FlowMemory,
)
from apptell.flows.tcp import signed_difference
from apptell.kernels.compiled import kernel
from apptell.packets.byte_fields import copy_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.capture.batch import Owner
    from apptell.packets.links import LinkReader


_BY_CLOSE, _BY_RESET = END_REASONS.index("closed"), END_REASONS.index("reset")
_RULES: Final = pa.array(CLIENT_RULES, pa.string())
_REASONS: Final = pa.array(END_REASONS, pa.string())


@kernel
def measure(ready, n, records, arena32, segment_ends, sequence_ends):
    """Row ends of the segment and sequence lists, shape (n + 1,); returns the bytes of all segments."""
    size = 0
    segment_ends[0] = sequence_ends[0] = 0
    for index in range(n):
        flow = records[ready[index]]
        segment_ends[index + 1] = segment_ends[index] + flow.n_segments
        sequence_ends[index + 1] = sequence_ends[index] + flow.n_sequence
        block = np.int64(NO_BLOCK)
        for segment in range(flow.n_segments):
            block = block_at(flow, segment, block, arena32)
            size += arena32[block * (UNIT // 4) + 3] & STORED_MASK
    return size


@kernel
def write_lists(
    ready,
    n,
    records,
    client,
    arena,
    arena32,
    arena64,
    length,
    to_server,
    time_ns,
    offset,
    ends,
    data,
    signed,
    gap_us,
):
    """Kept segments and the longer sequence of signed lengths, seen from the client."""
    ends[0] = 0
    row, at, entry = 0, 0, 0
    sent = np.zeros(2, dtype=np.int64)
    first_sequence = np.zeros(2, dtype=np.int64)
    for index in range(n):
        flow = records[ready[index]]
        flip = -1 if client[index] else 1
        before = np.int64(0)
        sent[:] = 0
        block = np.int64(NO_BLOCK)
        for place in range(max(flow.n_sequence, flow.n_segments)):
            if place < flow.n_segments:
                block = block_at(flow, place, block, arena32)
                when = arena64[block * (UNIT // 8)]
                value = flip * arena32[block * (UNIT // 4) + 2]
                stored = arena32[block * (UNIT // 4) + 3] & STORED_MASK
                length[row] = abs(value)
                to_server[row] = value > 0
                time_ns[row] = when
                side = 0 if value > 0 else 1
                offset[row] = sent[side]
                if flow.protocol == 6:
                    sequence = np.int64(arena32[block * (UNIT // 4) + 4])
                    if sent[side] == 0:
                        first_sequence[side] = sequence
                    offset[row] = signed_difference(sequence - first_sequence[side])
                sent[side] += abs(value)
                start = block * UNIT + BLOCK_HEADER
                copy_bytes(arena, start, data, at, stored)
                at += stored
                ends[row + 1] = at
                row += 1
            else:
                more = np.int64(flow.more_sequence)
                beyond = place - flow.n_segments
                when = arena64[more * (UNIT // 8) + beyond]
                value = (
                    flip * arena32[more * (UNIT // 4) + (MAX_SEQUENCE - MAX_SEGMENTS) * 2 + beyond]
                )
            if place < flow.n_sequence:
                signed[entry] = value
                gap_us[entry] = (when - before) // 1000 if place else 0
                before = when
                entry += 1


# Rows of the matrix that ``write_totals`` fills.
_TOTALS: Final = (
    "start_ns",
    "end_ns",
    "packets_to_server",
    "packets_to_client",
    "bytes_to_server",
    "bytes_to_client",
    "payload_packets_to_server",
    "payload_packets_to_client",
    "payload_bytes_to_server",
    "payload_bytes_to_client",
    "retransmissions",
    "out_of_order",
    "decided_ns",
    "decided_packets_to_server",
    "decided_packets_to_client",
    "decided_bytes_to_server",
    "decided_bytes_to_client",
)


@kernel
def write_totals(ready, n, records, client, totals):
    """Times and counters seen from the client, shape (len(_TOTALS), n); at the end where undecided."""
    for index in range(n):
        flow = records[ready[index]]
        here, there = client[index], 1 - client[index]
        totals[0, index] = flow.start_ns
        totals[1, index] = flow.last_ns
        totals[2, index] = flow.packets[here]
        totals[3, index] = flow.packets[there]
        totals[4, index] = flow.bytes[here]
        totals[5, index] = flow.bytes[there]
        totals[6, index] = flow.payload_packets[here]
        totals[7, index] = flow.payload_packets[there]
        totals[8, index] = flow.payload_bytes[here]
        totals[9, index] = flow.payload_bytes[there]
        totals[10, index] = flow.retransmissions
        totals[11, index] = flow.out_of_order
        if flow.decided >= DECIDED:
            totals[12, index] = flow.decided_ns
            totals[13, index] = flow.decided_packets[here]
            totals[14, index] = flow.decided_packets[there]
            totals[15, index] = flow.decided_bytes[here]
            totals[16, index] = flow.decided_bytes[there]
        else:
            totals[12, index] = flow.last_ns
            for row in range(4):
                totals[13 + row, index] = totals[2 + row, index]


@kernel
def write_marks(
    ready,
    n,
    records,
    client,
    protocol,
    is_ipv6,
    ports,
    peers,
    part,
    connection,
    capture,
    reason,
    handshake,
):
    """The small columns: protocol, ports, connection, and why the flow ended."""
    for index in range(n):
        flow = records[ready[index]]
        protocol[index] = flow.protocol
        is_ipv6[index] = flow.ip_version == 6
        ports[index] = flow.high_port if client[index] else flow.low_port
        peers[index] = flow.low_port if client[index] else flow.high_port
        part[index] = flow.part
        connection[index] = flow.connection_id
        capture[index] = flow.capture
        handshake[index] = flow.has_syn
        if flow.finished & (RST_A | RST_B):
            reason[index] = _BY_RESET
        elif flow.finished & (FIN_A | FIN_B) == FIN_A | FIN_B:
            reason[index] = _BY_CLOSE
        else:
            reason[index] = flow.end_reason


def hand_out(
    memory: FlowMemory,
    ready: NDArray[np.int32],
    captures: Sequence[str],
    owners: Sequence[Owner],
    groups: frozenset[str],
    slabs: Slabs,
    known_after_ns: int | None = None,
    links: LinkReader | None = None,
) -> FlowBatch:
    """Converts flow records to a FlowBatch with the requested column groups.

    Args:
        memory: the table's.
        ready: the records of the flows, shape (n,).
        captures: names that the records' capture numbers stand for.
        owners: what the records' owner numbers stand for.
        groups: of ``schema.COLUMNS``; *core* is always there.
        slabs: memory of earlier batches.
        known_after_ns: how long after its last packet a flow whose verdict was never due is surely handed out;
            with it the columns ``schema.ORDER`` come too.
        links: what the records' link numbers stand for.
    """
    n, records = len(ready), memory.records
    ends = _Ends(memory, ready) if "segments" in groups else None
    sizes = [(n, width) for width in (1, 1, 2, 2, 4, 4, 8, 1, len(_TOTALS) * 8)]
    sizes += [(n, ADDRESS_TEXT), (n + 1, 4)] * 2
    slab = slabs.take(Slab.size(*sizes, *(ends.sizes if ends else ())))
    client = np.zeros(n, dtype=np.int64)
    rule, rules = slab.column(n, np.int8, pa.int8())
    find_clients(memory, ready, client, rule)
    protocol, protocols = slab.column(n, np.uint8, pa.uint8())
    ports, client_ports = slab.column(n, np.uint16, pa.uint16())
    peers, server_ports = slab.column(n, np.uint16, pa.uint16())
    part, parts = slab.column(n, np.int32, pa.int32())
    capture, capture_codes = slab.column(n, np.int32, pa.int32())
    connection, connections = slab.column(n, np.uint64, pa.uint64())
    reason, reasons = slab.column(n, np.int8, pa.int8())
    is_ipv6, handshake = np.empty(n, dtype=np.bool_), np.empty(n, dtype=np.bool_)
    write_marks(
        ready,
        n,
        records,
        client,
        protocol,
        is_ipv6,
        ports,
        peers,
        part,
        connection,
        capture,
        reason,
        handshake,
    )
    totals, all_totals = slab.column(len(_TOTALS) * n, np.int64, pa.int64())
    write_totals(ready, n, records, client, totals.reshape(len(_TOTALS), n))
    client_text, client_raw = _addresses(slab, records, ready, client, of_server=False)
    server_text, server_raw = _addresses(slab, records, ready, client, of_server=True)
    columns: dict[str, pa.Array] = {
        name: all_totals.slice(row * n, n) for row, name in enumerate(_TOTALS)
    }
    columns["capture"] = _names(captures, capture_codes)
    columns["connection_id"] = connections
    columns["part"] = parts
    columns["community_id"] = community_ids(protocol, client_raw, server_raw, is_ipv6, ports, peers)
    columns["protocol"] = protocols
    columns["client_address"] = client_text
    columns["client_port"] = client_ports
    columns["server_address"] = server_text
    columns["server_port"] = server_ports
    columns["client_by"] = pa.DictionaryArray.from_arrays(rules, _RULES, safe=False)
    columns["has_handshake"] = bits(handshake)
    columns["end_reason"] = pa.DictionaryArray.from_arrays(reasons, _REASONS, safe=False)
    if ends is not None:
        columns.update(_segments(slab, ends, memory, ready, client))
    if "labels" in groups:
        columns.update(owner_columns(owners, records, ready))
    if "audit" in groups:
        columns.update(audit_columns(records, ready, client))
    if "link" in groups and links is not None:
        columns.update(link_columns(links, records, ready, client))
    if known_after_ns is not None:
        columns.update(_order(records, ready, known_after_ns))
    names = _columns(groups, has_order=known_after_ns is not None)
    arrays = {name: columns[name] if name in columns else pa.nulls(n, kind) for name, kind in names}
    return FlowBatch.of_arrays(arrays, n)


@lru_cache(maxsize=32)
def _columns(groups: frozenset[str], *, has_order: bool) -> tuple[tuple[str, pa.DataType], ...]:
    """The columns of some groups, with their types."""
    wanted = {name for group in groups | {"core"} for name in COLUMNS[group]}
    stored = ((field.name, field.type) for field in SCHEMA if field.name in wanted)
    link = LINK.items() if "link" in groups else ()
    return (*stored, *link, *(ORDER.items() if has_order else ()))


def _order(
    records: NDArray[Any], ready: NDArray[np.int32], known_after_ns: int
) -> dict[str, pa.Array]:
    """Places of flows in the order of packets."""
    known = records["decided_place"][ready]
    never_due = known == 0
    known[never_due] = records["clock_ns"][ready[never_due]] + known_after_ns
    return {"start_place": pa.array(records["start_place"][ready]), "known_place": pa.array(known)}


def _names(names: Sequence[str], codes: pa.Array) -> pa.Array:
    if len(names) == 1:
        return pa.repeat(pa.scalar(names[0], pa.string()), len(codes))
    return pa.array(names, pa.string()).take(codes)


def _addresses(
    slab: Slab,
    records: NDArray[Any],
    ready: NDArray[np.int32],
    client: NDArray[np.int64],
    *,
    of_server: bool,
) -> tuple[pa.Array, NDArray[np.uint8]]:
    n = len(ready)
    text, characters = slab.cut(n * ADDRESS_TEXT, np.uint8)
    ends, starts = slab.cut(n + 1, np.int32)
    ends[0] = 0
    raw = np.empty((n, 16), dtype=np.uint8)
    write_addresses(ready, n, records, client, of_server, text, ends, raw)
    used = characters.slice(0, int(ends[-1]))
    return pa.StringArray.from_buffers(n, starts, used), raw


class _Ends:
    """Where the lists of n flows end, and so how much room they need."""

    def __init__(self, memory: FlowMemory, ready: NDArray[np.int32]) -> None:
        n = len(ready)
        self.segments = np.empty(n + 1, dtype=np.int32)
        self.sequences = np.empty(n + 1, dtype=np.int32)
        self.payload_bytes = int(
            measure(ready, n, memory.records, memory.arena32, self.segments, self.sequences)
        )
        self.n_segments, self.n_sequence = int(self.segments[-1]), int(self.sequences[-1])
        self.sizes = (
            *((self.n_segments, width) for width in (4, 4, 8)),
            (self.n_segments + 1, 4),
            (self.payload_bytes, 1),
            *((self.n_sequence, width) for width in (4, 8)),
        )


def _segments(
    slab: Slab,
    lists: _Ends,
    memory: FlowMemory,
    ready: NDArray[np.int32],
    client: NDArray[np.int64],
) -> dict[str, pa.Array]:
    m, k = lists.n_segments, lists.n_sequence
    length, lengths = slab.column(m, np.int32, pa.int32())
    time_ns, times = slab.column(m, np.int64, pa.int64())
    offset, offsets = slab.column(m, np.int32, pa.int32())
    ends, starts = slab.cut(m + 1, np.int32)
    data, payload = slab.cut(lists.payload_bytes, np.uint8)
    signed, signed_lengths = slab.column(k, np.int32, pa.int32())
    gap_us, gaps = slab.column(k, np.int64, pa.int64())
    to_server = np.empty(m, dtype=np.bool_)
    write_lists(
        ready,
        len(ready),
        memory.records,
        client,
        memory.arena,
        memory.arena32,
        memory.arena64,
        length,
        to_server,
        time_ns,
        offset,
        ends,
        data,
        signed,
        gap_us,
    )
    by_segment, by_entry = pa.array(lists.segments), pa.array(lists.sequences)
    blobs = pa.BinaryArray.from_buffers(pa.binary(), m, [None, starts, payload])
    return {
        "segment_length": pa.ListArray.from_arrays(by_segment, lengths),
        "segment_to_server": pa.ListArray.from_arrays(by_segment, bits(to_server)),
        "segment_time_ns": pa.ListArray.from_arrays(by_segment, times),
        "segment_offset": pa.ListArray.from_arrays(by_segment, offsets),
        "segment_bytes": pa.ListArray.from_arrays(by_segment, blobs),
        "sequence_length": pa.ListArray.from_arrays(by_entry, signed_lengths),
        "sequence_gap_us": pa.ListArray.from_arrays(by_entry, gaps),
    }
