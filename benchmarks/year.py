r"""Plays FG-Net's two months, or the lab's days, as a sensor would live them, with and without the tools.

    apptell dataset build DATASETS/fgnet -o fgnet
    nice python benchmarks/year.py fgnet fgnet -o results/ --sessions 0.12 --trees 20
    python -m lab dataset --flows 11000 --per-recording 367 --seed 1680 --workers 8 --drift \
        --new-app irc --new-app deltachat -o CAPTURES
    apptell dataset build CAPTURES -o days --labels pcapdroid-csv --rename CAPTURES/labels.csv
    nice python benchmarks/year.py lab days --captures CAPTURES -o results/ --labelled 1

``fgnet``: a model learns from three quarters of month 0's sessions, without ``--new`` apps that nobody knows
yet. The rest of month 0 is two periods, month 1 is four. The new apps arrive in the second period. ``lab``: a
model learns from day 0. The other four days are periods, on which habits, settings and libraries change. IRC
and Delta Chat arrive on the third of them. Each recording is a device that runs all apps at once.

Without the tools, the model stays as it is. With them, after every period:

- *discover*: unknown flows of all periods since the last update become candidates. One that the catalogue names
  is taken in as that app. Of the others, an operator looks at five flows, spread over time, and takes the
  candidate in if four of them are of one app (the truth of these five flows stands for what an operator finds
  out). FG-Net has no names. In the lab, the catalogue has the names of the messengers' servers. It names
  candidates, and the model is measured without it;
- *drift*: where an app raises an alarm, the operator labels ``--labelled`` sessions of it from the period (in
  the lab, recordings);
- *update*: if there is anything new, the model and its detector are trained again from the kept rows and from
  what is new. With ``--pseudo``, all other flows of which the model is sure are new, too, as in ``apptell
  update --pseudo 0.9``.

Each period is measured before the update that follows it: the share of all its flows that are given to their
app, where *unknown* is right for an app that was not learned. Nothing was chosen on these figures. Rows are
added to ``results.jsonl``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from apptell.catalogue import Catalogue
from apptell.dataset import Dataset
from apptell.dataset.groups import group_values
from apptell.learning.detector_training import describe, fit_detector
from apptell.learning.labelled_inputs import LabelledInputs
from apptell.learning.model_fitting import fit
from apptell.learning.task import Task
from apptell.verdicts.pipeline import DEFAULT_THRESHOLD, MIN_PAYLOAD_PACKETS
from apptell.watch import Observations, measure_drift
from apptell.watch.candidates import find_candidates
from discoveries import watched
from open_world import RATE, Rows, Trained, held_side, load, on_phones
from updates import confident

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDS = 3
LOOKED_AT = 5
ALIKE = 4
LAB_NEW = ["deltachat", "irc"]


@dataclass(frozen=True)
class Traffic:
    """Flows, and what a catalogue says of their names."""

    flows: LabelledInputs
    named: np.ndarray
    """App of each flow by its server name, empty for none, shape (n,)."""

    @classmethod
    def nameless(cls, flows: LabelledInputs) -> Traffic:
        """Flows without readable names."""
        return cls(flows, np.full(len(flows.apps), "", dtype=np.str_))

    def take(self, rows: np.ndarray) -> Traffic:
        """Some of them."""
        return Traffic(self.flows.take(rows), self.named[rows])


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

    def alarms(self, traffic: Traffic) -> list[str]:
        """Apps that raise an alarm."""
        flows = traffic.flows
        assert flows.clients is not None
        assert flows.times_ns is not None
        p, _, similarity = self.judged(flows)
        seen = Observations.of_probabilities(
            p,
            flows.clients.astype(object),
            flows.times_ns,
            threshold=DEFAULT_THRESHOLD,
            p_unknown=self.fitted.detector.judge(p, flows.lengths, similarity)[0],
            cutoff=self.fitted.detector.cutoff(RATE),
        )
        place = {app: number for number, app in enumerate(self.apps.tolist())}
        named = np.array([place.get(app, -1) for app in traffic.named.tolist()], dtype=np.int64)
        prior = (self.counts + 1.0) / (self.counts + 1.0).sum()
        found = measure_drift(
            replace(seen, named=named), self.apps.tolist(), prior, self.fitted.facts["apps"]
        )
        return [each.app for each in found.alarms]


@dataclass(frozen=True)
class TakenIn:
    """Flows of candidates that are taken in."""

    rows: np.ndarray
    apps: list[str]
    named: int
    """Of these flows, those that the catalogue named."""


def discovered(sensor: Sensor, traffic: Traffic, catalogue: Catalogue) -> TakenIn:
    """The candidates that are named by the catalogue or that an operator takes in."""
    flows = traffic.flows
    assert flows.times_ns is not None
    seen = watched(sensor, flows)
    column = seen.table.column_names.index("app")
    apps = pa.array([app or None for app in traffic.named.tolist()], pa.string())
    seen = replace(seen, table=seen.table.set_column(column, "app", apps))
    rows: list[int] = []
    names: list[str] = []
    n_named = 0
    for one in find_candidates(seen, sensor.apps.tolist(), catalogue=catalogue)[0]:
        own = one.rows[np.argsort(flows.times_ns[one.rows], kind="stable")]
        looked = own[np.linspace(0, len(own) - 1, LOOKED_AT).astype(np.int64)]
        app, count = Counter(flows.apps[looked].tolist()).most_common(1)[0]
        if one.named_by == "catalogue":
            app, count = one.name, ALIKE
            n_named += len(own)
        if count >= ALIKE:
            rows += own.tolist()
            names += [app] * len(own)
    return TakenIn(np.array(rows, dtype=np.int64), names, n_named)


def joined(parts: Sequence[LabelledInputs]) -> LabelledInputs:
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


def live_through(
    task: Task,
    kept: LabelledInputs,
    periods: Sequence[Traffic],
    new: Sequence[str],
    catalogue: Catalogue,
    n_labelled: int,
    *,
    pseudo: bool = False,
) -> list[dict[str, Any]]:
    """Every period, with the tools and without: figures of each."""
    still = sensor = Sensor(task, kept)
    waiting: list[Traffic] = []
    lived = []
    for number, now in enumerate(periods):
        found: dict[str, Any] = {
            "flows": len(now.flows.apps),
            "of new apps": int(np.isin(now.flows.apps, new).sum()),
            "without": still.right(now.flows),
            "with": sensor.right(now.flows),
        }
        waiting.append(now)
        rest = Traffic(
            joined([each.flows for each in waiting]),
            np.concatenate([each.named for each in waiting]),
        )
        taken = discovered(sensor, rest, catalogue)
        alarms = sensor.alarms(now)
        more = []
        if taken.apps:
            apps = np.array(taken.apps, dtype=np.str_)
            more = [replace(rest.flows.take(taken.rows), apps=apps)]
        right = int((rest.flows.apps[taken.rows] == np.array(taken.apps)).sum())
        labelled = [sessions_of(now.flows, app, n_labelled) for app in alarms if n_labelled]
        more += [part for part in labelled if len(part.apps)]
        if pseudo:
            more.append(
                sure_of(sensor, rest.take(np.setdiff1d(np.arange(len(rest.named)), taken.rows)))
            )
        found |= {
            "discovered": dict(Counter(taken.apps)),
            "discovered right": round(right / max(len(taken.apps), 1), 4),
            "named by the catalogue": taken.named,
            "new apps taken in": sorted(set(taken.apps) & set(new)),
            "alarms": alarms,
            "labelled flows": int(sum(len(part.apps) for part in labelled)),
            "pseudo-labels": len(more[-1].apps) if pseudo else 0,
        }
        if more and number + 1 < len(periods):
            kept = joined([kept, *more])
            sensor = Sensor(task, kept)
            waiting = []
        found["apps known"] = len(sensor.apps)
        lived.append(found)
    return lived


def sure_of(sensor: Sensor, traffic: Traffic) -> LabelledInputs:
    """Flows of which the model is sure by their client's other flows, labelled as it says; no strange ones."""
    sure, apps = confident(sensor.learner, traffic.flows)
    usual = ~np.asarray(watched(sensor, traffic.flows).is_strange)[sure]
    return replace(traffic.flows.take(sure[usual]), apps=np.asarray(apps[usual], dtype=np.str_))


