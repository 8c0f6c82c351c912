"""Measures context on captures of real clients: each model on folds by source, with and without it.

    python benchmarks/context.py messengers -o results/ --model sequence --model paper-rf

Prints JSON. All labelled flows count, including background, because a phone's background is part of its
context. A client is an address of a capture. Trainings are kept in the results' ``cache/``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from apptell.dataset import Dataset
from apptell.dataset.groups import group_values
from apptell.dataset.splits import folds
from apptell.evaluation.curves import expected_calibration_error, reliability
from apptell.evaluation.providers import by_provider, provider_of
from apptell.evaluation.scores import confusion_matrix, score
from apptell.evaluation.uncertainty import bootstrap_intervals
from apptell.experiments.labelled import apps_of
from apptell.experiments.trial_cache import run_trial
from apptell.learning.task import Task
from apptell.verdicts import ContextOptions, calibrate
from apptell.verdicts.context import reweigh_all
from apptell.verdicts.pipeline import MIN_PAYLOAD_PACKETS

WINDOWS = {
    "alone": None,
    "30 s before": ContextOptions(30.0),
    "120 s before": ContextOptions(120.0),
    "30 s on both sides": ContextOptions(30.0, both_sides=True),
}


def figures(
    truth: list[str], p: np.ndarray, apps: list[str], sources: np.ndarray
) -> dict[str, Any]:
    number = np.searchsorted(apps, truth)
    guess, confidence = p.argmax(axis=1), p.max(axis=1)
    right = guess == number
    accepted = confidence >= 0.85
    matrix = score(confusion_matrix(number, guess, len(apps)), apps)
    ends = bootstrap_intervals(number, guess, len(apps), sources, n_draws=300)
    return {
        "accuracy": round(matrix.accuracy, 4),
        "macro_f1": round(matrix.macro_f1, 4),
        "macro_f1_95": [round(end, 4) for end in ends["macro_f1"]],
        "at_0.85": [round(float(right[accepted].mean()), 4), round(float(accepted.mean()), 4)],
        "calibration_error": round(expected_calibration_error(reliability(confidence, right)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument(
        "--seeds", type=int, default=3, help="number of seeds of folds and trainings"
    )
    parser.add_argument(
        "--temperatures", default="1", help="by which probabilities are softened before context"
    )
    args = parser.parse_args()
    temperatures = [float(each) for each in args.temperatures.split(",")]
    flows = Dataset.open(args.dataset).read()
    flows = flows.filter(flows.payload_packets >= MIN_PAYLOAD_PACKETS)
    truth = np.array(apps_of(flows))
    apps = sorted(set(truth.tolist()))
    sources = group_values(flows, "source").astype(str)
    clients = list(
        zip(
            flows.column("capture").to_pylist(),
            flows.column("client_address").to_pylist(),
            strict=True,
        )
    )
    times = flows.numpy("decided_ns")
    for model in args.model or ["sequence", "paper-rf"]:
        for seed in range(args.seeds):
            task = Task(model, seed=seed)
            inputs = task.encode(flows)
            found = {
                (name, 1.0 if options is None else temperature): np.zeros(
                    (len(flows), len(apps)), np.float32
                )
                for name, options in WINDOWS.items()
                for temperature in temperatures
            }
            for side in folds(flows, "source", 5, seed=seed):
                run = run_trial(
                    task,
                    inputs[side.train],
                    truth[side.train],
                    inputs[side.test],
                    args.output / "cache",
                )
                p = run.spread(tuple(apps))
                counts = np.array([(truth[side.train] == app).sum() for app in apps])
                mine = [clients[row] for row in side.test]
                prior = counts / counts.sum()
                for (name, temperature), target in found.items():
                    target[side.test] = p
                    if (options := WINDOWS[name]) is not None:
                        soft = calibrate(p, temperature, 1e-6)
                        weighed, others = reweigh_all(mine, times[side.test], soft, prior, options)
                        target[side.test] = np.where(others[:, None] > 0, weighed, p)
            for (name, temperature), p in found.items():
                whole, providers = by_provider(p, apps)
                row = {
                    "model": model,
                    "context": name,
                    "temperature": temperature,
                    "seed": seed,
                    "flows": len(flows),
                    **figures(truth.tolist(), p, apps, sources),
                    "by_provider": figures(
                        [provider_of(app) for app in truth], whole, list(providers), sources
                    ),
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
