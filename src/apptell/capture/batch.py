"""Defines ``PacketBatch``, the output of every reader and the input of the packet decoder.

A batch is a set of columns over one byte buffer, with one row for each captured packet. The frame's bytes are
never copied: ``offset`` points into ``buffer``, which is a block of a file, a decompressed chunk or a block
of a live ring.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIRECTION_UNKNOWN, DIRECTION_INBOUND, DIRECTION_OUTBOUND = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a packet, if the capture itself names one (PCAPdroid, PKTAP)."""

    uid: int | None = None
    """Android uid or process id; None when the file gives none."""
    package: str | None = None
    """Package name, such as ``org.example.chat``."""
    name: str | None = None
    """The app's label or the process' name, as the file has it."""


@dataclass(slots=True)
class PacketBatch:
    """Packets of one capture, in capture order.

    All columns have the same length n. A batch is valid until the next one is requested, because its reader
    may reuse the buffer and the columns. ``copy()`` returns a batch that stays valid.
    """

    buffer: NDArray[np.uint8]
    """The bytes that hold the frames, shape (size,)."""
    offset: NDArray[np.int64]
    """First byte of each frame (link-layer header) in ``buffer``, shape (n,)."""
    captured: NDArray[np.int32]
    """Bytes of the frame that are in ``buffer``, shape (n,)."""
    wire: NDArray[np.int32]
    """Bytes the frame had on the wire, shape (n,)."""
    time_ns: NDArray[np.int64]
    """Capture time, ns since 1970 UTC, shape (n,)."""
    link_type: NDArray[np.uint16]
    """LINKTYPE_ value of the frame's interface, shape (n,)."""
    interface: NDArray[np.int32]
    """Interface number within the capture, counted over all sections, shape (n,)."""
    direction: NDArray[np.uint8]
    """0 unknown, 1 inbound, 2 outbound, according to the file, shape (n,)."""
    owner: NDArray[np.int32]
    """Index into ``owners``; -1 when the file names none, shape (n,)."""
    owners: list[Owner] = field(default_factory=list)
    """The side table of owners; grows while a capture is read, indices stay valid."""

    def __len__(self) -> int:
        return len(self.offset)

    def copy(self) -> PacketBatch:
        """Copies the packets into new memory."""
        return PacketBatch(
            self.buffer.copy(),
            self.offset.copy(),
            self.captured.copy(),
            self.wire.copy(),
            self.time_ns.copy(),
            self.link_type.copy(),
            self.interface.copy(),
            self.direction.copy(),
            self.owner.copy(),
            list(self.owners),
        )

    def slice(self, start: int, stop: int) -> PacketBatch:
        """Packets ``start`` to ``stop`` in the same memory."""
        rows = slice(start, stop)
        return PacketBatch(
            self.buffer,
            self.offset[rows],
            self.captured[rows],
            self.wire[rows],
            self.time_ns[rows],
            self.link_type[rows],
            self.interface[rows],
            self.direction[rows],
            self.owner[rows],
            self.owners,
        )

    def frame(self, row: int) -> bytes:
        """The captured bytes of one packet, for people and tests."""
        start = int(self.offset[row])
        return self.buffer[start : start + int(self.captured[row])].tobytes()
