"""Encodes flows as the signed lengths of their first payload packets, for data with lengths only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

LENGTHS_VERSION: Final = 1
"""Changes with every change of meaning of a column."""


def lengths(flows: FlowBatch, *, packets: int) -> NDArray[np.float32]:
    """Payload bytes of the first payload packets, + to the server, - to the client, 0 for none.

    Args:
        flows: flows with the group ``segments``.
        packets: how many. Five are known when a verdict is due; a model that asks for more decides
            later.

    Returns:
        float32, shape (n, packets).

    Raises:
        DatasetError: the flows were read without their sequences.
    """
    sequence = flows.sequences()
    first = sequence.first[:-1, None]
    at = first + np.arange(packets)
    there = at < sequence.first[1:, None]
    known = np.append(sequence.length, 0)  # one to point at where there is none
    return np.where(there, known[np.where(there, at, -1)], 0).astype(np.float32)
