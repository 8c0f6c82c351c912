"""Finds flows whose payload the capture has cut, so that a model would see something else than what it learned.

A snap length cuts each packet after so many bytes. Short packets stay whole; of long ones, the beginning is
left. A flow counts as cut if more than a tenth of the payload bytes that a model could look at are missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

WANTED_BYTES: Final = 1500
"""Payload bytes of a segment that inputs are made of, at most: those of a packet on Ethernet."""
_MOST_MISSING: Final = 0.1


def is_cut(flows: FlowBatch, packets: int) -> NDArray[np.bool_]:
    """Whether more than a tenth of the first payload bytes of each flow are missing, shape (n,).

    Args:
        flows: n flows with the group *segments*.
        packets: payload packets that count, from the first on.
    """
    segments = flows.segments()
    n_segments = np.diff(segments.first)
    flow = np.repeat(np.arange(len(flows)), n_segments)
    place = np.arange(len(flow)) - np.repeat(segments.first[:-1], n_segments)
    wanted = np.minimum(segments.length, WANTED_BYTES)
    missing = wanted - np.minimum(np.diff(segments.start), wanted)
    counts = place < packets
    of_flow, n = flow[counts], len(flows)
    n_missing = np.bincount(of_flow, missing[counts], minlength=n)
    found: NDArray[np.bool_] = n_missing > _MOST_MISSING * np.bincount(
        of_flow, wanted[counts], minlength=n
    )
    return found
