"""Counts decoded packets by status, protocol, fragment and tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.kernels.compiled import kernel
from apptell.packets.headers import Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.packets.headers import HeaderBatch


@kernel
def tally_rows(rows, by_status, by_protocol, others):
    """Adds n rows: status, shape (256,); protocol of IP packets, shape (256,); fragments and tunnelled."""
    for index in range(len(rows)):
        row = rows[index]
        by_status[row.status] += 1
        if row.ip_version:
            by_protocol[row.protocol] += 1
        if row.is_fragment:
            others[0] += 1
        if row.tunnels:
            others[1] += 1


class Tally:
    """Counters of decoded packets."""

    def __init__(self) -> None:
        self._by_status: NDArray[np.int64] = np.zeros(256, dtype=np.int64)
        self._by_protocol: NDArray[np.int64] = np.zeros(256, dtype=np.int64)
        self._others: NDArray[np.int64] = np.zeros(2, dtype=np.int64)

    def copy(self) -> Tally:
        """The counters as they are now."""
        copied = Tally()
        copied._by_status = self._by_status.copy()
        copied._by_protocol = self._by_protocol.copy()
        copied._others = self._others.copy()
        return copied

    def add(self, headers: HeaderBatch) -> None:
        """Counts a batch in."""
        tally_rows(headers.rows, self._by_status, self._by_protocol, self._others)

    @property
    def packets(self) -> int:
        """Packets so far."""
        return int(self._by_status.sum())

    @property
    def status(self) -> dict[str, int]:
        """Packets by ``Status``, lower case; those that occurred."""
        return {status.name.lower(): n for status in Status if (n := int(self._by_status[status]))}

    @property
    def protocols(self) -> dict[int, int]:
        """Packets by IP protocol number."""
        there: list[Any] = np.flatnonzero(self._by_protocol).tolist()
        return {protocol: int(self._by_protocol[protocol]) for protocol in there}

    @property
    def fragments(self) -> int:
        """Packets that are IP fragments, first ones included."""
        return int(self._others[0])

    @property
    def tunnelled(self) -> int:
        """Packets found inside a tunnel."""
        return int(self._others[1])
