import numpy as np

from apptell.encoding import encode
from apptell.encoding.lengths import lengths
from apptell.flows.schema import FlowBatch


def flows():
    return FlowBatch.from_columns(
        {
            "sequence_length": [[517, -1448, -1448, 80], [], None, [-5]],
            "sequence_gap_us": [[0, 1, 2, 3], [], None, [0]],
        }
    )


def test_signed_lengths_come_in_order_and_zeros_after_them():
    found = lengths(flows(), packets=3)
    assert found.dtype == np.float32
    assert found.tolist() == [[517, -1448, -1448], [0, 0, 0], [0, 0, 0], [-5, 0, 0]]
    assert lengths(flows(), packets=6)[0].tolist() == [517, -1448, -1448, 80, 0, 0]


def test_a_slice_of_a_batch_gives_its_own_rows():
    batch = FlowBatch(flows().to_arrow().slice(3, 1))
    assert lengths(batch, packets=2).tolist() == [[-5, 0]]


def test_ten_packets_unless_said():
    assert encode(flows(), "lengths").shape == (4, 10)
    assert lengths(FlowBatch.from_columns({}, n_flows=0), packets=4).shape == (0, 4)
