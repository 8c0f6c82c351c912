from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apptell.encoding.image import draw_images, images
from apptell.errors import DatasetError
from apptell.flows.schema import FlowBatch
from tests.encoding.crafted import CraftedFlow, Packet, batch, random_flow


def image_from_the_paper(flow: CraftedFlow) -> np.ndarray:
    """Section 3.1 in plain Python, packet by packet."""
    line: list[int] = []
    for packet in flow.packets[:5]:
        vector = [128 + b // 2 if packet.to_server else b // 2 for b in packet.payload[:1500]]
        line += vector + [0] * (1500 - len(vector))
    line += [0] * (87 * 87 - len(line))
    return np.array(line, dtype=np.uint8).reshape(87, 87)


def test_images_are_those_of_the_plain_twin():
    rng = np.random.default_rng(1)
    flows = [random_flow(rng) for _ in range(60)]
    expected = np.stack([image_from_the_paper(flow) for flow in flows])
    got = images(batch(flows))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, expected)


def test_a_client_byte_is_in_the_upper_half_and_a_server_byte_in_the_lower():
    flow = CraftedFlow([Packet(True, bytes([0, 1, 2, 255]), 0), Packet(False, bytes([0, 255]), 1)])
    line = images(batch([flow])).reshape(-1)
    assert line[:5].tolist() == [128, 128, 129, 255, 0]
    assert line[1500:1503].tolist() == [0, 127, 0]
    assert not line[1502:].any()


def test_the_sixth_packet_and_the_1501st_byte_leave_no_trace():
    packets = [Packet(True, b"\xff" * 1600, at) for at in range(6)]
    line = images(batch([CraftedFlow(packets)])).reshape(-1)
    assert (line[:7500] == 255).all()
    assert not line[7500:].any()


def test_a_slice_and_a_selection_of_a_batch_give_the_same_images():
    rng = np.random.default_rng(2)
    whole = batch([random_flow(rng) for _ in range(20)])
    expected = images(whole)
    np.testing.assert_array_equal(images(FlowBatch(whole.to_arrow().slice(7, 9))), expected[7:16])
    np.testing.assert_array_equal(images(whole.take([5, 0, 5])), expected[[5, 0, 5]])


def test_no_flows_give_no_images():
    assert images(batch([])).shape == (0, 87, 87)


def test_flows_without_segments_give_black_images():
    assert not images(FlowBatch.from_columns({"client_port": [1, 2]})).any()


def test_flows_read_without_the_segments_group_are_refused():
    flows = FlowBatch(batch([CraftedFlow([])]).to_arrow().select(["client_port"]))
    with pytest.raises(DatasetError, match="'segment_length' is missing"):
        images(flows)


def test_offsets_that_point_past_the_bytes_read_nothing_beyond_them():
    pixels = np.zeros((1, 7569), dtype=np.uint8)
    draw_images.py_func(
        np.array([0, 9]),  # nine segments promised, two there
        np.array([True, False]),
        np.array([0, 900, 2000]),
        np.full(1000, 255, dtype=np.uint8),
        pixels,
    )
    assert pixels[0, :900].tolist() == [255] * 900
    assert pixels[0, 1500:1600].tolist() == [127] * 100
    assert not pixels[0, 1600:].any()


BOUNDS = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from apptell.encoding import images, sequences, statistics
from tests.encoding.crafted import batch, random_flow
flows = batch([random_flow(np.random.default_rng(seed)) for seed in range(40)])
print(images(flows).sum(), statistics(flows).shape, sequences(flows).shape)
"""


def test_the_kernels_stay_within_their_arrays(bounds_checked):
    run = subprocess.run(
        [sys.executable, "-c", BOUNDS, str(Path(__file__).resolve().parents[2])],
        env=bounds_checked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("(40, 37) (40, 32, 3)\n")
