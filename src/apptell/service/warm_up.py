"""Loads every compiled kernel of the packet path and decides a flow, before packets arrive."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.capture.columns import Columns
from apptell.capture.live import read_block
from apptell.catalogue import Catalogue
from apptell.catalogue.tables import Tables
from apptell.flows import Assembly
from apptell.flows.community_id import community_ids
from apptell.flows.hash_table import rebuild_buckets
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.flows.state import FlowMemory
from apptell.flows.turnover import evict
from apptell.names import add_names
from apptell.names.dns import DnsReader, read_messages
from apptell.names.domains import registered_domain
from apptell.names.hello import read_hellos
from apptell.names.tls import Messages
from apptell.packets.headers import HEADER, HeaderBatch
from apptell.service.trial_frames import trial_frames
from apptell.verdicts import Evidence, identify_flows
from apptell.verdicts.context import weigh_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.capture import PacketBatch
    from apptell.flows import FlowBatch, FlowOptions
    from apptell.models import Model

_FRAMES: Final = {
    6: bytes.fromhex(
        "020000000002" "020000000001" "0800"
        "4500002900004000400600000a000002c0000207"  # 10.0.0.2 to 192.0.2.7, 41 bytes
        "9c4001bb00000001000000015018ffff00000000" "16"
    ),
    17: bytes.fromhex(
        "020000000002" "020000000001" "0800"
        "4500003000004000401100000a000002c0000207"  # 48 bytes
        "9c4001bb001c0000" + "16" * 20
    ),
}  # fmt: skip
"""By IP protocol: one byte of payload over TCP, 20 over UDP, port 40000 to 443."""
_RESPONSE: Final = bytes.fromhex(
    "00018180000100010000000001610000010001c00c000100010000003c0004c0000207"
)
"""A DNS response: a single letter has the address 192.0.2.7, that of the server above."""


def warm_up(options: FlowOptions, model: Model | None, evidence: Evidence | None = None) -> None:
    """Runs the packets of one verdict through decoder, flow table and model; first runs take seconds."""
    n = DECISION_SEGMENTS if model is None else model.decision_packets
    frames = [
        _FRAMES[protocol]
        for protocol in options.transports
        if protocol in _FRAMES
        for _ in range(n)
    ]
    assembly = Assembly(
        replace(options, mode="paper", max_flows=64, decision_packets=n),
        add_names=add_names,
    )
    ended = list(assembly.add(_batch_of(frames), "warm-up"))
    table = assembly.table
    flows = [*table.take_decided(), *ended]
    for _ in identify_flows(flows, model, evidence=evidence):
        pass
    _learn_a_name(flows)
    registered_domain("a.example.com")  # reads the Public Suffix List
    _write_many_ids()
    _read_no_ring()
    _read_rare_packets(options)
    weigh_one(np.ones((2, 2), np.float32), 0, np.ones(2), 1.0, 1, np.empty(2, np.float32))
    list(table.advance(1))
    list(table.finish())


def _batch_of(frames: Sequence[bytes]) -> PacketBatch:
    """Ethernet frames, a nanosecond apart."""
    sizes = np.array([len(frame) for frame in frames])
    columns = Columns(len(frames))
    columns.set_constants(1)
    columns.offset[:] = np.cumsum(sizes) - sizes
    columns.captured[:] = columns.wire[:] = sizes
    columns.time_ns[:] = np.arange(len(frames))
    return columns.batch(np.frombuffer(b"".join(frames), dtype=np.uint8), len(frames), [])


def _read_rare_packets(options: FlowOptions) -> None:
    """Reads packets of every kind, a single packet, and a hello, and does what a growing table does."""
    assembly = Assembly(replace(options, max_flows=64), add_names=add_names)
    table = assembly.table
    packets = _batch_of(list(trial_frames()))
    for some in (packets, packets.slice(0, 1)):  # columns of one packet are of another type
        list(assembly.add(some, "warm-up"))
    table.decide_after(1.0, table.clock_ns)
    list(table.take_decided())
    list(table.finish())
    message = Messages(np.zeros(1, np.int64), np.array([0, 4]), np.zeros(4, np.uint8))
    read_hellos({"t": message})
    memory = FlowMemory(64, 0)
    rebuild_buckets(memory.arrays())
    evict(0, True, memory.arrays())


def _learn_a_name(flows: list[FlowBatch]) -> None:
    """Reads a DNS response, in memory that may be written to and in memory that may not, and remembers it."""
    data = np.frombuffer(bytearray(_RESPONSE), dtype=np.uint8)
    fixed = data.copy()
    fixed.flags.writeable = False
    DnsReader()(HeaderBatch(np.zeros(1, dtype=HEADER), fixed))
    evidence = Evidence(Catalogue(Tables()))
    start, stop = np.zeros(1, dtype=np.int64), np.array([len(data)])
    for each in (data, fixed):
        client = np.array([[0, 0x0A000002, 4]], dtype=np.uint64)
        evidence.learn(read_messages(start, stop, each, client, start))
    for batch in flows:
        evidence.resolve(batch)
        evidence.resolve(batch.with_columns(dns_name=["b"] * len(batch)))  # as a dataset keeps it


def _write_many_ids() -> None:
    """Computes so many Community IDs that the kernel does it."""
    n = 256
    addresses, ports = np.zeros((n, 16), np.uint8), np.zeros(n, np.uint16)
    is_ipv6 = np.zeros(n, np.bool_)
    community_ids(np.full(n, 6, np.uint8), addresses, addresses, is_ipv6, ports, ports)


def _read_no_ring() -> None:
    """Reads a block without packets, as an interface gives it."""
    ring = np.zeros(4096, dtype=np.uint8)
    columns = Columns(1)
    read_block(
        ring,
        ring.view(np.uint16),
        ring.view(np.uint32),
        0,
        len(ring),
        False,
        columns.offset,
        columns.captured,
        columns.wire,
        columns.time_ns,
        columns.direction,
        columns.totals,
    )


def settle() -> None:
    """Excludes all existing objects from garbage collection permanently.

    Call it once when a long-running program has loaded what it needs: traversing the million objects of its
    libraries stops every thread for more than a tenth of a second each time.
    """
    gc.collect()
    gc.freeze()