def sessions_of(flows: LabelledInputs, app: str, n: int) -> LabelledInputs:
    """The first sessions of an app, as an operator would label them."""
    own = np.flatnonzero(flows.apps == app)
    names = np.unique(flows.groups[own])[:n]
    return flows.take(own[np.isin(flows.groups[own], names)])


def fgnet(args: argparse.Namespace, rows: Rows) -> None:
    """FG-Net's two months."""
    task = Task("sequence", hyperparameters={"n_trees": args.trees}, seed=args.seed)
    flows, months = load(args.dataset, task, 10, args.sessions)
    is_first = months == "D1"
    new = np.random.default_rng(args.seed).choice(np.unique(flows.apps), args.new, replace=False)
    is_held = held_side(flows.groups, 0.25, args.seed)
    is_learned = is_first & ~is_held & ~np.isin(flows.apps, new)
    period = periods_of(flows, is_first, is_learned, new.tolist())
    what: dict[str, Any] = {"data": "fgnet year", "sessions": args.sessions, "trees": args.trees}
    what |= {"seed": args.seed, "new": args.new, "labelled": args.labelled}
    kept = on_phones(flows.take(np.flatnonzero(is_learned)), 1, args.seed)
    periods = []
    for number in range(int(period.max()) + 1):
        now = on_phones(flows.take(np.flatnonzero(period == number)), 1, args.seed)
        clients = np.char.add(f"{number} ", np.asarray(now.clients))
        periods.append(Traffic.nameless(replace(now, clients=clients)))
    lived = live_through(task, kept, periods, new.tolist(), Catalogue.load(), args.labelled)
    for number, found in enumerate(lived):
        rows.add({**what, "period": number}, found)


