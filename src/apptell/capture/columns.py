"""Allocates the columns of one batch of packets once; kernels fill them again for each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from apptell.capture.batch import DIRECTION_UNKNOWN, PacketBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.capture.batch import Owner

NO_OWNER: Final = -1
# Slots of ``Columns.totals``, which the kernels add to.
CAPTURED_BYTES: Final = 0
WIRE_BYTES: Final = 1
CUT_PACKETS: Final = 2
FIRST_NS: Final = 3
LAST_NS: Final = 4
PREVIOUS_NS: Final = 5
N_TOTALS: Final = 6
INT64_MAX: Final = 2**63 - 1


class Rows(NamedTuple):
    """The columns of a PacketBatch as the scanning kernels fill them; shape (capacity,) but the last."""

    offset: NDArray[np.int64]
    captured: NDArray[np.int32]
    wire: NDArray[np.int32]
    time_ns: NDArray[np.int64]
    link_type: NDArray[np.uint16]
    interface: NDArray[np.int32]
    direction: NDArray[np.uint8]
    owner: NDArray[np.int32]
    totals: NDArray[np.int64]
    """Sums, see ``Columns.totals``; shape (6,)."""


class Columns:
    """The columns of a PacketBatch with room for ``capacity`` packets."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.offset = np.empty(capacity, dtype=np.int64)
        self.captured = np.empty(capacity, dtype=np.int32)
        self.wire = np.empty(capacity, dtype=np.int32)
        self.time_ns = np.empty(capacity, dtype=np.int64)
        self.link_type = np.empty(capacity, dtype=np.uint16)
        self.interface = np.empty(capacity, dtype=np.int32)
        self.direction = np.empty(capacity, dtype=np.uint8)
        self.owner = np.empty(capacity, dtype=np.int32)
        self.totals = np.zeros(N_TOTALS, dtype=np.int64)
        """Sums: bytes captured, bytes on wire, packets cut; first, last and previous time."""
        self.totals[FIRST_NS] = INT64_MAX
        self.totals[LAST_NS] = -INT64_MAX

    def rows(self) -> Rows:
        """The same memory for the kernels."""
        return Rows(
            self.offset,
            self.captured,
            self.wire,
            self.time_ns,
            self.link_type,
            self.interface,
            self.direction,
            self.owner,
            self.totals,
        )

    def set_constants(self, link_type: int) -> None:
        """Fill what a format without interfaces never changes."""
        self.link_type.fill(link_type)
        self.interface.fill(0)
        self.direction.fill(DIRECTION_UNKNOWN)
        self.owner.fill(NO_OWNER)

    def batch(self, buffer: NDArray[np.uint8], n: int, owners: list[Owner]) -> PacketBatch:
        """The first ``n`` rows over ``buffer``; views, valid until the columns are filled again."""
        return PacketBatch(
            buffer,
            self.offset[:n],
            self.captured[:n],
            self.wire[:n],
            self.time_ns[:n],
            self.link_type[:n],
            self.interface[:n],
            self.direction[:n],
            self.owner[:n],
            owners,
        )
