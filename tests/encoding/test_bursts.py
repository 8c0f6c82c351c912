from __future__ import annotations

import itertools

import numpy as np
import pytest

from apptell.encoding.bursts import add_up, burst_names, bursts
from apptell.flows.schema import FlowBatch
from tests.encoding.crafted import CraftedFlow, Packet, batch, random_flow


def bursts_as_documented(flow: CraftedFlow, packets: int) -> dict[str, float]:
    said = [(p.to_server, len(p.payload)) for p in flow.packets[: min(packets, 32)]]
    found = {}
    runs = [list(run) for _, run in itertools.groupby(said, key=lambda packet: packet[0])]
    for i, run in enumerate(runs, 1):
        found[f"burst_{i}"] = sum(size for _, size in run) * (1 if run[0][0] else -1)
    for way, name in ((True, "to_server"), (False, "to_client")):
        for i, size in enumerate([size for there, size in said if there == way], 1):
            found[f"size_{i}_{name}"] = size
        for mark in (*(m for m in (3, 5, 7, 10, 16, 24) if m < packets), packets):
            found[f"bytes_{name}_after_{mark}"] = sum(s for there, s in said[:mark] if there == way)
    return found


@pytest.mark.parametrize("packets", [1, 5, 10, 16, 32])
def test_bursts_are_those_of_the_plain_twin(packets: int) -> None:
    rng = np.random.default_rng(packets)
    flows = [random_flow(rng, n) for n in (*range(14), 31, 32, 40)]
    got = bursts(batch(flows), packets=packets)
    assert got.dtype == np.float32
    for flow, row in zip(flows, got, strict=True):
        expected = bursts_as_documented(flow, packets)
        for name, value in zip(burst_names(packets=packets), row, strict=True):
            assert value == expected.get(name, 0), name


def test_bursts_stay_when_the_stream_is_cut_elsewhere() -> None:
    whole = CraftedFlow([Packet(True, b"x" * 900, 0), Packet(False, b"y" * 2800, 1)])
    cut = CraftedFlow(
        [Packet(True, b"x" * 500, 0), Packet(True, b"x" * 400, 1)]
        + [Packet(False, b"y" * 1400, 2), Packet(False, b"y" * 1400, 3)]
    )
    first, second = bursts(batch([whole, cut]))
    assert first[:10].tolist() == second[:10].tolist() == [900, -2800, *[0] * 8]


def test_a_slice_of_a_batch_gives_the_same() -> None:
    rng = np.random.default_rng(2)
    whole = batch([random_flow(rng) for _ in range(20)])
    part = FlowBatch(whole.to_arrow().slice(7, 9))
    np.testing.assert_array_equal(bursts(part), bursts(whole)[7:16])


def test_no_flows_give_no_rows_and_offsets_beyond_the_lengths_read_nothing() -> None:
    assert bursts(batch([])).shape == (0, len(burst_names()))
    found = np.zeros((1, len(burst_names())), dtype=np.float32)
    marks = np.array([3, 5, 7, 10, 16])
    add_up.py_func(np.array([0, 9]), np.array([7, -3], dtype=np.int32), 16, marks, found)
    assert found[0, :3].tolist() == [7, -3, 0]
