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
    """The columns of a PacketBatch with room for ``capacity`` packets.

    Args:
        capacity: packets.
        n_sets: sets of columns that are filled in turn: a batch is valid until so many further ones are begun.
    """

    def __init__(self, capacity: int, n_sets: int = 1) -> None:
        self.capacity = capacity
        self.totals = np.zeros(N_TOTALS, dtype=np.int64)
        """Sums: bytes captured, bytes on wire, packets cut; first, last and previous time."""
        self.totals[FIRST_NS] = INT64_MAX
        self.totals[LAST_NS] = -INT64_MAX
        self._sets = [_empty_rows(capacity, self.totals) for _ in range(n_sets)]
        self._has_constants = [False] * n_sets
        self._constant_link_type: int | None = None
        self._at = 0
        self._is_handed_out = False
        self._use(self._sets[0])

    def _use(self, rows: Rows) -> None:
        self.offset, self.captured, self.wire, self.time_ns = rows[:4]
        self.link_type, self.interface, self.direction, self.owner = rows[4:8]

    def turn(self) -> None:
        """Goes on to the next set if a batch has this one."""
        if not self._is_handed_out:
            return
        self._is_handed_out = False
        self._at = (self._at + 1) % len(self._sets)
        self._use(self._sets[self._at])
        self._fill_constants()

    def rows(self) -> Rows:
        """The same memory for the kernels."""
        return self._sets[self._at]

    def set_constants(self, link_type: int) -> None:
        """Fill what a format without interfaces never changes."""
        self._constant_link_type = link_type
        self._has_constants = [False] * len(self._sets)
        self._fill_constants()

    def _fill_constants(self) -> None:
        if self._constant_link_type is None or self._has_constants[self._at]:
            return
        self._has_constants[self._at] = True
        self.link_type.fill(self._constant_link_type)
        self.interface.fill(0)
        self.direction.fill(DIRECTION_UNKNOWN)
        self.owner.fill(NO_OWNER)

    def batch(self, buffer: NDArray[np.uint8], n: int, owners: list[Owner]) -> PacketBatch:
        """The first ``n`` rows over ``buffer``; views, valid until the set is filled again."""
        self._is_handed_out = True
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


def _empty_rows(capacity: int, totals: NDArray[np.int64]) -> Rows:
    return Rows(
        np.empty(capacity, dtype=np.int64),
        np.empty(capacity, dtype=np.int32),
        np.empty(capacity, dtype=np.int32),
        np.empty(capacity, dtype=np.int64),
        np.empty(capacity, dtype=np.uint16),
        np.empty(capacity, dtype=np.int32),
        np.empty(capacity, dtype=np.uint8),
        np.empty(capacity, dtype=np.int32),
        totals,
    )
