"""Takes an unlearned app in with few flows: its recall, what the other apps lose, time and size. JSON lines.

    apptell dataset build CAPTURES/messengers -o messengers --labels folders
    apptell dataset build DATASETS/fgnet -o fgnet
    nice python benchmarks/updates.py fgnet fgnet -o results/ --sessions 0.17 --trees 20
    nice python benchmarks/updates.py messengers messengers -o results/

An app is left out of the kept rows and comes back with ``--flows`` flows of whole sessions or networks. As
``apptell update`` does, a model with them is compared with one without them on held-out groups; the recall of
the app is measured on its other flows, which neither model learned from.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apptell.experiments.held_out_change import compare_held_out
from apptell.learning.model_fitting import fit, from_rows, to_rows
from apptell.learning.task import Task
from apptell.models.training_rows import TrainingRows
from open_world import Rows, load

if TYPE_CHECKING:
    from apptell.learning.labelled_inputs import LabelledInputs


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=["fgnet", "messengers"])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flows", type=int, default=50)
    parser.add_argument("--apps", type=int, default=6, help="apps of FG-Net that are left out")
    parser.add_argument("--sessions", type=float, default=1.0, help="share of FG-Net's sessions")
    parser.add_argument("--trees", type=int, default=100, help="of the forest on FG-Net")
    args = parser.parse_args()
    rows = Rows(args.output)
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
