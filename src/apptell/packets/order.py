"""Makes the times of packets strictly increasing, as a packet's place in its capture.

Times of packets may be equal, and may step back. What was known when a flow began must not depend on either:
it is determined by the order of the packets. Where times increase, a packet's place is its time; otherwise it
is one more than the place before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LATEST_NS: Final = 1 << 62
"""Later times (after the year 2116) have this one's place, so that places never exceed 64 bits."""


class PacketOrder:
    """The places of a capture's packets, batch by batch; the same packets always give the same places."""

    def __init__(self) -> None:
        self.last_ns = 0
        """Place of the newest packet, ns since 1970 UTC."""

    def __call__(self, time_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of the next packets, shape (n,), from their times, ns since 1970 UTC."""
        if not len(time_ns):
            return np.empty(0, dtype=np.int64)
        step = np.arange(len(time_ns), dtype=np.int64)
        places = np.clip(time_ns, 0, _LATEST_NS) - step
        places[0] = max(places[0], self.last_ns + 1)
        np.maximum.accumulate(places, out=places)
        places += step
        self.last_ns = int(places[-1])
        return places
