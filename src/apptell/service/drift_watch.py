"""Compares the newest verdicts of a running pipeline with held-out flows: drift, as metrics and a daily line.

The thread that decides flows only hands its records over. A separate thread measures them now and then, by
the same rule as ``apptell drift``. Flows that names identify are the strongest evidence: the model is asked
about some of them apart (``NamedCheck``), and its accuracy on them comes first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import pyarrow.compute as pc

from apptell.records.schema import VERDICT
from apptell.service.named_check import NamedCheck
from apptell.watch.drift import measure_drift
from apptell.watch.observations import NEEDED, Observations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from apptell.models import Model
    from apptell.records.schema import Records
    from apptell.service.work import Work
    from apptell.watch.drift import DriftReport

MOST_FLOWS: Final = 10_000
"""Newest flows of the model that are compared."""
MEASURE_S: Final = 600.0
"""How often they are measured."""
SAY_S: Final = 86_400.0
"""How often a line is written."""


class DriftWatch:
    """Keeps the newest verdicts of a model, and measures their drift.

    Args:
        notify: called once a day with what was found.
        clock: monotonic, s.
    """

    def __init__(
        self, notify: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.report: DriftReport | None = None
        """The last measurement; None before the first one."""
        self._notify, self._clock = notify, clock
        self._lock = threading.Lock()
        self._model: Model | None = None
        self._kept: deque[pa.RecordBatch] = deque()
        self._n = 0
        self._said_s = clock()
        self._named = NamedCheck()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)

    def start(self) -> None:
        """Measures from now on, every ten minutes."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._named.close()

    def watch(self, model: Model | None) -> None:
        """Another model is in use: what is known of the one before is dropped."""
        with self._lock:
            able = model is not None and model.unknown is not None and bool(model.held_out)
            self._model = model if able else None
            self._kept.clear()
            self._n, self.report = 0, None
            self._named.watch(self._model)

    def add_named(self, works: Sequence[Work]) -> None:
        """Takes the works of live flows; the model is asked about some whose own names identify an app."""
        self._named.add(works)

    def add(self, records: Records) -> None:
        """Takes live records; only verdicts of the model are kept."""
        model = self._model
        if model is None or not records.num_rows or records.column("event")[0].as_py() != VERDICT:
            return
        own = pc.fill_null(pc.equal(records.column("model"), f"{model.name}@{model.hash}"), False)
        names = [*NEEDED, "time"]
        chosen = records.select(names).filter(pc.and_(own, records.column("best_guess").is_valid()))
        if not chosen.num_rows:
            return
        with self._lock:
            self._kept.append(chosen)
            self._n += chosen.num_rows
            while self._n - self._kept[0].num_rows >= MOST_FLOWS:
                self._n -= self._kept.popleft().num_rows

    def measure(self) -> DriftReport | None:
        """Measures what is kept now, and writes the line of the day where it is due."""
        with self._lock:
            model, kept = self._model, list(self._kept)
        if model is None:
            return None
        found = None
        named = self._named.counts(model)
        self._named.renew()
        if kept or named.any():
            seen = (
                Observations.of_records(kept, model.apps) if kept else Observations.none(model.apps)
            )
            name = f"{model.name}@{model.hash}"
            found = measure_drift(seen, model.apps, model.prior, model.held_out, name, named)
        with self._lock:
            if model is self._model:
                self.report = found
        if self._clock() - self._said_s >= SAY_S:
            self._said_s = self._clock()
            self._notify(sentence_of(found))
        return found

    def metric_lines(self, escaped: Callable[[str], str]) -> list[tuple[str, str, list[str]]]:
        """Name, description and samples of each metric."""
        report = self.report
        if report is None:
            return []
        rise, alarm = "apptell_drift_rise", "apptell_drift_alarm"
        apps = [(escaped(each.app), each) for each in report.apps]
        rises = [f'{rise}{{app="{name}"}} {each.rise:.4f}' for name, each in apps]
        alarms = [f'{alarm}{{app="{name}"}} {int(bool(each.reason))}' for name, each in apps]
        flows = "apptell_drift_flows"
        named, right = "apptell_drift_named_flows", "apptell_drift_named_right"
        checked = [(name, each) for name, each in apps if each.named_right is not None]
        return [
            (
                flows,
                "Newest flows that are compared with held-out ones.",
                [f"{flows} {report.flows}"],
            ),
            (rise, "Rise of disagreement of flow and window verdicts above held-out flows.", rises),
            (alarm, "Whether an app has drifted.", alarms),
            (
                named,
                "Newest flows whose own name identifies the app.",
                [f'{named}{{app="{name}"}} {each.named}' for name, each in checked],
            ),
            (
                right,
                "Share of these that the model gives to the app, too.",
                [f'{right}{{app="{name}"}} {each.named_right:.4f}' for name, each in checked],
            ),
        ]

    def _run(self) -> None:
        while not self._stop.wait(MEASURE_S):
            self.measure()


def sentence_of(found: DriftReport | None) -> str:
    """A measurement as a line."""
    if found is None:
        return "Drift: no verdict of the model to compare."
    seen = f"{found.flows:,} flows"
    if found.named:
        seen += f" and {found.named:,} named ones, {found.named_right:.0%} of them right"
    if not found.alarms:
        return f"Drift: no alarm among {len(found.apps):,} apps with {seen}."
    alarms = "; ".join(f"{each.app}: {each.reason}" for each in found.alarms)
    return f"Drift: {alarms}. Compared: {seen}."
