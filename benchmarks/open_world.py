"""Apps that were never learned: how well their flows are recognised, and at what cost. JSON lines.

    apptell dataset build ../shared/captures/messengers -o messengers --labels folders
    apptell dataset build ../shared/datasets/fgnet -o fgnet
    nice python benchmarks/open_world.py messengers messengers -o results/
    nice python benchmarks/open_world.py fgnet fgnet -o results/ --sessions 0.17 --trees 20
    nice python benchmarks/open_world.py windows fgnet -o results/ --sessions 0.17 --trees 20
    nice python benchmarks/open_world.py drift fgnet -o results/ --sessions 0.17 --trees 20
    nice python benchmarks/open_world.py lab lab -o results/
    nice python benchmarks/open_world.py cost lab --captures src/apptell/samples/day* -o results/

``messengers`` and ``lab`` leave each app out in turn and hold a part of the sources or recordings out.
``fgnet`` leaves 13 drawn apps out, learns from three quarters of a sample of month 0's sessions, and measures
on the others and on month 1. Each row has the figures of the learned score and of every single feature with
the same ranks: their AUROC, and the share caught where exactly the stated rate of known flows is called
unknown. Choices were made on month 0 and on seed 0 of the messengers. Each row is added to ``results.jsonl``
as soon as it is known; called again, the script goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.dataset import Dataset
from apptell.dataset.groups import group_values, origins
from apptell.encoding.lengths import lengths
from apptell.evaluation.open_set import auroc, measure_open_set
from apptell.experiments.labelled import apps_of
from apptell.learning.detector_training import (
    FittedDetector,
    describe,
    fit_detector,
)
from apptell.learning.labelled_inputs import LabelledInputs
from apptell.learning.task import Task
from apptell.models.unknown_detector import FEATURES
from apptell.verdicts.context import ContextOptions, times_of
from apptell.verdicts.novelty import unknown_in_context
from apptell.verdicts.pipeline import DEFAULT_THRESHOLD, MIN_PAYLOAD_PACKETS
from apptell.watch import Observations, measure_drift
from apptell.watch.drift import LEAST_FLOWS
from interleave import interleave

if TYPE_CHECKING:
    from apptell.flows import FlowBatch

RATE = 0.05
LEFT_OUT = "android-like"
"""The device whose TLS stacks are new where the cost is measured."""


class Rows:
    """Rows of a table, each kept as soon as it is known."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "results.jsonl"
        text = self._file.read_text(encoding="utf-8") if self._file.exists() else ""
        self._known = {json.dumps(json.loads(line)["what"]) for line in text.splitlines()}

    def has(self, what: dict[str, Any]) -> bool:
        """Whether a row is there."""
        return json.dumps(what) in self._known

    def add(self, what: dict[str, Any], found: dict[str, Any]) -> None:
        """Keeps a row and prints it."""
        line = json.dumps({"what": what, **found})
        with self._file.open("a", encoding="utf-8") as out:
            out.write(line + "\n")
        print(line, flush=True)


def load(path: Path, task: Task, packets: int, keep: float = 1.0) -> tuple[LabelledInputs, Any]:
    """The labelled flows of a dataset, or those of a share of its groups; and their months."""
    flows = Dataset.open(path).read()
    flows = flows.filter(flows.payload_packets >= MIN_PAYLOAD_PACKETS)
    groups = origins(flows)
    if keep < 1:
        names = np.unique(groups)
        drawn = np.random.default_rng(0).choice(names, int(len(names) * keep), replace=False)
        rows = np.flatnonzero(np.isin(groups, drawn))
        flows, groups = flows.take(rows), groups[rows]
    months = group_values(flows, "period")
    inputs = task.encode(flows, views=True)
    apps = np.array(apps_of(flows), dtype=np.str_)
    sizes = lengths(flows, packets=packets)
    return LabelledInputs(inputs, apps, sizes, groups, groups, times_of(flows)), months


