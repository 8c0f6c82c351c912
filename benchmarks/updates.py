"""Takes an unlearned app in with few flows: its recall, what the other apps lose, time and size. JSON lines.

    apptell dataset build CAPTURES/messengers -o messengers --labels folders
    apptell dataset build DATASETS/fgnet -o fgnet
    nice python benchmarks/updates.py fgnet fgnet -o results/ --sessions 0.17 --trees 20
    nice python benchmarks/updates.py messengers messengers -o results/
    nice python benchmarks/updates.py later fgnet -o results/ --sessions 0.25 --trees 20

An app is left out of the kept rows and comes back with ``--flows`` flows of whole sessions or networks. As
``apptell update`` does, a model with them is compared with one without them on held-out groups; the recall of
the app is measured on its other flows, which neither model learned from.

``later`` learns from a share of month 0's sessions, and a month later from half of that month's sessions: from
the model's own confident verdicts there (``apptell update --pseudo``), from 5 or 20 labelled sessions of each
app, from both, and from all labels. All are measured on the other half. Nothing was chosen on these figures:
the least probability is the one of ``apptell update``'s documentation.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apptell.experiments.held_out_change import compare_held_out
from apptell.learning.labelled_inputs import LabelledInputs
from apptell.learning.model_fitting import fit, from_rows, to_rows
from apptell.learning.task import Task
from apptell.models.temperature import calibrate
from apptell.models.training_rows import TrainingRows
from apptell.verdicts.context import reweigh_all
from apptell.watch.observations import TEMPERATURE, WINDOW
from open_world import Rows, held_side, load, on_phones

if TYPE_CHECKING:
    from apptell.learning.registry import Trainable


def first_flows(flows: LabelledInputs, own: np.ndarray, n: int, seed: int) -> np.ndarray:
    """About ``n`` of these rows, whole groups."""
    names = np.random.default_rng(seed).permutation(np.unique(flows.groups[own]))
    found: list[int] = []
    for name in names:
        if len(found) >= n:
            break
        found += own[flows.groups[own] == name].tolist()
    return np.array(found[: 2 * n], dtype=np.int64)


def take_in(
    task: Task, flows: LabelledInputs, app: str, n: int, seed: int
) -> dict[str, float | int | str]:
    """The figures of one app."""
    own = np.flatnonzero(flows.apps == app)
    added = first_flows(flows, own, n, seed)
    rest = np.setdiff1d(own, added)
    old = to_rows(task, flows.take(np.flatnonzero(flows.apps != app)))
    new = to_rows(task, flows.take(added))
    began = time.process_time()
    changes = compare_held_out(task, old, new)
    compared_s = time.process_time() - began
    began = time.process_time()
    learner = fit(task.learner(), task, from_rows(TrainingRows.concat([old, new])))
    trained_s = time.process_time() - began
    known = [each for each in changes if each.before is not None]
    losses = [(each.before or 0) - each.after for each in known]
    weights = [each.flows for each in known]
    content = old.to_bytes()
    found: dict[str, float | int | str] = {
        "kept": len(old),
        "added": len(new),
        "other flows of the app": len(rest),
        "mean loss": round(float(np.average(losses, weights=weights)), 4),
        "largest loss": round(max(losses), 4),
        "refused": sum(each.is_lost for each in known),
        "compared, s": round(compared_s, 2),
        "trained, s": round(trained_s, 2),
        "bytes per kept flow": round(len(content) / len(old), 1),
    }
    if len(rest):
        inputs = flows.inputs[rest, 0] if task.views else flows.inputs[rest]
        said = np.asarray(learner.classes_)[
            np.asarray(learner.predict_proba(inputs)).argmax(axis=1)
        ]
        found["recall"] = round(float((said == app).mean()), 4)
    return found


LEAST = 0.9
"""Probability of a window verdict that becomes a label."""


def confident(learner: Trainable, flows: LabelledInputs) -> tuple[np.ndarray, np.ndarray]:
    """Rows that ``apptell update --pseudo`` would learn from, and the apps that the model gives them."""
    assert flows.clients is not None
    assert flows.times_ns is not None
    p = np.asarray(learner.predict_proba(flows.inputs), dtype=np.float32)
    apps = np.asarray(learner.classes_, dtype=np.str_)
    softened = calibrate(p, TEMPERATURE, 1e-5)
    counts = np.full(len(apps), 1 / len(apps))
    weighed, _ = reweigh_all(flows.clients.tolist(), flows.times_ns, softened, counts, WINDOW)
    sure = np.flatnonzero(weighed.max(axis=1) >= LEAST)
    return sure, apps[weighed[sure].argmax(axis=1)]


def first_sessions(flows: LabelledInputs, n: int, seed: int) -> np.ndarray:
    """Rows of up to ``n`` sessions of each app."""
    found = []
    for app in np.unique(flows.apps):
        own = np.flatnonzero(flows.apps == app)
        names = np.random.default_rng(seed).permutation(np.unique(flows.groups[own]))[:n]
        found.append(own[np.isin(flows.groups[own], names)])
    return np.concatenate(found)


def joined(one: LabelledInputs, other: LabelledInputs) -> LabelledInputs:
    """Both, without what only a detector needs."""
    return LabelledInputs(
        np.concatenate([one.inputs, other.inputs]),
        np.concatenate([one.apps, other.apps]),
        np.concatenate([one.lengths, other.lengths]),
        np.concatenate([one.groups, other.groups]),
    )


def a_month_later(args: argparse.Namespace, rows: Rows) -> None:
    """Pseudo-labels, labelled sessions and both, a month after the first training."""
    task = Task("sequence", hyperparameters={"n_trees": args.trees}, seed=args.seed)
    flows, months = load(args.dataset, task, 10)
    is_first = months == "D1"
    learned = flows.take(
        np.flatnonzero(is_first & held_side(flows.groups, args.sessions, args.seed))
    )
    later = flows.take(np.flatnonzero(~is_first))
    is_pool = held_side(later.groups, 0.5, args.seed)
    pool = on_phones(later.take(np.flatnonzero(is_pool)), 1, args.seed)
    tested = later.take(np.flatnonzero(~is_pool))
    what = {"data": "fgnet a month later", "sessions": args.sessions, "trees": args.trees}
    what |= {"seed": args.seed}
    first = fit(task.learner(), task, learned)
    sure, said = confident(first, pool)
    by_model = replace(pool.take(sure), apps=said)
    few, many = (pool.take(first_sessions(pool, n, args.seed)) for n in (5, 20))
    work: dict[str, list[LabelledInputs]] = {
        "nothing": [],
        "pseudo-labels": [by_model],
        "5 labelled sessions": [few],
        "5 labelled sessions, pseudo-labels": [few, by_model],
        "20 labelled sessions": [many],
        "20 labelled sessions, pseudo-labels": [many, by_model],
        "all labels": [pool],
    }
    for name, parts in work.items():
        each = {**what, "learned as well": name}
        if rows.has(each):
            continue
        both = learned
        for part in parts:
            both = joined(both, part)
        learner = first if not parts else fit(task.learner(), task, both)
        guess = np.asarray(learner.classes_)[
            np.asarray(learner.predict_proba(tested.inputs)).argmax(axis=1)
        ]
        right = guess == tested.apps
        recalls = [float(right[tested.apps == app].mean()) for app in np.unique(tested.apps)]
        found = {
            "learned": len(learned.apps),
            "added": len(both.apps) - len(learned.apps),
            "tested": len(tested.apps),
            "accuracy": intervals(right, tested.groups, args.seed),
            "mean recall": round(float(np.mean(recalls)), 4),
        }
        if name == "pseudo-labels":
            found["pseudo-labels right"] = round(float((said == pool.apps[sure]).mean()), 4)
        rows.add(each, found)


def intervals(right: np.ndarray, groups: np.ndarray, seed: int) -> list[float]:
    """The share of right flows, and its 95 % bootstrap interval over groups."""
    group = np.unique(groups, return_inverse=True)[1]
    total, good = np.bincount(group), np.bincount(group, right)
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(total), (1000, len(total)))
    shares = good[drawn].sum(axis=1) / total[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975]).tolist()
    return [round(each, 4) for each in (float(right.mean()), low, high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=["fgnet", "messengers", "later"])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flows", type=int, default=50)
    parser.add_argument("--apps", type=int, default=6, help="apps of FG-Net that are left out")
    parser.add_argument("--sessions", type=float, default=1.0, help="share of FG-Net's sessions")
    parser.add_argument("--trees", type=int, default=100, help="of the forest on FG-Net")
    args = parser.parse_args()
    rows = Rows(args.output)
    if args.part == "later":
        a_month_later(args, rows)
        return
    if args.part == "fgnet":
        task = Task("sequence", hyperparameters={"n_trees": args.trees}, seed=args.seed)
        flows, months = load(args.dataset, task, 10, args.sessions)
        flows = flows.take(np.flatnonzero(months == "D1"))
        names, counts = np.unique(flows.apps, return_counts=True)
        many = names[counts >= 3 * args.flows]
        apps = np.random.default_rng(args.seed).choice(many, args.apps, replace=False).tolist()
    else:
        task = Task("fast", seed=args.seed)
        flows, _ = load(args.dataset, task, 5)
        flows = flows.take(np.flatnonzero(flows.apps != "other"))
        apps = np.unique(flows.apps).tolist()
    for app in apps:
        what = {"data": f"{args.part} update", "seed": args.seed, "app": str(app)}
        if not rows.has(what):
            rows.add(what, dict(take_in(task, flows, str(app), args.flows, args.seed)))


if __name__ == "__main__":
    main()
