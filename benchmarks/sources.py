"""Judges models on sources that they did not learn from: the main table of docs/reports/models.md.

    OMP_NUM_THREADS=1 nice python benchmarks/sources.py CAPTURES -o RESULTS [--model fast] [--set strength=5]
    OMP_NUM_THREADS=1 nice python benchmarks/sources.py CAPTURES -o RESULTS --untouched

The flows are those of ``real_flows.py``. One source is left out at a time, or one of ``--folds N`` folds of
whole sources. Trainings are kept in RESULTS/cache, so that an interrupted run continues; RESULTS/sources.json
has the figures, and RESULTS/probabilities those of each flow. Names are masked wherever truth comes from names;
with names on, only flows of ``messengers`` are tested; ``--names tokens`` leaves out the lookup of names. A
source without flows of the six apps is tested only with ``--background on``. ``--untouched`` learns from the
development half and tests the untouched half, once: no flow of the untouched half is learned from, and a model
that tests a person has not learned from any flow of that person in another collection.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.encoding.structure import N_TOKENS
from apptell.evaluation.by_source import source_figures, source_folds, turns
from apptell.experiments.trial_cache import run_trial
from apptell.learning.task import Task
from real_flows import OTHER, RealFlows, read_real_flows

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMELESS = ("paper-rf", "nearest-neighbour")
"""Models that read no names."""
ONLY_NAMES = "name-lookup"
UNTOUCHED = "untouched"
TRANSPORTS = {"TCP": "6", "UDP": "17"}


def main() -> None:
    """Measures what is not in the cache, and adds it to the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("captures", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", action="append", dest="models")
    parser.add_argument("--names", default="masked,on")
    parser.add_argument("--set", dest="numbers", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--background", choices=("off", "on", "both"), default="off")
    parser.add_argument("--untouched", action="store_true")
    given = parser.parse_args()
    numbers = {each.split("=")[0]: float(each.split("=")[1]) for each in given.numbers}
    every, kept = read(given.captures, given.output, untouched=given.untouched)
    known = set(every.source[~kept].tolist())
    sides = {"off": [False], "on": [True], "both": [False, True]}[given.background]
    for background, model in product(sides, given.models or ["fast"]):
        chosen = np.flatnonzero((every.app != OTHER) | background)
        flows, is_untouched = every.take(chosen), kept[chosen]
        for names in given.names.split(","):
            if (names != "masked" and (given.untouched or model in NAMELESS)) or (
                names == "masked" and model == ONLY_NAMES
            ):
                continue
            task = Task(model, given.epochs, given.seed, hyperparameters=numbers or None)
            tested = is_untouched if given.untouched else np.ones(len(flows), dtype=bool)
            if names != "masked":
                tested = tested & (flows.collection == "messengers")
            learnable = ~is_untouched
            fold = None
            if given.folds:
                fold = source_folds(flows.source, flows.app, given.folds, given.seed)
            rows, p = judge(flows, tested, learnable, fold, task, names, given.output / "cache")
            what = {
                "model": model, "names": names, "seed": given.seed, "set": ",".join(given.numbers),
                "folds": given.folds, "background": background, "untouched": given.untouched,
            }  # fmt: skip
            save(
                given.output, what, flows.take(rows), p, tuple(np.unique(flows.app).tolist()), known
            )


def read(captures: Path, results: Path, *, untouched: bool) -> tuple[RealFlows, NDArray[np.bool_]]:
    """The flows, and which of them are the untouched half, shape (n,): none unless it is asked for.

    A connection that both the untouched half and another collection have belongs to the untouched half, but
    not to the collection UNTOUCHED, which has the connections that no other collection has.
    """
    flows = read_real_flows(captures, results)
    if not untouched:
        return flows, np.zeros(len(flows), dtype=bool)
    kept = read_real_flows(captures, results, collections=("real",), untouched=True)
    named = replace(kept, collection=np.full(len(kept), UNTOUCHED))
    flows = RealFlows.join([flows, named])
    return flows, np.isin(flows.key, kept.key)


def judge(
    flows: RealFlows,
    tested: NDArray[np.bool_],
    learnable: NDArray[np.bool_],
    fold: NDArray[np.int64] | None,
    task: Task,
    names: str,
    cache: Path,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows that were tested, and their probabilities by models that did not learn from their source."""
    inputs = flows.statistics
    if task.is_grouped:
        inputs = flows.masked if names == "masked" else flows.structure
    if task.model == ONLY_NAMES:
        inputs = inputs[:, 0, N_TOKENS:]
    elif names == "tokens":
        inputs = inputs[..., :N_TOKENS]
    apps = tuple(np.unique(flows.app).tolist())
    rows, found = [], []
    for turn in turns(flows.source, tested, learnable, fold):
        test = inputs[turn.tested]
        run = run_trial(
            task, inputs[turn.learned], flows.app[turn.learned],
            test[:, 0] if test.ndim == 3 else test,  # as they were recorded, without further views
            cache, groups=flows.source[turn.learned],
        )  # fmt: skip
        rows.append(turn.tested)
        found.append(run.spread(apps))
        print(
            task.model,
            names,
            len(turn.learned),
            len(turn.tested),
            f"{run.train_s:.0f} s",
            flush=True,
        )
    return np.concatenate(rows), np.concatenate(found)


def figures(flows: RealFlows, p: NDArray[np.float32], apps: tuple[str, ...]) -> dict[str, Any]:
    """Figures of tested flows, by app and by provider, with intervals over sources."""
    return source_figures(flows.app, flows.source, p, apps, OTHER)


def save(
    results: Path,
    what: dict[str, Any],
    flows: RealFlows,
    p: NDArray[np.float32],
    apps: tuple[str, ...],
    known: set[str],
) -> None:
    """Adds or replaces one line of the figures, and the probabilities behind it."""
    protocol = np.array([key.split(" ")[3] for key in flows.key.tolist()])
    parts = {
        "all": np.ones(len(flows), dtype=bool),
        **{name: protocol == number for name, number in TRANSPORTS.items()},
        "mid-session": flows.is_late,
    }
    if what["untouched"]:
        parts["new flows"] = flows.collection == UNTOUCHED
        parts["new people"] = ~np.isin(flows.source, sorted(known))
    found = {
        name: figures(flows.take(np.flatnonzero(part)), p[part], apps)
        for name, part in parts.items()
        if part.any()
    }
    file = results / "sources.json"
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    rows = [row for row in rows if row["what"] != what]
    text = json.dumps([*rows, {"what": what, **found}], indent=1)
    file.write_text(text + "\n", encoding="utf-8")
    folder = results / "probabilities"
    folder.mkdir(exist_ok=True)
    name = " ".join(f"{key}={value}" for key, value in what.items()).replace("/", "_")
    np.savez(
        folder / f"{name}.npz", apps=np.array(apps), p=p, app=flows.app, source=flows.source,
        protocol=protocol, late=flows.is_late, key=flows.key,
    )  # fmt: skip


if __name__ == "__main__":
    main()
