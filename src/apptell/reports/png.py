"""Writes arrays of pixels as PNG (W3C PNG, second edition), for pictures of flows."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from apptell.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GREY, _COLOUR = 0, 2


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of grey pixels, shape (height, width), or of colours, shape (height, width, 3).

    Raises:
        UsageError: the array has another shape or type.
    """
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)):
        raise UsageError(
            f"pixels of type {pixels.dtype} and shape {pixels.shape} cannot be written as PNG"
        )
    height, width = pixels.shape[:2]
    colour = _GREY if pixels.ndim == 2 else _COLOUR
    lines = pixels.reshape(height, -1)
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), lines], axis=1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )


def paint(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A flow's image in colours, shape (87, 87, 3): what the client sent blue, the server orange.

    Args:
        image: as ``encoding.images`` makes it, shape (87, 87): client bytes are 128 to 255, server
            bytes 1 to 127, padding 0.
    """
    light = np.array([255, 255, 255], np.float64)
    client, server = np.array([23, 78, 166], np.float64), np.array([214, 93, 14], np.float64)
    depth = np.where(image >= 128, (image.astype(np.float64) - 128) / 127, image / 127)
    depth = 0.15 + 0.85 * depth
    ink = np.where((image >= 128)[..., None], client, server)
    colours = light + (ink - light) * depth[..., None]
    colours[image == 0] = light
    return colours.astype(np.uint8)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
