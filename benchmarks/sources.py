"""Judges models by leaving out one source of real captures at a time: the table of docs/reports/models.md.

    OMP_NUM_THREADS=1 nice python benchmarks/sources.py CAPTURES -o RESULTS [--model fast] [--set strength=5]
    OMP_NUM_THREADS=1 nice python benchmarks/sources.py CAPTURES -o RESULTS --untouched

The flows are those of ``real_flows.py``. Trainings are kept in RESULTS/cache, so that an interrupted run
continues, and RESULTS/sources.json has the figures. Names are masked wherever truth comes from names; with
names on, only sources of ``messengers`` are tested. A source without flows of the six apps is tested only
with ``--background``. ``--untouched`` learns from the development half and tests the untouched half, once: a
model that tests a source has not learned from any flow of that source in another collection.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from apptell.evaluation.providers import by_provider, provider_of
from apptell.evaluation.scores import confusion_matrix, score
from apptell.evaluation.uncertainty import bootstrap_intervals
from apptell.experiments.trial_cache import run_trial
from apptell.learning.task import Task
from real_flows import OTHER, RealFlows, read_real_flows

THRESHOLD = 0.85
N_BINS = 15


def main() -> None:
    """Measures what is not in the cache, and adds it to the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("captures", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", action="append", dest="models")
    parser.add_argument("--names", default="masked,on")
    parser.add_argument("--set", dest="numbers", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--background", action="store_true")
    parser.add_argument("--untouched", action="store_true")
    given = parser.parse_args()
    numbers = {each.split("=")[0]: float(each.split("=")[1]) for each in given.numbers}
    flows = read_real_flows(given.captures, given.output)
    tested = np.ones(len(flows), dtype=bool)
    if given.untouched:
        kept = read_real_flows(given.captures, given.output, collections=("real",), untouched=True)
        flows = RealFlows.join([flows, kept])
        tested = np.isin(flows.key, kept.key)
    if not given.background:
        tested, flows = tested[flows.app != OTHER], flows.take(np.flatnonzero(flows.app != OTHER))
    for model in given.models or ["fast"]:
        for names in given.names.split(","):
            if names == "on" and (given.untouched or model in ("paper-rf", "nearest-neighbour")):
                continue
            task = Task(model, given.epochs, given.seed, hyperparameters=numbers or None)
            rows, p = leave_sources_out(flows, tested, task, names, given.output / "cache")
            what = {
                "model": model, "names": names, "seed": given.seed, "set": ",".join(given.numbers),
                "background": given.background, "untouched": given.untouched,
            }  # fmt: skip
            save(given.output / "sources.json", what, figures(flows.take(rows), p, flows.app))


def leave_sources_out(
    flows: RealFlows, tested: np.ndarray, task: Task, names: str, cache: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that were tested, and their probabilities by models that did not learn from their source."""
    if names == "on":
        tested = tested & (flows.collection == "messengers")
    inputs = flows.statistics
    if task.is_grouped or task.model == "name-lookup":
        inputs = flows.structure if names == "on" else flows.masked
        if task.model == "name-lookup":
            inputs = inputs[:, 0, -4:]
    apps = tuple(np.unique(flows.app).tolist())
    rows, found = [], []
    untouched = np.isin(flows.source, flows.source[tested]) & tested
    for source in np.unique(flows.source[tested]):
        test = np.flatnonzero(tested & (flows.source == source))
        learned = np.flatnonzero((flows.source != source) & ~(untouched & ~_all(tested)))
        run = run_trial(
            task, inputs[learned], flows.app[learned], _first(inputs[test]), cache,
            groups=flows.source[learned],
        )  # fmt: skip
        rows.append(test)
        found.append(run.spread(apps))
        print(task.model, names, source, len(test), flush=True)
    return np.concatenate(rows), np.concatenate(found)


def _all(tested: np.ndarray) -> np.ndarray:
    """Whether every flow is tested in turn, so that tested flows are learned from too."""
    return np.full(len(tested), bool(tested.mean() > 0.5))


def _first(inputs: np.ndarray) -> np.ndarray:
    """The flows as they were recorded, without further views."""
    return inputs[:, 0] if inputs.ndim == 3 else inputs


def figures(flows: RealFlows, p: np.ndarray, every: np.ndarray) -> dict[str, Any]:
    """Figures of the tested flows, by app and by provider, with intervals over sources."""
    apps = tuple(np.unique(every).tolist())
    found: dict[str, Any] = {"flows": len(flows), "sources": len(np.unique(flows.source))}
    for level in ("app", "provider"):
        truth, shares, columns = flows.app, p, apps
        if level == "provider":
            truth = np.array([provider_of(app) for app in truth.tolist()])
            shares, columns = by_provider(p.astype(np.float32), apps)
        target = np.array([columns.index(each) for each in truth.tolist()])
        guess, confidence = shares.argmax(axis=1), shares.max(axis=1)
        right, sure = guess == target, confidence >= THRESHOLD
        scores = score(confusion_matrix(target, guess, len(columns)), columns)
        ends = bootstrap_intervals(target, guess, len(columns), flows.source)
        each = {s: float(right[flows.source == s].mean()) for s in np.unique(flows.source).tolist()}
        bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
        gaps = [
            abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        ]
        wrong = np.flatnonzero(~right)
        pairs, n = np.unique(
            [
                f"{columns[t]} as {columns[g]}"
                for t, g in zip(target[wrong], guess[wrong], strict=True)
            ],
            return_counts=True,
        )
        named = sure & (np.array(columns)[guess] != OTHER)
        found[level] = {
            "accuracy": [scores.accuracy, *ends["accuracy"]],
            "macro_f1": [scores.macro_f1, *ends["macro_f1"]],
            "accuracy_by_source": float(np.mean(list(each.values()))),
            "late": float(right[flows.is_late].mean()) if flows.is_late.any() else None,
            "late_flows": int(flows.is_late.sum()),
            "ece": float(sum(gaps)),
            "precision_at_85": float(right[named].mean()) if named.any() else None,
            "coverage_at_85": float(named[truth != OTHER].mean()),
            "sources": {s: [each[s], int((flows.source == s).sum())] for s in each},
            "errors": dict(sorted(zip(pairs.tolist(), n.tolist(), strict=True), key=lambda e: -e[1])[:12]),
        }  # fmt: skip
    return found


def save(file: Path, what: dict[str, Any], found: dict[str, Any]) -> None:
    """Adds or replaces one line of the figures."""
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    rows = [row for row in rows if row["what"] != what]
    text = json.dumps([*rows, {"what": what, **found}], indent=1)
    file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
