"""Encodes flows as the paper's images: the first five payload packets as 87 x 87 pixels.

Source: paper, Section 3.1. A packet's payload becomes 1,500 bytes, cut or padded with zeros; five
of them are 7,500 bytes, and 69 zeros make the square. Direction is in the byte: a client's byte b
becomes 128 + b // 2, a server's b // 2. So a server's byte 0 or 1 and padding are the same pixel:
the paper's choice. Dividing by 255 is the network's first step: images stay one byte a pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.flows.schema import DECISION_SEGMENTS
from apptell.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

IMAGE_VERSION: Final = 1
"""Changes with every change of meaning of a pixel."""
IMAGE_SIDE: Final = 87
PACKET_BYTES: Final = 1500
"""Bytes of a packet's payload in the image."""


def images(flows: FlowBatch) -> NDArray[np.uint8]:
    """The image of each flow.

    Args:
        flows: flows with the columns of the group ``segments``.

    Returns:
        Pixels 0 to 255, uint8, shape (n, 87, 87), row by row in the order of the bytes.

    Raises:
        DatasetError: the flows were read without their segments.
    """
    segments = flows.segments()
    pixels = np.zeros((len(flows), IMAGE_SIDE * IMAGE_SIDE), dtype=np.uint8)
    draw_images(segments.first, segments.to_server, segments.start, segments.data, pixels)
    return pixels.reshape(-1, IMAGE_SIDE, IMAGE_SIDE)


@kernel
def draw_images(
    first: NDArray[np.int64],
    to_server: NDArray[np.bool_],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    pixels: NDArray[np.uint8],
) -> None:
    """Draws every flow into its row of ``pixels``, which comes in as zeros.

    Args:
        first: row of each flow's first segment, shape (n + 1,).
        to_server: direction of each segment, shape (m,).
        start: first kept byte of each segment in ``data``, shape (m + 1,).
        data: the kept bytes, shape (b,).
        pixels: shape (n, 7569), written.
    """
    n_segments = min(to_server.size, start.size - 1)
    for flow in range(pixels.shape[0]):
        begin = first[flow]
        end = min(begin + DECISION_SEGMENTS, first[flow + 1], n_segments)
        for segment in range(begin, end):
            source = start[segment]
            size = min(PACKET_BYTES, start[segment + 1] - source, data.size - source)
            target = (segment - begin) * PACKET_BYTES
            base = 128 if to_server[segment] else 0
            for at in range(size):
                pixels[flow, target + at] = base + (data[source + at] >> 1)
