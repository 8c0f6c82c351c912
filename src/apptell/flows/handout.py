"""Flow records in, FlowBatch out: who is client, addresses as text, kept segments as Arrow lists.

The kernel writes plain arrays; Arrow takes them over without a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numba import njit

from apptell.flows.community_id import community_ids
from apptell.flows.schema import (
    CLIENT_RULES,
    DECISION_SEGMENTS,
    END_REASONS,
    GROUPS,
    MAX_SEGMENTS,
    MAX_SEQUENCE,
    SCHEMA,
    FlowBatch,
)
from apptell.flows.state import BLOCK_HEADER, DECIDED, KIND_SHIFT, UNIT, Memory
from apptell.flows.turnover import copy_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.capture.batch import Owner

_kernel = njit(cache=True, nogil=True)
_inline = njit(inline="always")

_STORED_MASK: Final = (1 << KIND_SHIFT) - 1
_ADDRESS_TEXT: Final = 46

BY_HANDSHAKE, BY_SIGNATURE, BY_PORT, BY_PRIVATE, BY_FIRST = range(len(CLIENT_RULES))
_BY_CLOSE, _BY_RESET = END_REASONS.index("closed"), END_REASONS.index("reset")

_SERVICE_PORTS: Final = np.zeros(65536, dtype=np.bool_)
"""Ports that servers listen on: the system ports and the registered ones that phones meet."""
_SERVICE_PORTS[:1024] = True
_SERVICE_PORTS[
    [1194, 1433, 1521, 1701, 1723, 1883, 1935, 2049, 2195, 2196, 3128, 3306, 3389, 3478, 3479, 3544]
    + [
        4244,
        4443,
        4500,
        4789,
        5004,
        5060,
        5061,
        5222,
        5223,
        5228,
        5229,
        5230,
        5242,
        5269,
        5280,
        5349,
    ]
    + [
        5353,
        5432,
        5938,
        6379,
        6443,
        6667,
        6697,
        7275,
        8000,
        8008,
        8009,
        8080,
        8081,
        8443,
        8448,
        8883,
    ]
    + [8888, 9000, 9001, 9092, 9443, 14230, 19302, 25565, 27017, 51820, 64738]
] = True


@_inline
def _speaks_as(arena, at, stored, is_tcp):
    """What the first bytes of a segment say of their sender: 1 client, 2 server, 0 nothing."""
    if stored < 4:
        return 0
    b0, b1, b2, b3 = arena[at], arena[at + 1], arena[at + 2], arena[at + 3]
    if is_tcp:
        if b0 == 22 and b1 == 3 and stored >= 6:  # TLS handshake: hello of client or server
            if arena[at + 5] == 1:
                return 1
            if arena[at + 5] == 2:
                return 2
            return 0
        word = (np.int64(b0) << 24) | (np.int64(b1) << 16) | (np.int64(b2) << 8) | np.int64(b3)
        if (
            word == 0x47455420  # "GET "
            or word == 0x504F5354  # "POST"
            or word == 0x48454144  # "HEAD"
            or word == 0x50555420  # "PUT "
            or word == 0x4F505449  # "OPTI"
            or word == 0x434F4E4E  # "CONN"
            or word == 0x44454C45  # "DELE"
            or word == 0x50415443  # "PATC"
            or word == 0x50524920  # "PRI ": HTTP/2
            or word == 0x45484C4F  # "EHLO"
        ):
            return 1
        if (
            word == 0x48545450  # "HTTP"
            or word == 0x2B4F4B20  # "+OK "
            or word == 0x2A204F4B  # "* OK"
            or (b0 == 50 and b1 == 50 and b2 == 48 and (b3 == 32 or b3 == 45))  # "220 ", "220-"
        ):
            return 2
        return 0
    if (
        stored >= 20 and arena[at + 4] == 0x21 and arena[at + 5] == 0x12 and arena[at + 6] == 0xA4
    ):  # STUN
        if b0 == 0 and b1 == 1:
            return 1
        if b0 == 1:
            return 2
    return 0


@_inline
def _is_private(high, low, version):
    """Whether an address belongs to a site or link (RFC 1918, 6598, 3927, 4193, 4291)."""
    if version == 4:
        return (
            low >> np.uint64(24) == 10
            or low >> np.uint64(20) == 0xAC1
            or low >> np.uint64(16) == 0xC0A8
            or low >> np.uint64(22) == (100 << 2) + 1
            or low >> np.uint64(16) == 0xA9FE
            or low >> np.uint64(24) == 127
        )
    return high >> np.uint64(57) == 0x7E or high >> np.uint64(54) == 0x3FA


@_kernel
def tell_clients(ready, n, records, arena, arena32, service_ports, client, rule):
    """Side (0 A, 1 B) of the client of each flow, and the rule that decided; what a live verdict knows."""
    for index in range(n):
        flow = records[ready[index]]
        if flow.client:
            client[index] = flow.client - 1
            rule[index] = BY_HANDSHAKE
            continue
        decided = False
        for segment in range(min(flow.n_segments, DECISION_SEGMENTS)):
            block = np.int64(flow.segment[segment])
            stored = arena32[block * (UNIT // 4) + 3] & _STORED_MASK
            said = _speaks_as(arena, block * UNIT + BLOCK_HEADER, stored, flow.protocol == 6)
            if said:
                sender = 0 if arena32[block * (UNIT // 4) + 2] > 0 else 1
                client[index] = sender if said == 1 else 1 - sender
                rule[index] = BY_SIGNATURE
                decided = True
                break
        if decided:
            continue
        low_serves, high_serves = service_ports[flow.low_port], service_ports[flow.high_port]
        if (
            low_serves == high_serves
        ):  # else the dynamic range speaks (RFC 6335; Linux begins at 32768)
            low_serves, high_serves = flow.low_port < 32768, flow.high_port < 32768
        if low_serves != high_serves:
            client[index] = 1 if low_serves else 0
            rule[index] = BY_PORT
            continue
        low_private = _is_private(flow.low_high, flow.low_low, flow.ip_version)
        high_private = _is_private(flow.high_high, flow.high_low, flow.ip_version)
        if low_private != high_private:
            client[index] = 0 if low_private else 1
            rule[index] = BY_PRIVATE
            continue
        client[index] = flow.first_from
        rule[index] = BY_FIRST


@_inline
def _write_decimal(value, text, at):
    if value >= 100:
        text[at] = 48 + value // 100
        at += 1
    if value >= 10:
        text[at] = 48 + value // 10 % 10
        at += 1
    text[at] = 48 + value % 10
    return at + 1


@_kernel
def write_address(high, low, version, text, at):
    """Writes an address as text (RFC 5952); returns where it ends."""
    if version == 4:
        for octet in range(4):
            if octet:
                text[at] = 46
                at += 1
            at = _write_decimal(
                np.int64((low >> np.uint64(24 - 8 * octet)) & np.uint64(255)), text, at
            )
        return at
    best_start, best_length, start, length = -1, 1, -1, 0
    for group in range(9):
        value = np.uint64(1)
        if group < 4:
            value = (high >> np.uint64(48 - 16 * group)) & np.uint64(0xFFFF)
        elif group < 8:
            value = (low >> np.uint64(112 - 16 * group)) & np.uint64(0xFFFF)
        if value == 0:
            if start < 0:
                start = group
            length += 1
        else:
            if length > best_length:
                best_start, best_length = start, length
            start, length = -1, 0
    group = 0
    while group < 8:
        if group == best_start:
            text[at] = 58
            text[at + 1] = 58
            at += 2
            group += best_length
            continue
        if (group and group != best_start + best_length) or (group and best_start < 0):
            text[at] = 58
            at += 1
        word = high if group < 4 else low
        value = np.int64((word >> np.uint64(48 - 16 * (group % 4))) & np.uint64(0xFFFF))
        started = False
        for shift in (12, 8, 4, 0):
            digit = (value >> shift) & 15
            if digit or started or shift == 0:
                started = True
                text[at] = 48 + digit if digit < 10 else 87 + digit
                at += 1
        group += 1
    return at


@_kernel
def write_addresses(ready, n, records, client, of_server, text, ends, raw):
    """Addresses of one role as text with end offsets, and as 16 bytes each (IPv4 in the last four)."""
    at = 0
    for index in range(n):
        flow = records[ready[index]]
        side = client[index] if not of_server else 1 - client[index]
        high = flow.low_high if side == 0 else flow.high_high
        low = flow.low_low if side == 0 else flow.high_low
        at = write_address(high, low, flow.ip_version, text, at)
        ends[index + 1] = at
        for byte in range(8):
            raw[index, byte] = (high >> np.uint64(56 - 8 * byte)) & np.uint64(255)
            raw[index, 8 + byte] = (low >> np.uint64(56 - 8 * byte)) & np.uint64(255)


@_kernel
def measure(ready, n, records, arena32, segment_ends, sequence_ends):
    """Row ends of the segment and sequence lists, shape (n + 1,); returns the bytes of all segments."""
    size = 0
    for index in range(n):
        flow = records[ready[index]]
        segment_ends[index + 1] = segment_ends[index] + flow.n_segments
        sequence_ends[index + 1] = sequence_ends[index] + flow.n_sequence
        for segment in range(flow.n_segments):
            size += arena32[np.int64(flow.segment[segment]) * (UNIT // 4) + 3] & _STORED_MASK
    return size


@_kernel
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
    ends,
    data,
    signed,
    gap_us,
):
    """Kept segments and the longer sequence of signed lengths, seen from the client."""
    row, at, entry = 0, 0, 0
    for index in range(n):
        flow = records[ready[index]]
        flip = -1 if client[index] else 1
        before = np.int64(0)
        for place in range(flow.n_sequence):
            if place < flow.n_segments:
                block = np.int64(flow.segment[place])
                when = arena64[block * (UNIT // 8)]
                value = flip * arena32[block * (UNIT // 4) + 2]
                stored = arena32[block * (UNIT // 4) + 3] & _STORED_MASK
                length[row] = abs(value)
                to_server[row] = value > 0
                time_ns[row] = when
                start = block * UNIT + BLOCK_HEADER
                copy_bytes(arena, start, data, at, stored)
                at += stored
                ends[row + 1] = at
                row += 1
            else:
                block = np.int64(flow.more_sequence)
                beyond = place - flow.n_segments
                when = arena64[block * (UNIT // 8) + beyond]
                value = (
                    flip * arena32[block * (UNIT // 4) + (MAX_SEQUENCE - MAX_SEGMENTS) * 2 + beyond]
                )
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


@_kernel
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


@_kernel
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
        handshake[index] = flow.client > 0
        if flow.finished & 4:
            reason[index] = _BY_RESET
        elif flow.finished & 3 == 3:
            reason[index] = _BY_CLOSE
        else:
            reason[index] = flow.end_reason


def hand_out(
    memory: Memory,
    ready: NDArray[np.int32],
    captures: Sequence[str],
    owners: Sequence[Owner],
    groups: frozenset[str],
) -> FlowBatch:
    """Some flows as a FlowBatch with the column groups asked for.

    Args:
        memory: the table's.
        ready: the records of the flows, shape (n,).
        captures: names that the records' capture numbers stand for.
        owners: what the records' owner numbers stand for.
        groups: of ``schema.GROUPS``; *core* is always there.
    """
    n = len(ready)
    client = np.zeros(n, dtype=np.int64)
    rule = np.zeros(n, dtype=np.int8)
    tell_clients(
        ready, n, memory.records, memory.arena, memory.arena32, _SERVICE_PORTS, client, rule
    )
    protocol = np.empty(n, dtype=np.uint8)
    is_ipv6, handshake = np.empty(n, dtype=np.bool_), np.empty(n, dtype=np.bool_)
    ports, peers = np.empty(n, dtype=np.uint16), np.empty(n, dtype=np.uint16)
    part, capture = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    connection = np.empty(n, dtype=np.uint64)
    reason = np.empty(n, dtype=np.int8)
    write_marks(
        ready,
        n,
        memory.records,
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
    totals = np.empty((len(_TOTALS), n), dtype=np.int64)
    write_totals(ready, n, memory.records, client, totals)
    client_text, client_raw = _addresses(memory, ready, client, of_server=False)
    server_text, server_raw = _addresses(memory, ready, client, of_server=True)
    columns: dict[str, Any] = dict(zip(_TOTALS, totals, strict=True))
    columns["capture"] = _names(captures, capture)
    columns["connection_id"] = connection
    columns["part"] = part
    columns["community_id"] = community_ids(protocol, client_raw, server_raw, is_ipv6, ports, peers)
    columns["protocol"] = protocol
    columns["client_address"] = client_text
    columns["client_port"] = ports
    columns["server_address"] = server_text
    columns["server_port"] = peers
    columns["client_by"] = _dictionary(rule, CLIENT_RULES)
    columns["has_handshake"] = handshake
    columns["end_reason"] = _dictionary(reason, END_REASONS)
    if "segments" in groups:
        columns.update(_segments(memory, ready, client))
    if "labels" in groups:
        columns.update(_owners(owners, memory.records[ready]))
    if "audit" in groups:
        records, every, server = memory.records[ready], np.arange(n), 1 - client
        for column, name in (
            ("ttl", "ttl"),
            ("sequence", "first_sequence"),
            ("checksum", "checksum"),
        ):
            columns[f"client_{column}"] = records[name][every, client]
            columns[f"server_{column}"] = records[name][every, server]
    fields = [field for field in SCHEMA if field.name in columns or field.name in _wanted(groups)]
    arrays = [
        _array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(n, field.type)
        for field in fields
    ]
    return FlowBatch(pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, SCHEMA.metadata)))


def _wanted(groups: frozenset[str]) -> set[str]:
    return {name for group in groups for name in GROUPS[group]}


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _dictionary(codes: NDArray[np.int8], names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(names, pa.string()))


def _names(names: Sequence[str], codes: NDArray[np.int32]) -> pa.Array:
    if len(names) == 1:
        return pa.repeat(pa.scalar(names[0], pa.string()), len(codes))
    return pa.array(names, pa.string()).take(pa.array(codes))


def _addresses(
    memory: Memory, ready: NDArray[np.int32], client: NDArray[np.int64], *, of_server: bool
) -> tuple[pa.Array, NDArray[np.uint8]]:
    n = len(ready)
    text = np.empty(n * _ADDRESS_TEXT, dtype=np.uint8)
    ends = np.zeros(n + 1, dtype=np.int32)
    raw = np.zeros((n, 16), dtype=np.uint8)
    write_addresses(ready, n, memory.records, client, of_server, text, ends, raw)
    used = text[: ends[-1]]
    return pa.StringArray.from_buffers(n, pa.py_buffer(ends), pa.py_buffer(used)), raw


def _segments(
    memory: Memory, ready: NDArray[np.int32], client: NDArray[np.int64]
) -> dict[str, pa.Array]:
    n = len(ready)
    segment_ends = np.zeros(n + 1, dtype=np.int32)
    sequence_ends = np.zeros(n + 1, dtype=np.int32)
    size = measure(ready, n, memory.records, memory.arena32, segment_ends, sequence_ends)
    m, k = int(segment_ends[-1]), int(sequence_ends[-1])
    length = np.empty(m, dtype=np.int32)
    to_server = np.empty(m, dtype=np.bool_)
    time_ns = np.empty(m, dtype=np.int64)
    ends = np.zeros(m + 1, dtype=np.int32)
    # Arrow's pool gives warm pages back that earlier batches used; the system would zero new ones
    payload = pa.allocate_buffer(size)
    data = np.frombuffer(payload, dtype=np.uint8)
    signed = np.empty(k, dtype=np.int32)
    gap_us = np.empty(k, dtype=np.int64)
    write_lists(
        ready,
        n,
        memory.records,
        client,
        memory.arena,
        memory.arena32,
        memory.arena64,
        length,
        to_server,
        time_ns,
        ends,
        data,
        signed,
        gap_us,
    )
    by_segment, by_entry = pa.array(segment_ends), pa.array(sequence_ends)
    blobs = pa.BinaryArray.from_buffers(pa.binary(), m, [None, pa.py_buffer(ends), payload])
    return {
        "segment_length": pa.ListArray.from_arrays(by_segment, pa.array(length)),
        "segment_to_server": pa.ListArray.from_arrays(by_segment, pa.array(to_server)),
        "segment_time_ns": pa.ListArray.from_arrays(by_segment, pa.array(time_ns)),
        "segment_bytes": pa.ListArray.from_arrays(by_segment, blobs),
        "sequence_length": pa.ListArray.from_arrays(by_entry, pa.array(signed)),
        "sequence_gap_us": pa.ListArray.from_arrays(by_entry, pa.array(gap_us)),
    }


def _owners(owners: Sequence[Owner], records: NDArray[Any]) -> dict[str, Any]:
    conflict = records["owner_conflict"] != 0
    if not owners:
        return {"owner_conflict": conflict}
    codes = pa.array(records["owner"], mask=records["owner"] < 0)
    return {
        "owner_uid": pa.array([owner.uid for owner in owners], pa.int32()).take(codes),
        "owner_package": pa.array([owner.package for owner in owners], pa.string()).take(codes),
        "owner_name": pa.array([owner.name for owner in owners], pa.string()).take(codes),
        "owner_conflict": conflict,
    }
