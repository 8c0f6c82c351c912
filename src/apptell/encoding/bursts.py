"""Encodes flows as sums of their first payload lengths: bursts, lengths by direction, running totals.

A burst is a run of payload packets in one direction: a request, or an answer. Unlike single lengths, its size
does not depend on where packets are cut (another MTU, offload). Times are not used, because they describe the
network rather than the app.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

BURSTS_VERSION: Final = 1
"""Changes with every change of meaning of a column."""
BURST_PACKETS: Final = 16
"""Default number of payload packets; more of them do not improve results on FG-Net."""
BURSTS: Final = 10
PER_DIRECTION: Final = 8
_MARKS: Final = (3, 5, 7, 10, 16, 24)
"""Payload packets after which the bytes in each direction are summed up."""


def burst_names(*, packets: int = BURST_PACKETS) -> tuple[str, ...]:
    """Names of the columns of ``bursts``."""
    marks = _marks(packets)
    return (
        *(f"burst_{i}" for i in range(1, BURSTS + 1)),  # bytes, + to server, - to client
        *(f"size_{i}_to_server" for i in range(1, PER_DIRECTION + 1)),  # payload bytes
        *(f"size_{i}_to_client" for i in range(1, PER_DIRECTION + 1)),
        *(f"bytes_to_server_after_{mark}" for mark in marks),  # payload bytes
        *(f"bytes_to_client_after_{mark}" for mark in marks),
    )


def bursts(flows: FlowBatch, *, packets: int = BURST_PACKETS) -> NDArray[np.float32]:
    """What the first payload packets of each flow add up to; zeros for what is not there.

    Args:
        flows: flows with the group ``segments``; their sequences are enough.
        packets: payload packets that are looked at, 1 to 32. Five are known when a verdict is usually
            due; with more it is due later.

    Returns:
        float32, shape (n, columns); columns as in ``burst_names``.

    Raises:
        DatasetError: the flows were read without their sequences.
    """
    sequence = flows.sequences()
    found = np.zeros((len(flows), len(burst_names(packets=packets))), dtype=np.float32)
    marks = np.array(_marks(packets), dtype=np.int64)
    add_up(sequence.first, sequence.length, packets, marks, found)
    return found


def _marks(packets: int) -> tuple[int, ...]:
    return (*(mark for mark in _MARKS if mark < packets), packets)


@kernel
def add_up(
    first: NDArray[np.int64],
    length: NDArray[np.int32],
    packets: int,
    marks: NDArray[np.int64],
    found: NDArray[np.float32],
) -> None:
    """Writes every flow into its row of ``found``, which comes in as zeros.

    Args:
        first: row of each flow's first payload packet, shape (n + 1,).
        length: payload bytes, + to server, - to client, shape (m,).
        packets: payload packets of a flow that are looked at.
        marks: packets after which the bytes are summed up, ascending, shape (k,).
        found: shape (n, BURSTS + 2 PER_DIRECTION + 2 k), written.
    """
    n_marks = marks.size
    for flow in range(found.shape[0]):
        begin = first[flow]
        end = min(first[flow + 1], begin + packets, length.size)
        seen = np.zeros(2, dtype=np.int64)
        total = np.zeros(2, dtype=np.int64)
        burst = -1
        side = -1
        mark = 0
        for row in range(begin, end):
            size = abs(length[row])
            now = 0 if length[row] > 0 else 1
            if now != side:
                burst += 1
                side = now
            if burst < BURSTS:
                found[flow, burst] += length[row]
            if seen[now] < PER_DIRECTION:
                found[flow, BURSTS + now * PER_DIRECTION + seen[now]] = size
            seen[now] += 1
            total[now] += size
            if mark < n_marks and row - begin + 1 == marks[mark]:
                for way in range(2):
                    column = BURSTS + 2 * PER_DIRECTION + way * n_marks + mark
                    found[flow, column] = total[way]
                mark += 1
        for left in range(mark, n_marks):  # the flow has no more packets
            for way in range(2):
                column = BURSTS + 2 * PER_DIRECTION + way * n_marks + left
                found[flow, column] = total[way]
