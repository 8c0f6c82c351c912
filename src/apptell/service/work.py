"""The queue of flows for identification, in micro-batches that are bounded by flows and by delay."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.flows.schema import FlowBatch
    from apptell.verdicts.identity import Found

EARLY, DECIDED, ENDED = "early", "decided", "ended"
"""What comes: open flows that may be clear already; open ones whose verdict is due; finished ones."""


@dataclass(frozen=True, slots=True)
class Work:
    """Some flows on their way to identification."""

    flows: FlowBatch
    kind: str
    """EARLY, DECIDED or ENDED."""
    is_overloaded: bool
    """Whether there is no time to identify them."""
    since_s: float
    """Time of arrival, by the monotonic clock."""
    found: Found | None = None
    """What evidence says of the flows; None where it was not asked."""


Handed = tuple["FlowBatch", str, "Found | None"]
"""Flows that were handed out, what kind of work they are, and what evidence says of them."""


class WorkQueue:
    """The queue of work for identification.

    Args:
        max_flows: flows that may wait. Beyond that, flows are marked as overloaded, which costs little; at
            twice the number, ``put`` blocks.
        is_lossless: whether ``put`` already blocks at ``max_flows``, so that no flow is overloaded.
    """

    def __init__(self, max_flows: int, *, is_lossless: bool) -> None:
        self._max = max_flows
        self._is_lossless = is_lossless
        self._waiting: deque[Work] = deque()
        self._n = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_abandoned = False

    @property
    def n_flows(self) -> int:
        """Number of waiting flows."""
        return self._n

    def put(self, batches: Sequence[Handed]) -> None:
        """Adds flows; returns immediately unless the queue is full. An abandoned queue takes none.

        Early flows are not queued if there is no room for them, because their verdict becomes due later
        anyway.

        Args:
            batches: handed out together, and therefore waited for once.
        """
        limit = self._max if self._is_lossless else 2 * self._max
        with self._changed:
            for flows, kind, found in batches:
                while self._n >= limit and not self._is_abandoned:
                    self._changed.notify_all()
                    self._changed.wait()
                full = self._n + len(flows) > self._max
                if kind == EARLY and full:
                    continue
                overloaded = full and not self._is_lossless
                self._waiting.append(Work(flows, kind, overloaded, time.monotonic(), found))
                self._n += len(flows)
            self._changed.notify_all()

    def gather(self, max_flows: int, delay_s: float) -> list[Work]:
        """Returns waiting work, in order, as soon as ``max_flows`` wait or the first has waited ``delay_s``.

        Returns:
            At least one, or none if the queue is closed and empty.
        """
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            while self._waiting and self._n < max_flows and not self._is_closed:
                left = self._waiting[0].since_s + delay_s - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            found: list[Work] = []
            n = 0
            while self._waiting and (not found or n + len(self._waiting[0].flows) <= max_flows):
                found.append(self._waiting.popleft())
                n += len(found[-1].flows)
            self._n -= n
            self._changed.notify_all()
            return found

    def close(self) -> None:
        """Closes the queue: no more work is added."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Abandons the queue: waiting work is not taken any more."""
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()
