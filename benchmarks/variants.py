"""Chooses a variant of the model on inner folds by source, and calibrates over sources: docs/reports/models.md.

    OMP_NUM_THREADS=1 nice python benchmarks/variants.py CAPTURES -o RESULTS [--variant NAME ...] [--name FILE]

The variants of ``fast`` are those of ``token_variants.py``. Names are masked; the flows are those of
``real_flows.py`` without background. Ten outer folds and five inner folds have whole sources. A variant is
chosen, and a temperature is fitted, on the inner folds of each training side alone. Trainings are kept in
RESULTS/cache, so that an interrupted run continues; RESULTS/FILE.json has the figures.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.evaluation.by_source import source_folds
from apptell.experiments.trial_cache import Trial, run_trial
from apptell.files import write_file
from apptell.learning.task import Task
from apptell.models.temperature import calibrate
from apptell.verdicts.calibration import FLOOR, fit_temperature
from real_flows import OTHER, RealFlows, read_real_flows
from sources import figures
from token_kinds import token_kinds, without_each_kind
from token_variants import SHIPPED, VARIANTS, Variant, WeightedTokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTER, INNER = 10, 5
TRANSPORTS = ("6", "17")
"""IP protocol numbers of TCP and UDP."""
SOFTENED = ("as shipped", "chosen")
"""Variants that are also measured after temperature scaling."""
WAYS = ("flows", "sources", "flows, by transport", "sources, by transport")


def main() -> None:
    """Measures each setting, the chosen one, and both after temperature scaling."""
    parser = argparse.ArgumentParser()
    parser.add_argument("captures", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--variant", action="append", dest="variants", choices=VARIANTS)
    parser.add_argument("--name", default="variants")
    given = parser.parse_args()
    flows = read_real_flows(given.captures, given.output)
    flows = flows.take(np.flatnonzero(flows.app != OTHER))
    apps = tuple(np.unique(flows.app).tolist())
    target = np.searchsorted(apps, flows.app)
    variants = {name: VARIANTS[name] for name in given.variants or VARIANTS}
    shape = (len(flows), len(apps))
    found = {name: np.zeros(shape, dtype=np.float32) for name in (*variants, "chosen")}
    names = [
        f"{name}, temperature over {way}" for name in found if name in SOFTENED for way in WAYS
    ]
    ways = {name: np.zeros(shape, dtype=np.float32) for name in names}
    transport = np.array([key.split(" ")[3] for key in flows.key.tolist()])
    chosen, losses = [], []
    outer = source_folds(flows.source, flows.app, OUTER, 0)
    for fold in range(OUTER):
        learned, tested = np.flatnonzero(outer != fold), np.flatnonzero(outer == fold)
        side = flows.take(learned)
        inner = source_folds(side.source, side.app, INNER, 1)
        held: dict[str, NDArray[np.float32]] = {}
        for name, variant in variants.items():
            found[name][tested] = fitted(variant, flows, learned, tested, apps, given.output)
            held[name] = np.zeros((len(side), len(apps)), dtype=np.float32)
            for number in range(INNER):
                rows, rest = np.flatnonzero(inner == number), np.flatnonzero(inner != number)
                held[name][rows] = fitted(variant, side, rest, rows, apps, given.output)
        truth = target[learned]
        loss = {name: log_loss(p, truth) for name, p in held.items()}
        best = min(loss, key=lambda name: loss[name])
        chosen.append(best)
        losses.append(loss)
        print(fold, best, flush=True)
        held["chosen"], found["chosen"][tested] = held[best], found[best][tested]
        for name, p in ((each, held[each]) for each in SOFTENED if each in held):
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
    result: dict[str, Any] = {
        "chosen in folds": chosen,
        "inner log loss": {
            name: float(np.mean([each[name] for each in losses])) for name in variants
        },
    }
    for name, p in (found | ways).items():
        result[name] = {"all": figures(flows, p, apps)["provider"]}
        for which, rows in (
            *((each, np.flatnonzero(transport == each)) for each in TRANSPORTS),
            ("mid-session", np.flatnonzero(flows.is_late)),
        ):
            part = figures(flows.take(rows), p[rows], apps)
            result[name][which] = part["provider"]
    write_file(given.output / f"{given.name}.json", (json.dumps(result, indent=1) + "\n").encode())


def fitted(
    variant: Variant,
    flows: RealFlows,
    learned: NDArray[np.int64],
    tested: NDArray[np.int64],
    apps: tuple[str, ...],
    folder: Path,
) -> NDArray[np.float32]:
    """Probabilities of the tested flows by a variant of ``fast`` that learned from the learned ones."""
    if variant == SHIPPED:
        return run(Task("fast"), flows, learned, tested, apps, folder)
    inputs = flows.masked[learned] if variant.views else flows.masked[learned][:, :1]
    if variant.dropped:
        more = without_each_kind(inputs[:, 0], token_kinds(folder))
        inputs = np.concatenate([inputs, more], axis=1)
    trial = Trial(
        Task("fast"), inputs, flows.app[learned], flows.masked[tested][:, 0], flows.source[learned]
    )
    parts = [f"{name}={value:g}" for name, value in asdict(variant).items()]
    file = folder / "cache" / f"variant {' '.join(parts)} {trial.name}.npy"
    if not file.exists():
        model = WeightedTokens(variant).fit(trial.learned, trial.apps, trial.groups)
        wide = np.zeros((len(tested), len(apps)), dtype=np.float32)
        wide[:, np.searchsorted(apps, model.classes_)] = model.predict_proba(trial.tested)
        content = io.BytesIO()
        np.save(content, wide)
        write_file(file, content.getbuffer())
    return np.asarray(np.load(file), dtype=np.float32)


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
