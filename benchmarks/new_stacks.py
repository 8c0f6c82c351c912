"""Devices that a model never saw: what of their flows it accepts, and how much of that is right. JSON lines.

    apptell dataset build src/apptell/samples -o lab --labels folders
    apptell dataset build CAPTURES/messengers -o messengers --labels folders
    nice python benchmarks/new_stacks.py lab lab -o results/
    nice python benchmarks/new_stacks.py messengers messengers -o results/
    nice python benchmarks/new_stacks.py devices days -o results/

``devices`` takes any dataset with the group ``device``, such as that of the lab's days (see year.py). Each
device, of ``lab`` of the samples, or each eighth of the messengers' networks, is left out. A model of the
others decides its flows, plainly and with the rule of ``apptell train --new-stacks``, which is chosen on the
others alone. Accepted are flows at 0.85.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apptell.dataset import Dataset
from apptell.dataset.groups import origins
from apptell.dataset.selection import Selection
from apptell.experiments.labelled import apps_of
from apptell.learning.model_fitting import fit, labelled_inputs
from apptell.learning.stack_training import fit_stack_rule, make_forest
from apptell.learning.task import Task
from apptell.models.new_stacks import mixed
from apptell.verdicts.pipeline import DEFAULT_THRESHOLD, MIN_PAYLOAD_PACKETS
from open_world import Rows

if TYPE_CHECKING:
    from apptell.learning.labelled_inputs import LabelledInputs

PARTS = 8


def load(name: str, path: Path, task: Task) -> tuple[LabelledInputs, np.ndarray]:
    """The flows, and the part of each that is left out together."""
    flows = Dataset.open(path).read()
    sources = origins(flows)
    wanted = flows.payload_packets >= MIN_PAYLOAD_PACKETS
    if name == "lab":
        wanted &= np.char.startswith(sources, "day")
    elif name == "messengers":
        wanted &= np.array(apps_of(flows)) != "other"
    rows = np.flatnonzero(wanted)
    flows = flows.take(rows)
    apps = np.array(apps_of(flows), dtype=np.str_)
    found = labelled_inputs(task, Selection.of(flows), apps, describes=True)
    if name == "lab":  # day0-home-openssl-default
        devices = np.array([source.split("-", 2)[2] for source in sources[rows].tolist()])
        return replace(found, devices=devices), devices
    if name == "devices":
        assert found.devices is not None
        return found, found.devices
    names, of_flow = np.unique(found.groups, return_inverse=True)
    part = np.random.default_rng(0).permutation(len(names)) % PARTS
    return found, np.array([f"networks {number + 1}" for number in part[of_flow].tolist()])


def judged(p: np.ndarray, classes: np.ndarray, apps: np.ndarray, rows: np.ndarray) -> list[int]:
    """Accepted flows among some, and right ones of these."""
    accepted = rows & (p.max(axis=1) >= np.float32(DEFAULT_THRESHOLD))
    right = accepted & (classes[p.argmax(axis=1)] == apps)
    return [int(accepted.sum()), int(right.sum())]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=["lab", "devices", "messengers"])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = Rows(args.output)
    task = Task(args.model, seed=args.seed)
    flows, parts = load(args.part, args.dataset, task)
    assert flows.ja4 is not None
    for left_out in sorted(set(parts.tolist())):
        what = {"data": f"{args.part} new stacks", "model": args.model, "seed": args.seed}
        what["left out"] = left_out
        if rows.has(what):
            continue
        train, test = np.flatnonzero(parts != left_out), np.flatnonzero(parts == left_out)
        learned, tested = flows.take(train), flows.take(test)
        about = fit_stack_rule(task, learned).facts
        learner = fit(task.learner(), task, learned)
        inputs = tested.inputs[:, 0] if task.views else tested.inputs
        plain = np.asarray(learner.predict_proba(inputs), dtype=np.float32)
        forest = make_forest(task).fit(learned.lengths, learned.apps)
        by_lengths = np.asarray(forest.predict_proba(tested.lengths), dtype=np.float32)
        assert tested.ja4 is not None
        is_new = (tested.ja4 != "") & ~np.isin(tested.ja4, flows.ja4[train])
        ruled = plain.copy()
        share, temperature = about["share"], about["temperature"]
        ruled[is_new] = mixed(plain[is_new], by_lengths[is_new], share, temperature)
        every = np.ones(len(test), dtype=bool)
        classes = np.asarray(learner.classes_)
        rows.add(
            what,
            {
                "flows": len(test),
                "of new stacks": int(is_new.sum()),
                "plain": judged(plain, classes, tested.apps, every),
                "plain, new stacks": judged(plain, classes, tested.apps, is_new),
                "rule": judged(ruled, classes, tested.apps, every),
                "rule, new stacks": judged(ruled, classes, tested.apps, is_new),
                "chosen": about,
            },
        )


if __name__ == "__main__":
    main()
