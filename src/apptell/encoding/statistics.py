"""Encodes flows as the paper's 37 features.

Source: paper, Table 3, the open points read as follows. Everything is what was known when the
fifth payload packet had arrived, or at the flow's end. Sizes are payload bytes; gaps are between
payload packets, of one direction or of the flow; deviations are of the population; a direction
without packets (or without gaps) gives zeros. "Packets" and "bytes" are all packets and IP bytes up
to that moment, so the share of payload packets counts empty acknowledgements too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.flows.schema import DECISION_SEGMENTS
from apptell.kernels.compiled import kernel, subroutine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

STATISTICS_VERSION: Final = 1
"""Changes with every change of meaning of a feature."""

PORTS: Final = ("client_port", "server_port")
_FIRST: Final = 3
"""Payload packets of each direction whose size is a feature of its own."""
_SIDES: Final = ("to_server", "to_client", "flow")
_SUMMARIES: Final = ("min", "max", "mean", "deviation")

STATISTICS: Final[tuple[str, ...]] = (
    *PORTS,
    *(f"size_{i}_{side}" for side in _SIDES[:2] for i in range(1, _FIRST + 1)),  # payload bytes
    *(f"size_{summary}_{side}" for side in _SIDES for summary in _SUMMARIES),  # payload bytes
    *(f"gap_{summary}_{side}_s" for side in _SIDES for summary in _SUMMARIES),  # seconds
    "packets_to_server",
    "packets_to_client",
    "payload_share_to_server",  # payload packets over all packets, 0 to 1
    "payload_share_to_client",
    "byte_ratio",  # bytes to the server over bytes to the client; 0 when one of them is missing
)
"""Names of the columns that ``statistics`` gives, in order."""

_SIZES = len(PORTS)
_GAPS = _SIZES + 2 * _FIRST + 12
_PACKETS = _GAPS + 12


def statistics_names(*, ports: bool = True) -> tuple[str, ...]:
    """Names of the columns of ``statistics`` with or without the two ports."""
    return STATISTICS if ports else STATISTICS[len(PORTS) :]


def statistics(flows: FlowBatch, *, ports: bool = True) -> NDArray[np.float32]:
    """The features of each flow.

    Args:
        flows: flows with the groups ``core`` and ``segments``; a count that is null is zero. Sizes
            and times come from the columns ``sequence_length`` and ``sequence_gap_us``, so flows
            whose payload was never kept have statistics too.
        ports: False leaves out the two ports, which tell the server's operator rather than the app.

    Returns:
        float32, shape (n, 37), or (n, 35) without ports; columns as in ``statistics_names``.

    Raises:
        DatasetError: a column is missing.
    """
    sequence = flows.sequences()
    totals = np.zeros((len(flows), 6), dtype=np.float64)
    for at, name in enumerate(
        (
            *PORTS,
            "decided_packets_to_server",
            "decided_packets_to_client",
            "decided_bytes_to_server",
            "decided_bytes_to_client",
        )
    ):
        totals[:, at] = flows.column(name).fill_null(0).to_numpy(zero_copy_only=False)
    features = np.zeros((len(flows), len(STATISTICS)), dtype=np.float32)
    measure_flows(sequence.first, sequence.length, sequence.gap_us, totals, features)
    return features if ports else np.ascontiguousarray(features[:, len(PORTS) :])


@kernel
def measure_flows(
    first: NDArray[np.int64],
    length: NDArray[np.int32],
    gap_us: NDArray[np.int64],
    totals: NDArray[np.float64],
    features: NDArray[np.float32],
) -> None:
    """Measures every flow into its row of ``features``.

    Args:
        first: row of each flow's first payload packet, shape (n + 1,).
        length: payload bytes, + to server, - to client, shape (m,).
        gap_us: microseconds since the payload packet before, 0 first, shape (m,).
        totals: client port, server port, and packets and bytes to server and to client at the
            decision, shape (n, 6): ports, packets, bytes.
        features: shape (n, 37), written.
    """
    sizes = np.zeros((3, DECISION_SEGMENTS))
    gaps = np.zeros((3, DECISION_SEGMENTS))
    for flow in range(features.shape[0]):
        n_sizes = np.zeros(3, dtype=np.int64)
        n_gaps = np.zeros(3, dtype=np.int64)
        last_us = np.zeros(2, dtype=np.int64)
        now_us = 0
        begin = first[flow]
        for row in range(begin, min(begin + DECISION_SEGMENTS, first[flow + 1])):
            side = 0 if length[row] > 0 else 1
            size = abs(length[row])
            if row > begin:
                now_us += gap_us[row]
                gaps[2, n_gaps[2]] = gap_us[row] / 1e6
                n_gaps[2] += 1
            if n_sizes[side] > 0:
                gaps[side, n_gaps[side]] = (now_us - last_us[side]) / 1e6
                n_gaps[side] += 1
            last_us[side] = now_us
            sizes[side, n_sizes[side]] = size
            n_sizes[side] += 1
            sizes[2, n_sizes[2]] = size
            n_sizes[2] += 1

        features[flow, 0] = totals[flow, 0]
        features[flow, 1] = totals[flow, 1]
        for side in range(2):
            for at in range(min(_FIRST, n_sizes[side])):
                features[flow, _SIZES + side * _FIRST + at] = sizes[side, at]
            packets = totals[flow, 2 + side]
            features[flow, _PACKETS + side] = packets
            if packets > 0:
                features[flow, _PACKETS + 2 + side] = n_sizes[side] / packets
        for side in range(3):
            _summarise(sizes[side, : n_sizes[side]], features[flow], _SIZES + 2 * _FIRST + 4 * side)
            _summarise(gaps[side, : n_gaps[side]], features[flow], _GAPS + 4 * side)
        if totals[flow, 5] > 0:
            features[flow, _PACKETS + 4] = totals[flow, 4] / totals[flow, 5]


@subroutine
def _summarise(values: NDArray[np.float64], row: NDArray[np.float32], at: int) -> None:
    """Min, max, mean and population deviation of ``values`` into four places; zeros for none."""
    if values.size == 0:
        return
    least = most = values[0]
    total = 0.0
    for value in values:
        least = min(least, value)
        most = max(most, value)
        total += value
    mean = total / values.size
    spread = 0.0
    for value in values:
        spread += (value - mean) ** 2
    row[at] = least
    row[at + 1] = most
    row[at + 2] = mean
    row[at + 3] = np.sqrt(spread / values.size)
