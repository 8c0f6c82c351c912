"""Runs a challenger in the shadow of the model in use, and counts how both do on the same flows.

The challenger decides nothing. Both models are asked about every flow whose verdict is due, also about flows
that their own names identify, because names say which model is right. This is done in a separate thread with
a short queue; what does not fit is skipped and counted, so that it never delays a verdict.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.errors import ApptellError
from apptell.service.work import DECIDED, ENDED
from apptell.verdicts.pipeline import MIN_PAYLOAD_PACKETS
from apptell.verdicts.schema import EVIDENCE_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apptell.flows.schema import FlowBatch
    from apptell.models import Model
    from apptell.service.work import Work

BY_NAME_CODE: Final = EVIDENCE_KINDS.index("name")
MOST_BATCHES: Final = 32
"""Batches of flows that wait at most."""


def due_and_named(
    works: Sequence[Work], model: Model
) -> Iterator[tuple[FlowBatch, list[str | None]]]:
    """The flows of some works whose verdict is due, and the app that the own name of each identifies.

    Args:
        works: flows in the order of their arrival.
        model: the model in use, which says when verdicts are due.
    """
    for work in works:
        flows, found = work.flows, work.found
        if work.kind == ENDED:  # others were due before they ended
            is_due = flows.payload_packets < model.decision_packets
            if not is_due.any():
                continue
            flows = flows.filter(is_due)
            found = None if found is None else found.filter(is_due)
        elif work.kind != DECIDED:
            continue
        named: list[str | None] = [None] * len(flows)
        if found is not None:
            by_name = (found.kind == BY_NAME_CODE) & found.is_app
            for row in np.flatnonzero(by_name).tolist():
                named[row] = found.identities[int(found.code[row])].app
        yield flows, named


@dataclass(slots=True)
class ShadowCounts:
    """How two models did on the same flows."""

    flows: int = 0
    agreed: int = 0
    """Flows that both give to the same app."""
    named: int = 0
    """Flows whose own name identifies an app that both models know."""
    champion_right: int = 0
    """Of these, those that the model in use gives to that app."""
    challenger_right: int = 0
    """The same of the challenger."""
    skipped: int = 0
    """Flows that there was no time to compare."""
    failed: str = ""
    """The last error."""

    def sentence(self) -> str:
        """The counts in words."""
        if not self.flows:
            return "Challenger: no flow was compared."
        words = f"Challenger: same app on {self.agreed:,} of {self.flows:,} flows"
        if self.named:
            words += (
                f"; of {self.named:,} named flows it is right on {self.challenger_right:,}, the model in use "
                f"on {self.champion_right:,}"
            )
        return words + (f"; {self.skipped:,} flows were skipped." if self.skipped else ".")


class Shadow:
    """Compares a challenger with the model in use. ``close`` ends its thread.

    Args:
        challenger: the model that decides nothing.
    """

    def __init__(self, challenger: Model) -> None:
        self.challenger = challenger
        self.counts = ShadowCounts()
        self._waiting: queue.Queue[tuple[FlowBatch, list[str | None], Model] | None] = queue.Queue(
            MOST_BATCHES
        )
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """``name@hash`` of the challenger."""
        return f"{self.challenger.name}@{self.challenger.hash}"

    def add(self, works: Sequence[Work], champion: Model) -> None:
        """Compares the flows of some works whose verdict is due."""
        for flows, named in due_and_named(works, champion):
            self.put(flows, named, champion)

    def put(self, flows: FlowBatch, named: Sequence[str | None], champion: Model) -> None:
        """Compares some flows when there is time; never waits.

        Args:
            flows: n flows whose verdict is due, with the groups *core*, *segments* and *names*.
            named: the app that each flow's own name identifies.
            champion: the model in use.
        """
        try:
            self._waiting.put_nowait((flows, list(named), champion))
        except queue.Full:
            self.counts.skipped += len(flows)

    def close(self, timeout_s: float = 5.0) -> None:
        """Compares what waits, for at most so long, and ends."""
        try:
            self._waiting.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            try:
                self._compare(*work)
            except ApptellError as error:
                self.counts.failed = str(error)
                self.counts.skipped += len(work[0])

    def _compare(self, flows: FlowBatch, named: list[str | None], champion: Model) -> None:
        both = (champion, self.challenger)
        is_asked = flows.payload_packets >= MIN_PAYLOAD_PACKETS
        for model in both:
            is_asked &= np.isin(flows.numpy("protocol"), model.transports)
        if not is_asked.any():
            return
        chosen = flows.filter(is_asked)
        said = [
            np.array(m.apps, dtype=object)[m.predict_proba(chosen).argmax(axis=1)] for m in both
        ]
        truth = np.array(named, dtype=object)[is_asked]
        known = set(champion.apps) & set(self.challenger.apps)
        has_name = np.array([app in known for app in truth.tolist()], dtype=bool)
        counts = self.counts
        counts.flows += len(chosen)
        counts.agreed += int((said[0] == said[1]).sum())
        counts.named += int(has_name.sum())
        counts.champion_right += int((said[0] == truth)[has_name].sum())
        counts.challenger_right += int((said[1] == truth)[has_name].sum())
