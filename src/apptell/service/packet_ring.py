"""A ring of the newest packets, bounded in bytes, from which the packets of a flow can be taken later.

Packets come as pieces, which are copies that are decoded once; the oldest pieces leave. It has no thread.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.capture.batch import PacketBatch
from apptell.packets.headers import Status
from apptell.packets.packet_keys import packet_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from apptell.packets import Decoder

COLUMN_BYTES: Final = 128
"""Bytes that a packet takes beside its frame."""
_PIECES: Final = 32
"""Pieces that a full ring has at least, as long as a packet is no larger."""
_LARGEST_PIECE: Final = 1 << 20
_SPARSE: Final = 2
"""A region of the buffer is copied as a whole if it is at most this many times the size of its frames."""
_MIXED: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))


class RingPiece:
    """Some packets that follow each other, decoded.

    Args:
        packets: n frames that belong to this piece alone.
        capture: name of their source.
        decoder: decodes them.
    """

    __slots__ = (
        "capture", "flags", "fragment_pairs", "fragments", "frame_of", "hints", "is_taken", "keys",
        "n_bytes", "packets", "time_ns",
    )  # fmt: skip

    def __init__(self, packets: PacketBatch, capture: str, decoder: Decoder) -> None:
        rows = decoder(packets).rows
        frame_of = np.cumsum(rows["is_further"] == 0) - 1
        whole = np.flatnonzero(rows["status"] == Status.OK)
        cut = np.flatnonzero(rows["status"] == Status.FRAGMENT)
        self.packets, self.capture = packets, capture
        self.n_bytes = piece_bytes(packets)
        self.is_taken = np.zeros(len(packets), dtype=np.bool_)
        """Whether each frame was taken out."""
        self.frame_of = frame_of[whole]
        """The frame of each of the m decoded packets, which the other columns are of."""
        self.time_ns = rows["time_ns"][whole]
        self.flags = rows["flags"][whole]
        self.keys = packet_keys(rows[whole])
        self.hints = flow_hints(rows[whole])
        self.fragments = frame_of[cut]
        """The frames that are fragments without ports."""
        self.fragment_pairs = packet_keys(rows[cut], has_ports=False)
        """Their keys without ports."""


class PacketRing:
    """The newest pieces.

    Args:
        max_bytes: frames and their columns that are kept; the newest piece always is.
    """

    def __init__(self, max_bytes: int) -> None:
        self.n_bytes = 0
        self._max_bytes = max_bytes
        self._pieces: deque[RingPiece] = deque()

    def __iter__(self) -> Iterator[RingPiece]:
        """The pieces, oldest first."""
        return iter(self._pieces)

    def add(self, piece: RingPiece) -> None:
        """Adds a piece; the oldest ones leave."""
        self._pieces.append(piece)
        self.n_bytes += piece.n_bytes
        while self.n_bytes > self._max_bytes and len(self._pieces) > 1:
            self.n_bytes -= self._pieces.popleft().n_bytes


def piece_bytes(packets: PacketBatch) -> int:
    """What packets take in a ring."""
    return int(packets.captured.sum()) + COLUMN_BYTES * len(packets)


def cut_pieces(packets: PacketBatch, ring_bytes: int) -> Iterator[PacketBatch]:
    """Cuts packets into pieces that are small beside a ring; they share the memory of ``packets``."""
    largest = min(_LARGEST_PIECE, ring_bytes // _PIECES)
    ends = np.cumsum(packets.captured.astype(np.int64) + COLUMN_BYTES)
    start, before = 0, 0
    while start < len(packets):
        stop = max(int(np.searchsorted(ends, before + largest, side="right")), start + 1)
        yield packets.slice(start, stop)
        start, before = stop, int(ends[stop - 1])


def copied(packets: PacketBatch) -> PacketBatch:
    """The same packets with a buffer of their own that has little besides them."""
    captured = packets.captured.astype(np.int64)
    first = int(packets.offset.min())
    last = int((packets.offset + captured).max())
    if last - first <= _SPARSE * int(captured.sum()) + COLUMN_BYTES * len(packets):
        buffer, offset = packets.buffer[first:last].copy(), packets.offset - first
    else:
        view = packets.buffer.data
        ends = packets.offset + captured
        frames = [
            view[start:end]
            for start, end in zip(packets.offset.tolist(), ends.tolist(), strict=True)
        ]
        buffer = np.frombuffer(b"".join(frames), dtype=np.uint8)
        offset = np.cumsum(captured) - captured
    return PacketBatch(
        buffer,
        offset,
        packets.captured.copy(),
        packets.wire.copy(),
        packets.time_ns.copy(),
        packets.link_type.copy(),
        packets.interface.copy(),
        packets.direction.copy(),
        np.full(len(packets), -1, dtype=np.int32),
    )


def flow_hints(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Numbers that are equal for packets of a 5-tuple in both directions, and seldom for others.

    They only say which keys have to be compared: packets with equal hints on purpose cost time, no more.

    Args:
        rows: shape (n,), dtype ``HEADER``.

    Returns:
        Shape (n,).
    """
    one, other = _MIXED
    ends = [
        (rows[f"{side}_high"] * one ^ rows[f"{side}_low"]) * other
        + rows[f"{side}_port"].astype(np.uint64) * one
        for side in ("source", "target")
    ]
    return np.asarray((ends[0] + ends[1]) ^ (ends[0] * ends[1]) + rows["protocol"], dtype=np.uint64)
