"""Makes the times of packets strictly increasing, as a packet's place in its capture.

Times of packets may be equal, and may step back. What was known when a flow began must not depend on either:
it is determined by the order of the packets. Where times increase, a packet's place is its time; otherwise it
is one more than the place before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.kernels.compiled import inlined, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LATEST_NS: Final = 1 << 62
"""Later times (after the year 2116) have this one's place, so that places never exceed 64 bits."""


@inlined
def next_place(last: Any, time_ns: Any) -> Any:
    """The place of a packet that follows the one at ``last``, from its time, ns since 1970 UTC."""
    return max(min(max(time_ns, 0), _LATEST_NS), last + 1)


@kernel(allocates=False)
def _write_places(time_ns: NDArray[np.int64], last: int, places: NDArray[np.int64]) -> int:
    """The places of the packets that follow the one at ``last``; the last of them."""
    for row in range(len(time_ns)):
        last = next_place(last, time_ns[row])
        places[row] = last
    return last


class PacketOrder:
    """The places of a capture's packets, batch by batch; the same packets always give the same places."""

    def __init__(self) -> None:
        self.last_ns = 0
        """Place of the newest packet, ns since 1970 UTC."""

    def __call__(self, time_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of the next packets, shape (n,), from their times, ns since 1970 UTC."""
        places = np.empty(len(time_ns), dtype=np.int64)
        self.last_ns = int(_write_places(time_ns, self.last_ns, places))
        return places
