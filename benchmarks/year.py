"""Plays FG-Net's two months as a sensor would live them, with and without the open-world tools. JSON lines.

    apptell dataset build DATASETS/fgnet -o fgnet
    nice python benchmarks/year.py fgnet -o results/ --sessions 0.12 --trees 20

A model learns from three quarters of month 0's sessions, without ``--new`` apps that nobody knows yet. The
rest of month 0 is two periods, month 1 is four. The new apps arrive in the second period. Without the tools,
the model stays as it is. With them, after every period:

- *discover*: unknown flows of all periods since the last update become candidates. An operator looks at five
  flows of each, spread over time, and takes the candidate in if four of them are of one app (FG-Net has no
  names, so the truth of these five flows stands for what an operator finds out);
- *drift*: where an app raises an alarm, the operator labels ``--labelled`` sessions of it from the period;
- *update*: if there is anything new, the model and its detector are trained again from the kept rows and from
  what is new.

Each period is measured before the update that follows it: the share of all its flows that are given to their
app, where *unknown* is right for an app that was not learned. Nothing was chosen on these figures.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from apptell.learning.detector_training import describe, fit_detector
from apptell.learning.labelled_inputs import LabelledInputs
from apptell.learning.model_fitting import fit
from apptell.learning.task import Task
from apptell.verdicts.pipeline import DEFAULT_THRESHOLD
from apptell.watch import Observations, measure_drift
from apptell.watch.clusters import find_clusters
from discoveries import watched
from open_world import RATE, Rows, Trained, held_side, load, on_phones

FOLDS = 3
LOOKED_AT = 5
ALIKE = 4
_PERIODS = 6


class Sensor(Trained):
    """A model and its detector, trained in fewer folds than ``train`` uses."""

    def __init__(self, task: Task, learned: LabelledInputs) -> None:
        self.fitted = fit_detector(task, learned, n_folds=FOLDS)
        self.learner = fit(task.learner(), task, learned)
        self.apps = np.array(self.learner.classes_, dtype=np.str_)
        target = np.searchsorted(self.apps, learned.apps)
        self.counts = np.bincount(target, minlength=len(self.apps))
        self.description = describe(learned, target, len(self.apps), task)

    def right(self, flows: LabelledInputs) -> dict[str, float]:
        """Shares of some flows whose verdict, in context, is right."""
        traffic = watched(self, flows)
        known = np.isin(flows.apps, self.apps)
        unknown = np.asarray(traffic.unknown_share) >= 0.5
        named = self.apps[traffic.verdict]
        right = np.where(known, ~unknown & (named == flows.apps), unknown)
        found = {"all": float(right.mean()), "learned apps": float(right[known].mean())}
        if not known.all():
            found["unlearned apps"] = float(right[~known].mean())
        return {name: round(value, 4) for name, value in found.items()}

    def alarms(self, flows: LabelledInputs) -> list[str]:
        """Apps that raise an alarm."""
        assert flows.clients is not None
        assert flows.times_ns is not None
        p = np.asarray(self.learner.predict_proba(flows.inputs), dtype=np.float32)
        seen = Observations.of_probabilities(
            p,
            flows.clients.astype(object),
            flows.times_ns,
            threshold=DEFAULT_THRESHOLD,
            p_unknown=self.fitted.detector.judge(p, flows.lengths, None)[0],
            cutoff=self.fitted.detector.cutoff(RATE),
        )
        prior = (self.counts + 1.0) / (self.counts + 1.0).sum()
        found = measure_drift(seen, self.apps.tolist(), prior, self.fitted.facts["apps"])
        return [each.app for each in found.alarms]


def discovered(sensor: Sensor, flows: LabelledInputs) -> tuple[np.ndarray, list[str]]:
    """Rows of candidates that an operator takes in, and the app of each row."""
    label, _ = find_clusters(watched(sensor, flows))
    assert flows.times_ns is not None
    rows: list[int] = []
    apps: list[str] = []
    for number in range(int(label.max(initial=-1)) + 1):
        own = np.flatnonzero(label == number)
        own = own[np.argsort(flows.times_ns[own], kind="stable")]
        looked = own[np.linspace(0, len(own) - 1, LOOKED_AT).astype(np.int64)]
        app, count = Counter(flows.apps[looked].tolist()).most_common(1)[0]
        if count >= ALIKE:
            rows += own.tolist()
            apps += [app] * len(own)
    return np.array(rows, dtype=np.int64), apps


def joined(parts: list[LabelledInputs]) -> LabelledInputs:
    """Several as one."""
    assert all(part.clients is not None and part.times_ns is not None for part in parts)
    return LabelledInputs(
        np.concatenate([part.inputs for part in parts]),
        np.concatenate([part.apps for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.groups for part in parts]),
        np.concatenate([part.clients for part in parts if part.clients is not None]),
        np.concatenate([part.times_ns for part in parts if part.times_ns is not None]),
    )


def periods_of(
    flows: LabelledInputs, is_first: np.ndarray, is_learned: np.ndarray, new: list[str]
) -> np.ndarray:
    """The period of each flow, whole sessions by their time; -1 for flows that are learned or left out."""
    assert flows.times_ns is not None
    period = np.full(len(flows.apps), -1)
    for side, first, n in ((is_first & ~is_learned, 0, 2), (~is_first, 2, 4)):
        names, of_flow = np.unique(flows.groups[side], return_inverse=True)
        begin = np.full(len(names), np.iinfo(np.int64).max)
        np.minimum.at(begin, of_flow, flows.times_ns[side])
        place = np.argsort(np.argsort(begin, kind="stable"))
        period[side] = (first + place * n // max(len(names), 1))[of_flow]
    early = (period == 0) & np.isin(flows.apps, new)
    period[early] = 1
    return period


def live_through(path: Path, rows: Rows, args: argparse.Namespace) -> None:
    """Every period, with the tools and without."""
    task = Task("sequence", hyperparameters={"n_trees": args.trees}, seed=args.seed)
    flows, months = load(path, task, 10, args.sessions)
    is_first = months == "D1"
    new = np.random.default_rng(args.seed).choice(np.unique(flows.apps), args.new, replace=False)
    is_held = held_side(flows.groups, 0.25, args.seed)
    is_learned = is_first & ~is_held & ~np.isin(flows.apps, new)
    period = periods_of(flows, is_first, is_learned, new.tolist())
    what: dict[str, Any] = {"data": "fgnet year", "sessions": args.sessions, "trees": args.trees}
    what |= {"seed": args.seed, "new": args.new, "labelled": args.labelled}
    kept = on_phones(flows.take(np.flatnonzero(is_learned)), 1, args.seed)
    still = sensor = Sensor(task, kept)
    waiting: list[LabelledInputs] = []
    for number in range(_PERIODS):
        chosen = flows.take(np.flatnonzero(period == number))
        now = on_phones(chosen, 1, args.seed)
        now = replace(now, clients=np.char.add(f"{number} ", np.asarray(now.clients)))
        found: dict[str, Any] = {
            "flows": len(now.apps),
            "of new apps": int(np.isin(now.apps, new).sum()),
            "without": still.right(now),
            "with": sensor.right(now),
        }
        waiting.append(now)
        rest = joined(waiting)
        taken, names = discovered(sensor, rest)
        alarms = sensor.alarms(now)
        more = [replace(rest.take(taken), apps=np.array(names, dtype=np.str_))] if names else []
        right = int((rest.apps[taken] == np.array(names)).sum()) if names else 0
        labelled = [sessions_of(now, app, args.labelled) for app in alarms if args.labelled]
        more += [part for part in labelled if len(part.apps)]
        found |= {
            "discovered": dict(Counter(names)),
            "discovered right": round(right / max(len(names), 1), 4),
            "new apps taken in": sorted(set(names) & set(new.tolist())),
            "alarms": alarms,
            "labelled flows": int(sum(len(part.apps) for part in labelled)),
        }
        if more and number + 1 < _PERIODS:
            kept = joined([kept, *more])
            sensor = Sensor(task, kept)
            waiting = []
        found["apps known"] = len(sensor.apps)
        rows.add({**what, "period": number}, found)


def sessions_of(flows: LabelledInputs, app: str, n: int) -> LabelledInputs:
    """The first sessions of an app, as an operator would label them."""
    own = np.flatnonzero(flows.apps == app)
    names = np.unique(flows.groups[own])[:n]
    return flows.take(own[np.isin(flows.groups[own], names)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sessions", type=float, default=1.0, help="share of FG-Net's sessions")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--new", type=int, default=5, help="apps that arrive later")
    parser.add_argument("--labelled", type=int, default=5, help="sessions labelled on an alarm")
    args = parser.parse_args()
    live_through(args.dataset, Rows(args.output), args)


if __name__ == "__main__":
    main()
