"""Encodes flows as their first payload bytes, for one-dimensional networks of the literature.

Source: Wang, Zhu, Wang, Zeng and Yang, "End-to-end Encrypted Traffic Classification with One-dimensional
Convolution Neural Networks" (IEEE ISI 2017): the first 784 bytes of a flow, longer ones cut, shorter
ones padded with zeros. Of its four inputs this is the one without headers (L7): addresses and ports are
no app. Packets leave no mark and directions none either, so a stream that was cut elsewhere gives the
same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.flows.schema import DECISION_SEGMENTS
from apptell.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

PAYLOAD_VERSION: Final = 1
"""Changes with every change of meaning of a byte."""
PAYLOAD_BYTES: Final = 784


def payloads(flows: FlowBatch) -> NDArray[np.uint8]:
    """The first payload bytes of each flow, joined over its first five payload packets.

    Args:
        flows: flows with the columns of the group ``segments``.

    Returns:
        uint8, shape (n, 784).

    Raises:
        DatasetError: the flows were read without their segments.
    """
    segments = flows.segments()
    found = np.zeros((len(flows), PAYLOAD_BYTES), dtype=np.uint8)
    join_payloads(segments.first, segments.start, segments.data, found)
    return found


@kernel
def join_payloads(
    first: NDArray[np.int64],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    found: NDArray[np.uint8],
) -> None:
    """Copies every flow's bytes into its row of ``found``, which comes in as zeros.

    Args:
        first: row of each flow's first segment, shape (n + 1,).
        start: first kept byte of each segment in ``data``, shape (m + 1,).
        data: the kept bytes, shape (b,).
        found: shape (n, bytes), written.
    """
    n_segments = start.size - 1
    for flow in range(found.shape[0]):
        begin = first[flow]
        end = min(begin + DECISION_SEGMENTS, first[flow + 1], n_segments)
        at = 0
        for segment in range(begin, end):
            source = start[segment]
            size = min(found.shape[1] - at, start[segment + 1] - source, data.size - source)
            for byte in range(size):
                found[flow, at + byte] = data[source + byte]
            at += max(size, 0)
