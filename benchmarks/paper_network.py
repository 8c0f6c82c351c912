"""Trains the paper's network in full where whole sources are left out: docs/reports/results.md.

    apptell dataset build CAPTURES/messengers -o messengers
    OMP_NUM_THREADS=1 nice python benchmarks/paper_network.py messengers -o RESULTS [--patience 10] [--other]

Five folds of sources; the network of fold k has the seed k. Without ``--patience`` all epochs are trained on
all training flows, as in the paper; with it, a training ends after so many epochs without a smaller loss on a
tenth of the training flows, which are held out. The six apps, or with ``--other`` the background as a class
of its own too. Trainings are kept in RESULTS/cache, so that an interrupted run continues; prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from apptell.dataset import Dataset
from apptell.dataset.splits import folds, method_of
from apptell.evaluation import slices_of
from apptell.evaluation.pooled import PooledFolds, measure_pooled
from apptell.experiments.labelled import apps_of, labelled_flows
from apptell.experiments.schedule import Schedule
from apptell.experiments.trial_cache import run_trial
from apptell.learning.task import Task
from apptell.verdicts.schema import OTHER

FOLDS = 5


def main() -> None:
    """Trains what is not in the cache, and prints the pooled figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--split", default="source")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--patience", type=int)
    parser.add_argument("--other", action="store_true")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    schedule = Schedule(given.epochs, tuple(range(FOLDS)), given.device, given.patience)
    chosen = labelled_flows(Dataset.open(given.dataset))
    if not given.other:
        chosen = chosen.filter(np.array(apps_of(chosen.flows)) != OTHER)
    truth = np.array(apps_of(chosen.flows))
    apps = tuple(np.unique(truth).tolist())
    task = Task(
        "paper-cnn", given.epochs, device=given.device, hyperparameters=schedule.hyperparameters
    )
    images = task.encode(chosen)
    splits = folds(chosen.flows, given.split, FOLDS, 0, "app")
    parts, passes, seconds = [], [], []
    for seed, split in enumerate(splits):
        run = run_trial(
            task.with_seed(seed), images[split.train], truth[split.train], images[split.test],
            given.output / "cache",
        )  # fmt: skip
        parts.append(run.spread(apps))
        passes.append(run.passes)
        seconds.append(round(run.train_s))
        print(f"fold {seed}: {len(split.train)} flows, {run.passes} epochs", file=sys.stderr)
    rows = np.concatenate([split.test for split in splits])
    fold_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(rows, kind="stable")
    pooled = PooledFolds(0, rows[order], fold_of[order], np.concatenate(parts)[order])
    groups = method_of(splits[0].method).interval_groups(chosen.flows)
    measured = measure_pooled(
        chosen.flows, truth.tolist(), apps, [pooled],
        groups=groups, slices=slices_of(chosen), seed=0,
    )  # fmt: skip
    about = {
        "split": given.split,
        "flows": len(truth),
        "groups": len(np.unique(groups)),
        "schedule": schedule.words,
        "epochs": passes,
        "seconds": seconds,
    }
    print(json.dumps({**about, **measured.to_json()}, indent=1))


if __name__ == "__main__":
    main()
