"""Chooses settings of a model on inner folds by source, and calibrates over sources: docs/reports/models.md.

    OMP_NUM_THREADS=1 nice python benchmarks/variants.py CAPTURES -o RESULTS [--strengths 30,5,2]

Names are masked; the flows are those of ``real_flows.py`` without background. Ten outer folds and five inner
folds have whole sources. A setting is chosen, and a temperature is fitted, on the inner folds of each training
side alone. Trainings are kept in RESULTS/cache; prints JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.evaluation.by_source import source_folds
from apptell.experiments.trial_cache import run_trial
from apptell.learning.task import Task
from apptell.models.temperature import calibrate
from apptell.verdicts.calibration import FLOOR, fit_temperature
from real_flows import OTHER, RealFlows, read_real_flows
from sources import figures

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTER, INNER = 10, 5
TRANSPORTS = ("6", "17")
"""IP protocol numbers of TCP and UDP."""
WAYS = ("flows", "sources", "flows, by transport", "sources, by transport")


def main() -> None:
    """Measures each setting, the chosen one, and both after temperature scaling."""
    parser = argparse.ArgumentParser()
    parser.add_argument("captures", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--strengths", default="30,5,2")
    given = parser.parse_args()
    flows = read_real_flows(given.captures, given.output)
    flows = flows.take(np.flatnonzero(flows.app != OTHER))
    apps = tuple(np.unique(flows.app).tolist())
    target = np.searchsorted(apps, flows.app)
    tasks = {
        text: Task(given.model, hyperparameters={"strength": float(text)})
        for text in given.strengths.split(",")
    }
    shape = (len(flows), len(apps))
    found = {name: np.zeros(shape, dtype=np.float32) for name in (*tasks, "chosen")}
    names = [f"{name}, temperature over {way}" for name in found for way in WAYS]
    ways = {name: np.zeros(shape, dtype=np.float32) for name in names}
    transport = np.array([key.split(" ")[3] for key in flows.key.tolist()])
    chosen = []
    outer = source_folds(flows.source, flows.app, OUTER, 0)
    for fold in range(OUTER):
        learned, tested = np.flatnonzero(outer != fold), np.flatnonzero(outer == fold)
        side = flows.take(learned)
        inner = source_folds(side.source, side.app, INNER, 1)
        held: dict[str, NDArray[np.float32]] = {}
        for name, task in tasks.items():
            found[name][tested] = run(task, flows, learned, tested, apps, given.output)
            held[name] = np.zeros((len(side), len(apps)), dtype=np.float32)
            for number in range(INNER):
                rows, rest = np.flatnonzero(inner == number), np.flatnonzero(inner != number)
                held[name][rows] = run(task, side, rest, rows, apps, given.output)
        truth = target[learned]
        loss = {name: log_loss(p, truth) for name, p in held.items()}
        best = min(loss, key=lambda name: loss[name])
        chosen.append(best)
        held["chosen"], found["chosen"][tested] = held[best], found[best][tested]
        for name, p in held.items():
            for way, groups, of in (
                ("flows", None, [""]),
                ("sources", side.source, [""]),
                ("flows, by transport", None, TRANSPORTS),
                ("sources, by transport", side.source, TRANSPORTS),
            ):
                for protocol in of:
                    a = np.flatnonzero((transport[learned] == protocol) | (protocol == ""))
                    b = tested[(transport[tested] == protocol) | (protocol == "")]
                    whose = None if groups is None else groups[a]
                    temperature = fit_temperature(p[a], truth[a], FLOOR, whose)
                    softened = calibrate(found[name][b], temperature, FLOOR)
                    ways[f"{name}, temperature over {way}"][b] = softened
    result: dict[str, Any] = {"chosen": chosen}
    for name, p in (found | ways).items():
        result[name] = {"all": figures(flows, p, apps)["provider"]}
        for which, rows in (
            *((each, np.flatnonzero(transport == each)) for each in TRANSPORTS),
            ("mid-session", np.flatnonzero(flows.is_late)),
        ):
            part = figures(flows.take(rows), p[rows], apps)
            result[name][which] = part["provider"]
    print(json.dumps(result, indent=1))


def run(
    task: Task,
    flows: RealFlows,
    learned: NDArray[np.int64],
    tested: NDArray[np.int64],
    apps: tuple[str, ...],
    folder: Path,
) -> NDArray[np.float32]:
    """Probabilities of the tested flows by a model of the learned ones."""
    result = run_trial(
        task, flows.masked[learned], flows.app[learned], flows.masked[tested][:, 0], folder / "cache",
        groups=flows.source[learned],
    )  # fmt: skip
    return result.spread(apps)


def log_loss(p: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood of the truth."""
    return float(-np.log(np.maximum(p[np.arange(len(truth)), truth], FLOOR)).mean())


if __name__ == "__main__":
    main()
