"""Encodes flows as sequences: length, direction and gap of each of the first payload packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.flows.schema import DECISION_SEGMENTS, MAX_SEQUENCE
from apptell.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

SEQUENCE_VERSION: Final = 1
"""Changes with every change of meaning of a channel."""


def sequences(
    flows: FlowBatch, length: int = MAX_SEQUENCE, *, packets: int = DECISION_SEGMENTS
) -> NDArray[np.float32]:
    """The sequence of each flow, padded with zeros.

    The channels are scaled so that every flow lies near [-1, 1] and nothing is lost:
    0. length: log2(1 + payload bytes) / 16, so 65,535 bytes (a segment merged by offload) are 1;
    1. direction: 1 to the server, -1 to the client, 0 where there is no packet;
    2. gap: log10(1 + microseconds since the payload packet before) / 8, so 100 s are 1; first 0.

    Args:
        flows: flows with the group ``segments``.
        length: rows of the result.
        packets: how many payload packets are looked at. Five are known when a verdict is due; a
            model that asks for more decides later.

    Returns:
        float32, shape (n, length, 3).

    Raises:
        DatasetError: the flows were read without their sequences.
    """
    sequence = flows.sequences()
    channels = np.zeros((len(flows), length, 3), dtype=np.float32)
    fill_sequences(sequence.first, sequence.length, sequence.gap_us, packets, channels)
    return channels


@kernel
def fill_sequences(
    first: NDArray[np.int64],
    length: NDArray[np.int32],
    gap_us: NDArray[np.int64],
    packets: int,
    channels: NDArray[np.float32],
) -> None:
    """Writes every flow into ``channels``, shape (n, rows, 3), which comes in as zeros.

    Args:
        first: row of each flow's first payload packet, shape (n + 1,).
        length: payload bytes, + to server, - to client, shape (m,).
        gap_us: microseconds since the payload packet before, shape (m,).
        packets: payload packets of a flow that are looked at.
        channels: written.
    """
    for flow in range(channels.shape[0]):
        begin = first[flow]
        known = min(first[flow + 1] - begin, packets, channels.shape[1])
        for at in range(known):
            signed = length[begin + at]
            channels[flow, at, 0] = np.log2(1.0 + abs(signed)) / 16.0
            channels[flow, at, 1] = 1.0 if signed > 0 else -1.0
            if at > 0:
                channels[flow, at, 2] = np.log10(1.0 + max(gap_us[begin + at], 0)) / 8.0
