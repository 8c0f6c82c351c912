from __future__ import annotations

import numpy as np

from apptell.encoding.payload import join_payloads, payloads
from tests.encoding.crafted import CraftedFlow, Packet, batch, random_flow


def payload_as_documented(flow: CraftedFlow) -> np.ndarray:
    joined = b"".join(packet.payload for packet in flow.packets[:5])[:784]
    return np.frombuffer(joined.ljust(784, b"\0"), dtype=np.uint8)


def test_payloads_are_those_of_the_plain_twin():
    rng = np.random.default_rng(1)
    flows = [random_flow(rng) for _ in range(60)]
    expected = np.stack([payload_as_documented(flow) for flow in flows])
    got = payloads(batch(flows))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, expected)


def test_a_stream_that_was_cut_elsewhere_gives_the_same_bytes():
    data = np.random.default_rng(2).bytes(600)
    whole = CraftedFlow([Packet(True, data, 0), Packet(False, b"ok", 1)])
    cut = CraftedFlow(
        [Packet(True, data[:100], 0), Packet(True, data[100:], 1), Packet(False, b"ok", 2)]
    )
    first, second = payloads(batch([whole, cut]))
    np.testing.assert_array_equal(first, second)


def test_no_flows_give_no_payloads():
    assert payloads(batch([])).shape == (0, 784)


def test_offsets_beyond_the_data_read_nothing():
    found = np.zeros((1, 784), dtype=np.uint8)
    join_payloads.py_func(
        np.array([0, 2]), np.array([0, 3, 900]), np.arange(5, dtype=np.uint8), found
    )
    assert found[0, :6].tolist() == [0, 1, 2, 3, 4, 0]
