"""Determines which side of a flow is the client, and by which rule.

The rules, in order: a handshake; a hello, request or greeting in the first segments; the service port
(RFC 6335 for the dynamic range); private against public address; who spoke first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from apptell.flows.schema import CLIENT_RULES, DECISION_SEGMENTS
from apptell.flows.state import BLOCK_HEADER, ENDED, STORED_MASK, UNIT
from apptell.kernels.compiled import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

    from numpy.typing import NDArray

    from apptell.flows.state import FlowMemory

BY_HANDSHAKE, BY_SIGNATURE, BY_LOCAL, BY_PORT, BY_PRIVATE, BY_FIRST = range(len(CLIENT_RULES))
_HALF = (1 << 64) - 1


@inlined
def _speaks_as(arena, at, stored, is_tcp):
    """What the first bytes of a segment say about their sender: 1 client, 2 server, 0 nothing."""
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


@inlined
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


@inlined
def _client_by_evidence(flow, arena, arena32, service_ports):
    """The client by what the flow itself shows, without its handshake: (side 0 A or 1 B, rule)."""
    for segment in range(min(flow.n_segments, DECISION_SEGMENTS)):
        block = np.int64(flow.segment[segment])
        stored = arena32[block * (UNIT // 4) + 3] & STORED_MASK
        said = _speaks_as(arena, block * UNIT + BLOCK_HEADER, stored, flow.protocol == 6)
        if said:
            sender = 0 if arena32[block * (UNIT // 4) + 2] > 0 else 1
            return (sender if said == 1 else 1 - sender), BY_SIGNATURE
    low_serves, high_serves = service_ports[flow.low_port], service_ports[flow.high_port]
    if low_serves == high_serves:
        # else the dynamic range decides (RFC 6335; Linux begins at 32768)
        low_serves, high_serves = flow.low_port < 32768, flow.high_port < 32768
    if low_serves != high_serves:
        return (1 if low_serves else 0), BY_PORT
    low_private = _is_private(flow.low_high, flow.low_low, flow.ip_version)
    high_private = _is_private(flow.high_high, flow.high_low, flow.ip_version)
    if low_private != high_private:
        return (0 if low_private else 1), BY_PRIVATE
    return np.int64(flow.first_from), BY_FIRST


@inlined
def client_of(flow, arena, arena32, service_ports):
    """The client of a flow: (side 0 A or 1 B, rule).

    The handshake decides if there is one. Otherwise the result of an earlier part of the connection is kept
    unless this part has stronger evidence.
    """
    if flow.client and flow.client_rule == BY_HANDSHAKE:
        return np.int64(flow.client) - 1, BY_HANDSHAKE
    side, rule = _client_by_evidence(flow, arena, arena32, service_ports)
    if flow.client and flow.client_rule <= rule:
        return np.int64(flow.client) - 1, np.int64(flow.client_rule)
    return side, rule


@kernel
def tell_clients(ready, n, memory, client, rule):
    """Side (0 A, 1 B) of the client of each flow, and the rule that decided; what a live verdict knows.

    Flows that have ended remember it, for later parts of their connections.
    """
    arena, arena32, service_ports = memory.arena, memory.arena32, memory.service_ports
    for index in range(n):
        flow = memory.records[ready[index]]
        side, by = client_of(flow, arena, arena32, service_ports)
        client[index], rule[index] = side, by
        if flow.state == ENDED:
            flow.client, flow.client_rule = 1 + side, by


def find_clients(
    memory: FlowMemory,
    ready: NDArray[np.int32],
    client: NDArray[np.int64],
    rule: NDArray[np.int8],
) -> None:
    """Side of the client of each flow and the rule that decided, as ``tell_clients`` writes them.

    A side in one of the networks of ``memory.local`` is the client where only weaker rules decide, if the
    other side is not in one.
    """
    tell_clients(ready, len(ready), memory.arrays(), client, rule)
    if not memory.local:
        return
    flows = memory.records[ready]
    low = _is_local(flows["low_high"], flows["low_low"], flows["ip_version"], memory.local)
    high = _is_local(flows["high_high"], flows["high_low"], flows["ip_version"], memory.local)
    chosen = (low != high) & (rule > BY_SIGNATURE)
    client[chosen] = np.where(low[chosen], 0, 1)
    rule[chosen] = BY_LOCAL


def _is_local(
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    version: NDArray[np.uint8],
    networks: Sequence[IPv4Network | IPv6Network],
) -> NDArray[np.bool_]:
    """Whether addresses are in one of some networks, shape (n,)."""
    found = np.zeros(len(high), dtype=np.bool_)
    for network in networks:
        mask, address = int(network.netmask), int(network.network_address)
        is_in = version == network.version
        is_in &= high & np.uint64(mask >> 64) == np.uint64(address >> 64)
        is_in &= low & np.uint64(mask & _HALF) == np.uint64(address & _HALF)
        found |= is_in
    return found
