"""Asks a model about flows that their own names identify, to see whether it would have been right.

Such flows are decided by their names, so the model is not asked about them otherwise. This is done in a
separate thread with a short queue and for a limited number of flows; what does not fit is left out, so that
it never delays a verdict.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.errors import ApptellError
from apptell.service.shadow import due_and_named
from apptell.verdicts.pipeline import MIN_PAYLOAD_PACKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.models import Model
    from apptell.service.work import Work

MOST_BATCHES: Final = 32
"""Batches of flows that wait at most."""
MOST_KEPT: Final = 10_000
"""Newest named flows that are counted."""
MOST_ASKED: Final = 2_000
"""Flows that the model is asked about between two calls of ``renew``."""


class NamedCheck:
    """Counts how often a model is right on flows that names identify. ``close`` ends its thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: Model | None = None
        self._kept: deque[NDArray[np.int64]] = deque()
        self._left = MOST_ASKED
        self._waiting: queue.Queue[tuple[FlowBatch, NDArray[np.int64], Model] | None] = queue.Queue(
            MOST_BATCHES
        )
        self._thread = threading.Thread(target=self._run, name="named", daemon=True)

    def watch(self, model: Model | None) -> None:
        """Another model is in use: what is known of the one before is dropped."""
        with self._lock:
            self._model = model
            self._kept.clear()
            self._left = MOST_ASKED

    def renew(self) -> None:
        """Allows MOST_ASKED more flows."""
        with self._lock:
            self._left = MOST_ASKED

    def add(self, works: Sequence[Work]) -> None:
        """Takes flows whose verdict is due and whose own name identifies an app of the model; never waits."""
        model = self._model
        if model is None or self._left <= 0:
            return
        place = {app: number for number, app in enumerate(model.apps)}
        for flows, named in due_and_named(works, model):
            app = np.array([-1 if each is None else place.get(each, -1) for each in named])
            is_asked = (app >= 0) & (flows.payload_packets >= MIN_PAYLOAD_PACKETS)
            is_asked &= np.isin(flows.numpy("protocol"), model.transports)
            if not is_asked.any():
                continue
            try:
                self._waiting.put_nowait((flows.filter(is_asked), app[is_asked], model))
            except queue.Full:
                return
            self._left -= int(is_asked.sum())
            if self._thread.ident is None:
                self._thread.start()

    def counts(self, model: Model) -> NDArray[np.int64]:
        """Named flows of each app, and those of them that the model gives to it too, shape (2, k)."""
        with self._lock:
            if model is not self._model or not self._kept:
                return np.zeros((2, len(model.apps)), dtype=np.int64)
            return np.asarray(np.sum(self._kept, axis=0), dtype=np.int64)

    def close(self, timeout_s: float = 5.0) -> None:
        """Asks about what waits, for at most so long, and ends."""
        if self._thread.ident is None:
            return
        try:
            self._waiting.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            flows, app, model = work
            try:
                guess = model.predict_proba(flows).argmax(axis=1)
            except ApptellError:
                continue  # the pipeline says what is wrong with the model
            k = len(model.apps)
            own = app[guess == app]
            counts = np.stack([np.bincount(app, minlength=k), np.bincount(own, minlength=k)])
            with self._lock:
                if model is not self._model:
                    continue
                self._kept.append(counts)
                while sum(int(each[0].sum()) for each in self._kept) > MOST_KEPT:
                    self._kept.popleft()
