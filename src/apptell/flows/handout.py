"""Converts flow records to a ``FlowBatch``, with their kept segments as lists.

The kernels write into slabs that Arrow takes over as they are where somebody asks for it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.flows.addresses import ADDRESS_TEXT, write_side
from apptell.flows.clients import find_clients
from apptell.flows.community_id import community_ids
from apptell.flows.plain_columns import Coded, Lists, Text
from apptell.flows.rare_columns import audit_columns, link_columns, owner_columns
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


# The rows of ``CoreColumns.totals``.
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


_WIDTHS: Final = (1, 1, 2, 2, 4, 8, 4, 1, len(_TOTALS) * 8, ADDRESS_TEXT, ADDRESS_TEXT)
"""Bytes that a flow takes in a slab, by column."""


class CoreColumns(NamedTuple):
    """The columns of the group *core* of n flows, and what Community IDs are made of."""

    protocol: NDArray[np.uint8]
    is_ipv6: NDArray[np.bool_]
    client_port: NDArray[np.uint16]
    server_port: NDArray[np.uint16]
    part: NDArray[np.int32]
    connection: NDArray[np.uint64]
    capture: NDArray[np.int32]
    reason: NDArray[np.int8]
    handshake: NDArray[np.bool_]
    totals: NDArray[np.int64]
    """Times and counters seen from the client, of row r flow i at ``r * n + i``; at the end where undecided."""
    client_text: NDArray[np.uint8]
    client_ends: NDArray[np.int32]
    client: NDArray[np.uint8]
    """Addresses as 16 bytes, shape (n, 16)."""
    server_text: NDArray[np.uint8]
    server_ends: NDArray[np.int32]
    server: NDArray[np.uint8]
    places: NDArray[np.int64]
    """The columns ``schema.ORDER``, shape (2, n)."""


@kernel
def write_core(ready, n, records, client, known_after_ns, columns):
    """Fills the core columns; ``known_after_ns`` as ``hand_out`` takes it."""
    totals, reason = columns.totals, columns.reason
    columns.client_ends[0] = columns.server_ends[0] = 0
    for index in range(n):
        flow = records[ready[index]]
        here, there = client[index], 1 - client[index]
        columns.protocol[index] = flow.protocol
        columns.is_ipv6[index] = flow.ip_version == 6
        columns.client_port[index] = flow.high_port if here else flow.low_port
        columns.server_port[index] = flow.low_port if here else flow.high_port
        columns.part[index] = flow.part
        columns.connection[index] = flow.connection_id
        columns.capture[index] = flow.capture
        columns.handshake[index] = flow.has_syn
        if flow.finished & (RST_A | RST_B):
            reason[index] = _BY_RESET
        elif flow.finished & (FIN_A | FIN_B) == FIN_A | FIN_B:
            reason[index] = _BY_CLOSE
        else:
            reason[index] = flow.end_reason
        totals[index] = flow.start_ns
        totals[n + index] = flow.last_ns
        totals[2 * n + index] = flow.packets[here]
        totals[3 * n + index] = flow.packets[there]
        totals[4 * n + index] = flow.bytes[here]
        totals[5 * n + index] = flow.bytes[there]
        totals[6 * n + index] = flow.payload_packets[here]
        totals[7 * n + index] = flow.payload_packets[there]
        totals[8 * n + index] = flow.payload_bytes[here]
        totals[9 * n + index] = flow.payload_bytes[there]
        totals[10 * n + index] = flow.retransmissions
        totals[11 * n + index] = flow.out_of_order
        if flow.decided >= DECIDED:
            totals[12 * n + index] = flow.decided_ns
            totals[13 * n + index] = flow.decided_packets[here]
            totals[14 * n + index] = flow.decided_packets[there]
            totals[15 * n + index] = flow.decided_bytes[here]
            totals[16 * n + index] = flow.decided_bytes[there]
        else:
            totals[12 * n + index] = flow.last_ns
            for row in range(4):
                totals[(13 + row) * n + index] = totals[(2 + row) * n + index]
        write_side(flow, here, columns.client_text, columns.client_ends, columns.client, index)
        write_side(flow, there, columns.server_text, columns.server_ends, columns.server, index)
        columns.places[0, index] = flow.start_place
        columns.places[1, index] = flow.decided_place or flow.clock_ns + known_after_ns


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
    sizes = [(n, width) for width in _WIDTHS]
    sizes += [(n + 1, 4), (n + 1, 4), *(ends.sizes if ends else ())]
    slab = slabs.take(Slab.size(*sizes))
    client = np.zeros(n, dtype=np.int64)
    rule = slab.column(n, np.int8)
    find_clients(memory, ready, client, rule)
    core = CoreColumns(
        slab.column(n, np.uint8),
        np.empty(n, dtype=np.bool_),
        slab.column(n, np.uint16),
        slab.column(n, np.uint16),
        slab.column(n, np.int32),
        slab.column(n, np.uint64),
        slab.column(n, np.int32),
        slab.column(n, np.int8),
        np.empty(n, dtype=np.bool_),
        slab.column(len(_TOTALS) * n, np.int64),
        slab.column(n * ADDRESS_TEXT, np.uint8),
        slab.column(n + 1, np.int32),
        np.empty((n, 16), dtype=np.uint8),
        slab.column(n * ADDRESS_TEXT, np.uint8),
        slab.column(n + 1, np.int32),
        np.empty((n, 16), dtype=np.uint8),
        np.empty((2, n), dtype=np.int64),
    )
    write_core(ready, n, records, client, known_after_ns or 0, core)
    totals = core.totals
    columns: dict[str, Any] = {
        name: totals[row * n : row * n + n] for row, name in enumerate(_TOTALS)
    }
    columns["capture"] = Coded(core.capture, captures)
    columns["connection_id"] = core.connection
    columns["part"] = core.part
    columns["community_id"] = community_ids(
        core.protocol, core.client, core.server, core.is_ipv6, core.client_port, core.server_port
    )
    columns["protocol"] = core.protocol
    columns["client_address"] = Text(core.client_ends, core.client_text)
    columns["client_port"] = core.client_port
    columns["server_address"] = Text(core.server_ends, core.server_text)
    columns["server_port"] = core.server_port
    columns["client_by"] = Coded(rule, CLIENT_RULES)
    columns["has_handshake"] = core.handshake
    columns["end_reason"] = Coded(core.reason, END_REASONS)
    if ends is not None:
        columns.update(_segments(slab, ends, memory, ready, client))
    if "labels" in groups:
        columns.update(owner_columns(owners, records, ready))
    if "audit" in groups:
        columns.update(audit_columns(records, ready, client))
    if "link" in groups and links is not None:
        columns.update(link_columns(links, records, ready, client))
    if known_after_ns is not None:
        columns.update(zip(ORDER, core.places, strict=True))
    names = _columns(groups, has_order=known_after_ns is not None)
    return FlowBatch.of_columns({name: columns.get(name) for name in names}, n)


@lru_cache(maxsize=32)
def _columns(groups: frozenset[str], *, has_order: bool) -> tuple[str, ...]:
    """The names of the columns of some groups."""
    wanted = {name for group in groups | {"core"} for name in COLUMNS[group]}
    stored = (name for name in SCHEMA.names if name in wanted)
    return (*stored, *(LINK if "link" in groups else ()), *(ORDER if has_order else ()))


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
) -> dict[str, Any]:
    m, k = lists.n_segments, lists.n_sequence
    length, time_ns = slab.column(m, np.int32), slab.column(m, np.int64)
    offset, ends = slab.column(m, np.int32), slab.column(m + 1, np.int32)
    data = slab.column(lists.payload_bytes, np.uint8)
    signed, gap_us = slab.column(k, np.int32), slab.column(k, np.int64)
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
    return {
        "segment_length": Lists(lists.segments, length),
        "segment_to_server": Lists(lists.segments, to_server),
        "segment_time_ns": Lists(lists.segments, time_ns),
        "segment_offset": Lists(lists.segments, offset),
        "segment_bytes": Lists(lists.segments, Text(ends, data)),
        "sequence_length": Lists(lists.sequences, signed),
        "sequence_gap_us": Lists(lists.sequences, gap_us),
    }
