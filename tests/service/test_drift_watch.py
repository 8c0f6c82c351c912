"""A planted drift becomes a metric and a line of the day; calm verdicts do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from apptell.records.schema import END, VERDICT, live_records
from apptell.service import drift_watch
from apptell.service.drift_watch import SAY_S, DriftWatch
from apptell.service.metrics import Metrics
from apptell.verdicts import SCHEMA, VerdictBatch

if TYPE_CHECKING:
    from apptell.models import Model

APPS = ["briar", "matrix", "signal", "zoom"]


class Known:
    """What the watch asks a model for."""

    name, hash, apps, unknown = "fast", "0", APPS, object()
    prior = np.full(4, 0.25)
    held_out: ClassVar = {
        app: {"flows": 400.0, "disagreement": 0.03, "declined": 0.05, "unknown": 0.05, "recall": 0.95}
        for app in APPS
    }  # fmt: skip


def records(
    wrong: float, n: int = 150, event: str = VERDICT, model: str = "fast@0"
) -> pa.RecordBatch:
    """Verdicts on four clients with one app each; a share of Signal's flows is taken for Zoom's."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(4 * n):
        app = number // n
        guess = 3 if app == 2 and random.random() < wrong else app
        rows.append(
            {
                "start_ns": number % n * 10**9, "capture": "a", "client_address": f"10.0.0.{app}",
                "protocol": 6, "best_guess": APPS[guess], "model": model, "outcome": "named",
                "confidence": 0.9 if guess == app else 0.5, "runner_up": APPS[guess - 1],
                "runner_up_confidence": 0.05 if guess == app else 0.4, "p_unknown": 0.5,
            }
        )  # fmt: skip
    return live_records(VerdictBatch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA)), event)


def watch(clock: list[float], said: list[str]) -> DriftWatch:
    found = DriftWatch(said.append, lambda: clock[0])
    known: Any = Known()
    found.watch(known)
    return found


@pytest.mark.parametrize(("wrong", "alarms"), [(0.0, []), (0.5, ["signal"])])
def test_a_planted_drift_is_a_metric_and_a_line_of_the_day(wrong: float, alarms: list[str]) -> None:
    clock, said = [0.0], list[str]()
    one, metrics = watch(clock, said), Metrics()
    metrics.drift = one
    assert "drift" not in metrics.text()
    one.add(records(wrong))
    one.add(records(wrong, event=END))
    found = one.measure()
    assert found is not None
    assert [each.app for each in found.alarms] == alarms
    assert found.flows == 600
    text = metrics.text()
    assert "apptell_drift_flows 600" in text
    assert f'apptell_drift_alarm{{app="signal"}} {len(alarms)}' in text
    assert 'apptell_drift_alarm{app="zoom"} 0' in text
    assert not said
    clock[0] = SAY_S
    one.measure()
    one.measure()
    assert len(said) == 1
    assert said[0].startswith("Drift: signal: flow" if alarms else "Drift: no alarm among 4 apps")


def test_only_the_newest_verdicts_of_the_model_in_use_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drift_watch, "MOST_FLOWS", 1000)
    one = watch([0.0], [])
    for _ in range(5):
        one.add(records(0.0, n=100))
    one.add(records(0.0, model="other@1"))
    found = one.measure()
    assert found is not None
    assert 1000 <= found.flows <= 1400
    one.watch(None)
    one.add(records(0.0))
    assert one.measure() is None
    assert one.report is None
    other: Any = type("Plain", (Known,), {"unknown": None})()
    _watch_plain(one, other)


def _watch_plain(one: DriftWatch, model: Model) -> None:
    one.watch(model)
    one.add(records(0.0))
    assert one.measure() is None  # it has nothing to compare with
