from __future__ import annotations

import math

import numpy as np

from apptell.encoding.packet_sequence import sequences
from tests.encoding.crafted import CraftedFlow, Packet, batch, random_flow


def sequence_as_documented(flow: CraftedFlow, length: int, packets: int) -> np.ndarray:
    rows = np.zeros((length, 3), dtype=np.float32)
    for at, packet in enumerate(flow.packets[: min(length, packets, 32)]):
        gap_us = packet.time_us - flow.packets[at - 1].time_us if at else 0
        rows[at] = (
            math.log2(1 + len(packet.payload)) / 16,
            1 if packet.to_server else -1,
            math.log10(1 + gap_us) / 8,
        )
    return rows


def test_sequences_are_those_of_the_plain_twin():
    rng = np.random.default_rng(1)
    flows = [random_flow(rng, n) for n in (0, 1, 2, 5, 6, 12, 31, 32, 40)]
    for length, packets in ((32, 5), (32, 32), (10, 10), (3, 5)):
        expected = np.stack([sequence_as_documented(flow, length, packets) for flow in flows])
        got = sequences(batch(flows), length, packets=packets)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_by_default_nothing_after_the_fifth_payload_packet_is_seen():
    flow = random_flow(np.random.default_rng(2), n_packets=9)
    assert np.count_nonzero(sequences(batch([flow]))[0, :, 1]) == 5


def test_a_full_merged_segment_and_a_long_silence_stay_near_one():
    packets = [Packet(True, b"x" * 65535, 0), Packet(False, b"y", 100_000_000)]
    rows = sequences(batch([CraftedFlow(packets)]))[0]
    np.testing.assert_allclose(rows[:2], [[1, 1, 0], [1 / 16, -1, 1]], atol=1e-6)


def test_time_that_runs_backwards_is_a_gap_of_nothing():
    packets = [Packet(True, b"x", 50), Packet(True, b"y", 20)]
    assert sequences(batch([CraftedFlow(packets)]))[0, 1, 2] == 0