def lab(args: argparse.Namespace, rows: Rows) -> None:
    """The lab's five days."""
    hyper = {"n_trees": float(args.trees)} if args.model == "sequence" else None
    task = Task(args.model, hyperparameters=hyper, seed=args.seed)
    batch = Dataset.open(args.dataset).read()
    batch = batch.filter(batch.payload_packets >= MIN_PAYLOAD_PACKETS)
    days = group_values(batch, "day").astype(int)
    flows, _ = load(args.dataset, task, 10)
    named = {
        name: app
        for file in args.captures.rglob("recording.json")
        for app, names in json.loads(file.read_text(encoding="utf-8"))["names"].items()
        for name in names
        if app != "other"
    }
    names = batch.column("server_name").to_pylist()
    if args.one_at_a_time:
        own = replace(flows, groups=np.char.add(np.char.add(flows.groups, " "), flows.apps))
        phones = on_phones(own, 1, args.seed)
        flows = replace(flows, clients=phones.clients, times_ns=phones.times_ns)
    everything = Traffic(flows, np.array([named.get(name, "") for name in names], dtype=np.str_))
    catalogue_file = args.output / "lab-names.csv"
    catalogue_file.write_text("".join(f"{name},{app}\n" for name, app in named.items()))
    days_of_traffic = [everything.take(np.flatnonzero(days == day)) for day in range(5)]
    catalogue = Catalogue.load([catalogue_file])
    lived = live_through(
        *(task, days_of_traffic[0].flows, days_of_traffic[1:], LAB_NEW, catalogue, args.labelled),
        pseudo=args.pseudo,
    )
    what = {"data": "lab days", "model": args.model, "seed": args.seed, "labelled": args.labelled}
    what["apps at once"] = 1 if args.one_at_a_time else "all"
    what["pseudo"] = args.pseudo
    for day, found in enumerate(lived, 1):
        rows.add({**what, "day": day}, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=["fgnet", "lab"])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sessions", type=float, default=1.0, help="share of FG-Net's sessions")
    parser.add_argument("--trees", type=int, default=100, help="of the model sequence")
    parser.add_argument("--new", type=int, default=5, help="apps of FG-Net that arrive later")
    parser.add_argument("--model", choices=["fast", "sequence"], default="fast", help="of the lab")
    parser.add_argument("--captures", type=Path, help="of the lab, for the names of its servers")
    parser.add_argument("--one-at-a-time", action="store_true", help="apps on a phone of the lab")
    parser.add_argument(
        "--pseudo", action="store_true", help="also learn what the lab's model is sure of"
    )
    parser.add_argument("--labelled", type=int, default=5, help="sessions labelled on an alarm")
    args = parser.parse_args()
    rows = Rows(args.output)
    if args.part == "fgnet":
        fgnet(args, rows)
    else:
        lab(args, rows)


if __name__ == "__main__":
    main()
