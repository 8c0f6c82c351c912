from __future__ import annotations

import itertools
import statistics as standard

import numpy as np
import pytest

from apptell.encoding.statistics import STATISTICS, statistics, statistics_names
from apptell.flows.schema import FlowBatch
from tests.encoding.crafted import CraftedFlow, Packet, batch, random_flow


def summary(values: list[float]) -> list[float]:
    if not values:
        return [0, 0, 0, 0]
    return [min(values), max(values), standard.fmean(values), standard.pstdev(values)]


def features_from_the_paper(flow: CraftedFlow) -> dict[str, float]:
    """Table 3 in plain Python."""
    five = flow.packets[:5]
    sides = {
        "to_server": [p for p in five if p.to_server],
        "to_client": [p for p in five if not p.to_server],
        "flow": five,
    }
    features: dict[str, float] = {"client_port": flow.ports[0], "server_port": flow.ports[1]}
    for name, packets in sides.items():
        sizes = [float(len(p.payload)) for p in packets]
        times = [p.time_us / 1e6 for p in packets]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        words = ("min", "max", "mean", "deviation")
        features |= dict(zip([f"size_{w}_{name}" for w in words], summary(sizes), strict=True))
        features |= dict(zip([f"gap_{w}_{name}_s" for w in words], summary(gaps), strict=True))
        if name != "flow":
            features |= {f"size_{i + 1}_{name}": ([*sizes, 0, 0, 0])[i] for i in range(3)}
    volume = {}
    for name, empty in zip(("to_server", "to_client"), flow.empty, strict=True):
        packets = len(sides[name]) + empty
        features[f"packets_{name}"] = packets
        features[f"payload_share_{name}"] = len(sides[name]) / packets if packets else 0
        volume[name] = sum(len(p.payload) + 40 for p in sides[name]) + 40 * empty
    ratio = volume["to_server"] / volume["to_client"] if volume["to_client"] else 0
    return features | {"byte_ratio": ratio}


def test_statistics_are_those_of_the_plain_twin():
    rng = np.random.default_rng(1)
    flows = [random_flow(rng) for _ in range(80)]
    expected = [[features_from_the_paper(flow)[name] for name in STATISTICS] for flow in flows]
    got = statistics(batch(flows))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.array(expected), rtol=1e-5, atol=1e-6)


def test_there_are_37_features_in_the_numbers_of_table_3():
    def count(prefix: str) -> int:
        return sum(name.startswith(prefix) for name in STATISTICS)

    assert len(STATISTICS) == len(set(STATISTICS)) == 37
    assert sum(name.endswith("_port") for name in STATISTICS) == 2
    assert (count("size_"), count("gap_")) == (18, 12)
    assert count("packets_") + count("payload_share_") == 4
    assert count("byte_ratio") == 1


def test_the_sixth_payload_packet_changes_nothing():
    rng = np.random.default_rng(3)
    flow = random_flow(rng, n_packets=8)
    shorter = CraftedFlow(flow.packets[:5], flow.ports, flow.empty)
    np.testing.assert_array_equal(statistics(batch([flow])), statistics(batch([shorter])))


def test_without_ports_the_other_35_stay_as_they_are():
    flows = batch([random_flow(np.random.default_rng(seed)) for seed in range(9)])
    np.testing.assert_array_equal(statistics(flows, ports=False), statistics(flows)[:, 2:])
    assert statistics_names(ports=False) == STATISTICS[2:]


def test_gaps_of_a_direction_span_the_packets_of_the_other():
    packets = [Packet(True, b"a", 0), Packet(False, b"b", 10_000), Packet(True, b"c", 250_000)]
    row = dict(zip(STATISTICS, statistics(batch([CraftedFlow(packets)]))[0], strict=True))
    assert row["gap_max_to_server_s"] == pytest.approx(0.25)
    assert row["gap_min_flow_s"] == pytest.approx(0.01)
    assert row["gap_max_to_client_s"] == 0


def test_a_flow_without_payload_packets_keeps_its_ports_and_counts():
    row = dict(
        zip(STATISTICS, statistics(batch([CraftedFlow([], (5, 6), (3, 0))]))[0], strict=True)
    )
    assert (row.pop("client_port"), row.pop("server_port"), row.pop("packets_to_server")) == (
        5,
        6,
        3,
    )
    assert not any(row.values())


def test_flows_whose_counts_are_null_have_zeros_there():
    flows = FlowBatch.from_columns({"sequence_length": [[100, -50]], "sequence_gap_us": [[0, 9]]})
    row = dict(zip(STATISTICS, statistics(flows)[0], strict=True))
    assert row["size_1_to_server"] == 100
    assert row["packets_to_server"] == row["byte_ratio"] == 0