def held_side(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Whether each flow's group is held out."""
    names = np.unique(groups)
    drawn = np.random.default_rng(seed).permutation(names)[: max(1, int(len(names) * share))]
    return np.isin(groups, drawn)


class Trained:
    """A model of some flows and what recognises others, as a model folder has both."""

    def __init__(self, task: Task, learned: LabelledInputs) -> None:
        self.fitted: FittedDetector = fit_detector(task, learned)
        self.learner = task.learner()
        if task.is_grouped:
            self.learner.fit(learned.inputs, learned.apps, groups=learned.groups)
        else:
            self.learner.fit(learned.inputs, learned.apps)
        self.apps = np.array(self.learner.classes_, dtype=np.str_)
        target = np.searchsorted(self.apps, learned.apps)
        self.counts = np.bincount(target, minlength=len(self.apps))
        self.description = describe(learned, target, len(self.apps), task)

    def judged(self, flows: LabelledInputs) -> tuple[Any, Any, Any]:
        """Probabilities, inputs without further views, and similarity to flows that were learned (or None)."""
        p = np.asarray(self.learner.predict_proba(flows.inputs), dtype=np.float32)
        if self.description.neighbours is None:
            return p, flows.inputs, None
        inputs = flows.inputs[:, 0]
        return p, inputs, self.description.neighbours.similarity(inputs)

    def in_context(self, flows: LabelledInputs) -> dict[str, Any]:
        """How well flows of unlearned apps are recognised by their phone's flows of the last 30 s."""
        assert flows.clients is not None
        assert flows.times_ns is not None
        p = np.asarray(self.learner.predict_proba(flows.inputs), dtype=np.float32)
        detector = self.fitted.detector
        ranks, share = detector.judge(p, flows.lengths, None)
        prior = (self.counts + 1.0) / (self.counts + 1.0).sum()
        clients = flows.clients.tolist()
        weighed = unknown_in_context(p, share, clients, flows.times_ns, prior, ContextOptions())
        in_context = detector.ranks_in_context(weighed)
        guess = self.apps[p.argmax(axis=1)]
        return {
            how: measure_open_set(
                values, flows.apps, guess, self.apps, flows.clients, rate=RATE, cutoff=cutoff
            ).to_json()
            for how, values, cutoff in (
                ("by flow", ranks, detector.cutoff(RATE)),
                ("in context", in_context, 1 - RATE),
            )
        }

    def drift(self, flows: LabelledInputs) -> dict[str, Any]:
        """Alarms and the ranking of apps, beside the recall that labels show."""
        assert flows.clients is not None
        assert flows.times_ns is not None
        p = np.asarray(self.learner.predict_proba(flows.inputs), dtype=np.float32)
        detector, expected = self.fitted.detector, self.fitted.facts["apps"]
        seen = Observations.of_probabilities(
            p,
            flows.clients.astype(object),
            flows.times_ns,
            threshold=DEFAULT_THRESHOLD,
            p_unknown=detector.judge(p, flows.lengths, None)[0],
            cutoff=detector.cutoff(RATE),
        )
        prior = (self.counts + 1.0) / (self.counts + 1.0).sum()  # as of a forest in its folder
        found = measure_drift(seen, self.apps.tolist(), prior, expected)
        guess = self.apps[p.argmax(axis=1)]
        fall = {
            app: expected[app]["recall"] - float((guess[flows.apps == app] == app).mean())
            for app in self.apps.tolist()
            if app in expected and (flows.apps == app).any()
        }
        ranked = [each for each in found.apps if each.flows >= LEAST_FLOWS and each.app in fall]
        is_drifted = np.array([fall[each.app] > 0.1 for each in ranked], dtype=bool)
        signs = {
            "rise of disagreement": [each.rise for each in ranked],
            "rise of declined": [each.declined - each.expected["declined"] for each in ranked],
            "rise of unknown": [each.unknown - each.expected["unknown"] for each in ranked],
            "rise of p_unknown": [
                (each.p_unknown or 0) - each.expected["p_unknown"] for each in ranked
            ],
        }
        alarms = np.array([bool(each.reason) for each in ranked], dtype=bool)
        return {
            "flows": len(flows.apps),
            "apps": len(ranked),
            "drifted": int(is_drifted.sum()),
            "alarms": int(alarms.sum()),
            "alarms on drifted": int((alarms & is_drifted).sum()),
            "auroc": {
                name: round(auroc(np.array(values), is_drifted), 4)
                for name, values in signs.items()
            },
        }

    def figures(self, flows: LabelledInputs, seed: int) -> dict[str, Any]:
        """Of the score and of every feature, on flows of known and unlearned apps."""
        p = np.asarray(self.learner.predict_proba(flows.inputs), dtype=np.float32)
        similarity = None
        if self.description.neighbours is not None:
            similarity = self.description.neighbours.similarity(flows.inputs[:, 0])
        detector = self.fitted.detector
        ranks, _ = detector.judge(p, flows.lengths, similarity)
        found = measure_open_set(
            ranks,
            flows.apps,
            self.apps[p.argmax(axis=1)],
            self.apps,
            flows.groups,
            rate=RATE,
            cutoff=detector.cutoff(RATE),
            seed=seed,
        ).to_json()
        is_unknown = ~np.isin(flows.apps, self.apps)
        features = self.description.features(p, flows.lengths, similarity)
        scores: dict[str, np.ndarray] = {"score": detector.scores(features), "rank": ranks}
        scores |= {name: features[:, number] for number, name in enumerate(FEATURES)}
        found["alone"] = {
            name: [
                round(auroc(values, is_unknown), 4),
                round(
                    float((values[is_unknown] > np.quantile(values[~is_unknown], 1 - RATE)).mean()),
                    4,
                ),
            ]
            for name, values in scores.items()
            if np.ptp(values) > 0
        }
        found["training"] = {
            key: self.fitted.facts[key] for key in ("weights", "realised", "simulated", "groups")
        }
        return found


def each_app(
    name: str, path: Path, task: Task, packets: int, share: float, rows: Rows, seeds: int
) -> None:
    """Leaves every app but the background out in turn."""
    flows, _ = load(path, task, packets)
    left = {"messengers": ["other"], "lab": ["named", "phone"]}[
        name
    ]  # not of the six apps, not of the lab
    flows = flows.take(np.flatnonzero(~np.isin(flows.apps, left)))
    for seed in range(seeds):
        is_held = held_side(flows.groups, share, seed)
        for app in sorted(set(flows.apps.tolist()) - {"other"}):
            what = {"data": name, "model": task.model, "seed": seed, "unlearned": app}
            if rows.has(what):
                continue
            learned = flows.take(np.flatnonzero(~is_held & (flows.apps != app)))
            tested = flows.take(np.flatnonzero(is_held | (flows.apps == app)))
            trained = Trained(task.with_seed(seed), learned)
            rows.add(what, {"learned": len(learned.apps), **trained.figures(tested, seed)})


def fgnet(path: Path, rows: Rows, sessions: float, trees: int, seeds: int) -> None:
    """Leaves 13 apps out, and measures on sessions held out and a month later."""
    task = Task("sequence", hyperparameters={"n_trees": trees})
    flows, months = load(path, task, 10, sessions)
    is_first = months == "D1"
    for seed in range(seeds):
        every = np.unique(flows.apps)
        left_out = np.random.default_rng(seed).choice(every, 13, replace=False)
        is_held = held_side(flows.groups, 0.25, seed)
        kinds = {"month 0": is_first & is_held, "month 1": ~is_first}
        said = {"data": "fgnet", "model": "sequence", "sessions": sessions, "trees": trees}
        missing = [
            name for name in kinds if not rows.has({**said, "seed": seed, "measured on": name})
        ]
        if not missing:
            continue
        is_learned = is_first & ~is_held & ~np.isin(flows.apps, left_out)
        trained = Trained(task.with_seed(seed), flows.take(np.flatnonzero(is_learned)))
        for name in missing:
            tested = flows.take(np.flatnonzero(kinds[name]))
            rows.add(
                {**said, "seed": seed, "measured on": name},
                {"learned": int(is_learned.sum()), **trained.figures(tested, seed)},
            )


def windows(path: Path, rows: Rows, sessions: float, trees: int, seeds: int) -> None:
    """Leaves 13 apps out, as ``fgnet``, and weighs flows by their phone's, with an extra class *unknown*."""
    task = Task("sequence", hyperparameters={"n_trees": trees})
    flows, months = load(path, task, 10, sessions)
    is_first = months == "D1"
    for seed in range(seeds):
        left_out = np.random.default_rng(seed).choice(np.unique(flows.apps), 13, replace=False)
        is_held = held_side(flows.groups, 0.25, seed)
        is_learned = is_first & ~is_held & ~np.isin(flows.apps, left_out)
        kinds = {"month 0": is_first & is_held, "month 1": ~is_first}
        for n_apps in (1, 3):
            what = {"data": "fgnet windows", "sessions": sessions, "trees": trees, "seed": seed}
            what["apps at once"] = n_apps
            if all(rows.has({**what, "measured on": name}) for name in kinds):
                continue
            learned = on_phones(flows.take(np.flatnonzero(is_learned)), n_apps, seed)
            trained = Trained(task.with_seed(seed), learned)
            for name, kind in kinds.items():
                tested = on_phones(flows.take(np.flatnonzero(kind)), n_apps, seed)
                rows.add({**what, "measured on": name}, trained.in_context(tested))


def on_phones(flows: LabelledInputs, n_apps: int, seed: int) -> LabelledInputs:
    """The flows on phones that run ``n_apps`` apps at once."""
    assert flows.times_ns is not None
    phones = interleave(flows.apps, flows.groups, flows.times_ns, n_apps, seed)
    return replace(flows, clients=phones.key.astype(str), times_ns=phones.time_ns)


def drift(path: Path, rows: Rows, sessions: float, trees: int, seeds: int) -> None:
    """Learns from month 0, and watches held-out sessions of it (calm) and month 1, on phones of 1 or 3 apps.

    An app has drifted when the model's recall on it is more than ten points below that on held-out sessions.
    """
    task = Task("sequence", hyperparameters={"n_trees": trees})
    flows, months = load(path, task, 10, sessions)
    times = flows.times_ns
    assert times is not None
    is_first = months == "D1"
    for seed in range(seeds):
        is_held = held_side(flows.groups, 0.25, seed)
        kinds = {"month 0": is_first & is_held, "month 1": ~is_first}
        for n_apps in (1, 3):
            what = {"data": "fgnet drift", "sessions": sessions, "trees": trees, "seed": seed}
            what["apps at once"] = n_apps
            if all(rows.has({**what, "watched": name}) for name in kinds):
                continue
            phones = interleave(flows.apps, flows.groups, times, n_apps, seed)
            watched = replace(flows, clients=phones.key.astype(str), times_ns=phones.time_ns)
            trained = Trained(
                task.with_seed(seed), watched.take(np.flatnonzero(is_first & ~is_held))
            )
            for name, kind in kinds.items():
                # a phone has sessions of one side alone: they are put together again
                chosen = flows.take(np.flatnonzero(kind))
                assert chosen.times_ns is not None
                own = interleave(chosen.apps, chosen.groups, chosen.times_ns, n_apps, seed)
                rows.add(
                    {**what, "watched": name},
                    trained.drift(
                        replace(chosen, clients=own.key.astype(str), times_ns=own.time_ns)
                    ),
                )


def cost(path: Path, captures: list[str], rows: Rows, folder: Path) -> None:
    """Processor time of identifying captures, from packets to records: plainly, and with what notices news.

    The models learn from the captures' flows without those of one device. Flows of its TLS stacks are decided
    by the dearest rule, the mean with a forest on lengths.
    """
    from apptell.flows import FlowOptions
    from apptell.models import load_model
    from apptell.names import read_flows
    from apptell.records.schema import verdict_records
    from apptell.verdicts import identify_flows

    flows = Dataset.open(path).read()
    sources = origins(flows)
    of_lab = np.char.startswith(sources, "day")
    learned = flows.take(np.flatnonzero(of_lab & ~np.char.endswith(sources, LEFT_OUT)))
    for name in ("fast", "sequence"):
        models = {
            how: load_model(place, threads=1)
            for how, place in _models_of_cost(name, learned, folder).items()
        }
        options = FlowOptions(
            transports=(6, 17), decision_packets=models["without"].decision_packets
        )
        spent: dict[str, list[float]] = {how: [] for how in models}
        n = n_new = 0
        for _ in range(9):
            for how, model in models.items():
                rate = RATE if "unknown" in how else None
                began, n, n_new = time.process_time(), 0, 0
                with read_flows(captures, options) as reader:
                    for verdicts in identify_flows(reader, model, unknown=rate):
                        n += len(verdict_records(verdicts))
                        n_new += verdicts.column("stack").to_pylist().count("new")
                spent[how].append((time.process_time() - began) / n * 1e6)
        least = {how: round(min(values), 2) for how, values in spent.items()}
        rows.add(
            {"data": "cost", "model": name, "flows": n, "new": n_new, "at": time.strftime("%FT%T")},
            {
                "us_per_flow": least,
                "added": {how: round(us / least["without"] - 1, 4) for how, us in least.items()},
            },
        )


def _models_of_cost(name: str, learned: FlowBatch, folder: Path) -> dict[str, Path]:
    """A model that recognises unknown apps, and the same with the dearest rule for new stacks."""
    from apptell.learning import train_model
    from apptell.learning.stack_training import make_forest
    from apptell.models import read_model, write_model

    plain, rule = folder / f"{name}-plain", folder / f"{name}-rule"
    if not plain.exists():
        hyper = {"n_trees": 100.0} if name == "sequence" else None
        train_model(
            *(learned, apps_of(learned)), model=name, unknown=True, out=plain, hyperparameters=hyper
        )
    if not rule.exists():
        packets = 10 if name == "sequence" else 5
        enough = learned.filter(learned.payload_packets >= MIN_PAYLOAD_PACKETS)
        forest = make_forest(Task(name))
        forest.fit(lengths(enough, packets=packets), np.array(apps_of(enough), dtype=np.str_))
        info, onnx = read_model(plain)
        content = forest.to_onnx()
        about = {"share": 0.5, "temperature": 1.0, "packets": packets, "decides": "the mean"}
        about |= {"devices": 0, "flows": 0, "accepted": 0, "right": 0, "threshold": 0.85}
        about["sha256"] = hashlib.sha256(content).hexdigest()
        write_model(
            *(rule, onnx, {**info, "new_stacks": about}, "for a measurement"),
            unknown=(plain / "unknown.npz").read_bytes(),
            forest=content,
        )
    return {"without": plain, "unknown": plain, "new stacks": rule, "unknown, new stacks": rule}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=["messengers", "fgnet", "windows", "drift", "lab", "cost"])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--captures", nargs="*", default=[], help="of the part cost")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sessions", type=float, default=1.0, help="share of FG-Net's sessions")
    parser.add_argument("--trees", type=int, default=100, help="of the forest on FG-Net")
    args = parser.parse_args()
    rows = Rows(args.output)
    if args.part == "fgnet":
        fgnet(args.dataset, rows, args.sessions, args.trees, args.seeds)
    elif args.part == "windows":
        windows(args.dataset, rows, args.sessions, args.trees, args.seeds)
    elif args.part == "drift":
        drift(args.dataset, rows, args.sessions, args.trees, args.seeds)
    elif args.part == "cost":
        cost(args.dataset, args.captures, rows, args.output)
    elif args.part == "lab":
        each_app("lab", args.dataset, Task("fast"), 5, 0.34, rows, args.seeds)
    else:
        each_app("messengers", args.dataset, Task("fast"), 5, 0.34, rows, args.seeds)


if __name__ == "__main__":
    main()
