"""Random flows with every column that the encodings read, and the packets they were made of."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apptell.flows.schema import MAX_SEGMENT_BYTES, MAX_SEGMENTS, MAX_SEQUENCE, FlowBatch

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Packet:
    to_server: bool
    payload: bytes
    time_us: int


@dataclass
class CraftedFlow:
    packets: list[Packet]  # payload packets only
    ports: tuple[int, int] = (40000, 443)
    empty: tuple[int, int] = (2, 2)  # packets without payload, to server and to client
    label: str | None = None
    extra: dict[str, object] = field(default_factory=dict)


def random_flow(rng: np.random.Generator, n_packets: int | None = None) -> CraftedFlow:
    n = int(rng.integers(0, 9)) if n_packets is None else n_packets
    time_us = int(rng.integers(0, 10**6))
    packets = []
    for _ in range(n):
        time_us += int(rng.integers(0, 2_000_000))
        size = int(rng.choice([1, 2, 80, 517, 1460, 1500, 1501, 2900]))
        packets.append(Packet(bool(rng.integers(2)), rng.bytes(size), time_us))
    ports = (int(rng.integers(1024, 65536)), int(rng.choice([80, 443, 5228])))
    return CraftedFlow(packets, ports, (int(rng.integers(0, 5)), int(rng.integers(0, 5))))


def batch(flows: list[CraftedFlow]) -> FlowBatch:
    """The flows as a reader would hand them out."""
    columns: defaultdict[str, list[object]] = defaultdict(list)
    for flow in flows:
        kept = flow.packets[:MAX_SEGMENTS]
        sequence = flow.packets[:MAX_SEQUENCE]
        times = [packet.time_us for packet in sequence]
        columns["protocol"].append(6)
        columns["client_port"].append(flow.ports[0])
        columns["server_port"].append(flow.ports[1])
        columns["segment_length"].append([len(p.payload) for p in kept])
        columns["segment_to_server"].append([p.to_server for p in kept])
        columns["segment_time_ns"].append([p.time_us * 1000 for p in kept])
        columns["segment_bytes"].append([p.payload[:MAX_SEGMENT_BYTES] for p in kept])
        columns["sequence_length"].append(
            [len(p.payload) if p.to_server else -len(p.payload) for p in sequence]
        )
        columns["sequence_gap_us"].append(
            [0, *(b - a for a, b in itertools.pairwise(times))] if times else []
        )
        columns["label"].append(flow.label)
        for name, to_server in (("to_server", True), ("to_client", False)):
            decided = [p for p in flow.packets[:5] if p.to_server is to_server]
            empty = flow.empty[0 if to_server else 1]
            columns[f"payload_packets_{name}"].append(
                sum(p.to_server is to_server for p in flow.packets)
            )
            columns[f"decided_packets_{name}"].append(len(decided) + empty)
            columns[f"decided_bytes_{name}"].append(
                sum(len(p.payload) + 40 for p in decided) + 40 * empty
            )
    return FlowBatch.from_columns(columns, n_flows=len(flows))
