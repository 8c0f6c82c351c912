"""Measures models on FG-Net: trained on one month, tested on the next, flow by flow and with context.

    apptell dataset build ../shared/datasets/fgnet -o fgnet
    python benchmarks/fgnet.py fgnet -o results/

Prints JSON. ``inner`` trains on the first three days of month 0 and measures on the last two: every choice is
made there. ``month`` learns from all of month 0 and measures on month 1. ``adapted`` takes in the first two
days of month 1 without their labels and measures on its last two. Trainings are kept in the results'
``cache/``: an interrupted run that is called again continues where it stopped. Each row is added to
``results.jsonl`` as soon as it is known.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.dataset import Dataset
from apptell.dataset.groups import days, group_values
from apptell.evaluation.scores import confusion_matrix, score
from apptell.evaluation.uncertainty import bootstrap_intervals
from apptell.experiments.adapt import adapt
from apptell.experiments.trial_cache import run_trial
from apptell.learning.task import Task
from apptell.verdicts import ContextOptions
from apptell.verdicts.context import reweigh_all
from interleave import Phones, interleave

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apptell.flows import FlowBatch

ROWS = {
    "sequence": Task("sequence"),
    "lengths-rf": Task("lengths-rf"),
    "sequence-10": Task("sequence", packets=10),
    "sequence-5": Task("sequence", packets=5),
    "sequence-24": Task("sequence", packets=24),
}
"""The models by their names in the table."""


@dataclass(frozen=True)
class Data:
    """All flows and what the splits go by."""

    flows: FlowBatch
    apps: np.ndarray
    session: np.ndarray
    month: np.ndarray
    day: np.ndarray
    """Days since the month's first, shape (n,)."""
    version: np.ndarray
    """Of the app, shape (n,)."""
    times_ns: np.ndarray
    """Of the last packet that a model with sixteen packets sees, shape (n,)."""

    def sides(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows to learn from and rows to measure on."""
        first, second = self.month == "D1", self.month == "D2"
        if split == "inner":
            return np.flatnonzero(first & (self.day <= 2)), np.flatnonzero(first & (self.day > 2))
        if split == "month":
            return np.flatnonzero(first), np.flatnonzero(second)
        return np.flatnonzero(first), np.flatnonzero(second & (self.day > 1))


def load(path: Path) -> Data:
    flows = Dataset.open(path).read()
    month = group_values(flows, "period").astype(str)
    date = days(flows).astype("datetime64[D]").astype(np.int64)
    day = np.zeros(len(flows), dtype=np.int64)
    for name in np.unique(month):
        day[month == name] = date[month == name] - date[month == name].min()
    sequence = flows.sequences()
    gaps = np.concatenate([[0], np.cumsum(sequence.gap_us)])
    seen = np.minimum(sequence.first[:-1] + 16, sequence.first[1:])
    times = flows.numpy("start_ns") + (gaps[seen] - gaps[sequence.first[:-1]]) * 1000
    apps = np.array(flows.column("label").to_pylist())
    session, version = (group_values(flows, name).astype(str) for name in ("session", "version"))
    return Data(flows, apps, session, month, day, version, times)


def figures(
    truth: np.ndarray, guess: np.ndarray, apps: list[str], groups: np.ndarray
) -> dict[str, Any]:
    matrix = score(confusion_matrix(truth, guess, len(apps)), apps)
    ends = bootstrap_intervals(truth, guess, len(apps), groups, n_draws=300)
    return {
        "flows": len(truth),
        "groups": len(np.unique(groups)),
        "accuracy": round(matrix.accuracy, 4),
        "accuracy_95": [round(end, 4) for end in ends["accuracy"]],
        "macro_f1": round(matrix.macro_f1, 4),
        "macro_f1_95": [round(end, 4) for end in ends["macro_f1"]],
    }


def by_version(
    data: Data, learned: np.ndarray, tested: np.ndarray, right: np.ndarray
) -> dict[str, float]:
    """Accuracy on apps of the versions that were learned, and on those that were updated."""

    def versions(rows: np.ndarray) -> set[tuple[str, str]]:
        return set(zip(data.apps[rows].tolist(), data.version[rows].tolist(), strict=True))

    updated = {app for app, _ in versions(learned) ^ versions(tested)}
    is_updated = np.isin(data.apps[tested], sorted(updated))
    return {
        "updated_apps": len(updated),
        "accuracy_updated": round(float(right[is_updated].mean()), 4),
        "accuracy_same_version": round(float(right[~is_updated].mean()), 4),
    }


class Results:
    """Rows of a table, each saved as soon as it is known; existing rows are not computed again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "results.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        text = self._file.read_text(encoding="utf-8") if self._file.exists() else ""
        self._known = {
            json.dumps(row["what"], sort_keys=True) for row in map(json.loads, text.splitlines())
        }

    def has(self, what: dict[str, Any]) -> bool:
        """Whether a row is there."""
        return json.dumps(what, sort_keys=True) in self._known

    def add(self, what: dict[str, Any], found: dict[str, Any]) -> None:
        """Keeps a row and prints it."""
        line = json.dumps({"what": what, **found})
        with self._file.open("a", encoding="utf-8") as out:
            out.write(line + "\n")
        print(line, flush=True)


def contexts(
    data: Data,
    rows: np.ndarray,
    p: np.ndarray,
    prior: np.ndarray,
    seed: int,
    at_once: tuple[int, ...] = (1, 2, 3),
) -> Iterator[tuple[dict[str, Any], np.ndarray, Any]]:
    """Every way of context: how many apps at once, in which window; the re-weighted probabilities."""
    for n_apps in at_once:
        phones: Phones = interleave(
            data.apps[rows], data.session[rows], data.times_ns[rows], n_apps, seed
        )
        for seconds, both in ((30, False), (15, True), (30, True)):
            options = ContextOptions(seconds, both_sides=both)
            found, _ = reweigh_all(phones.key.tolist(), phones.time_ns, p, prior, options)
            yield {"apps_at_once": n_apps, "window_s": seconds, "both": both}, found, phones


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", default="sequence,lengths-rf", help=", ".join(ROWS))
    parser.add_argument("--splits", default="month,inner,adapted")
    parser.add_argument("--seeds", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    args = _arguments()
    data, results = load(args.dataset), Results(args.output)
    apps = sorted(set(data.apps.tolist()))
    number = np.searchsorted(apps, data.apps)
    for seed in range(args.seeds):
        for split in args.splits.split(","):
            learned, tested = data.sides(split)
            prior = np.bincount(number[learned], minlength=len(apps)) / len(learned)
            for name in args.rows.split(","):
                task = ROWS[name].with_seed(seed)
                said = {"split": split, "model": name, "seed": seed}
                inputs = task.encode(data.flows)

                def run(
                    rows: np.ndarray,
                    labels: np.ndarray,
                    tested: np.ndarray,
                    task: Task = task,
                    x: np.ndarray = inputs,
                ) -> np.ndarray:
                    cache = args.output / "cache"
                    return run_trial(task, x[rows], labels, x[tested], cache).spread(tuple(apps))

                if split == "adapted":
                    new = np.flatnonzero((data.month == "D2") & (data.day <= 1))
                    for n_apps in (3, 1):
                        what = {**said, "apps_at_once": n_apps}
                        if results.has(what):
                            continue
                        phones = interleave(
                            data.apps[new], data.session[new], data.times_ns[new], n_apps, seed
                        )
                        month = data.sides("month")[1]
                        before = run(learned, data.apps[learned], month)
                        early = before[np.searchsorted(month, new)]
                        late = before[np.searchsorted(month, tested)]
                        kept, guess = adapt(early, prior, phones.key.tolist(), phones.time_ns)
                        labels = np.concatenate([data.apps[learned], np.array(apps)[guess]])
                        after = run(np.concatenate([learned, new[kept]]), labels, tested)
                        facts = {
                            "taken_in": len(kept),
                            "taken_in_right": round(float((guess == number[new[kept]]).mean()), 4),
                            "before": round(float((late.argmax(1) == number[tested]).mean()), 4),
                        }
                        result = figures(
                            number[tested], after.argmax(1), apps, data.session[tested]
                        )
                        results.add(what, {**facts, **result})
                        for then, name_p in (("before", late), ("after", after)):
                            for how, found, late_phones in contexts(
                                data, tested, name_p, prior, seed, (n_apps,)
                            ):
                                results.add(
                                    {**what, **how, "model_is": then},
                                    figures(number[tested], found.argmax(1), apps, late_phones.key),
                                )
                    continue
                if not results.has(said):
                    p = run(learned, data.apps[learned], tested)
                    row = figures(number[tested], p.argmax(1), apps, data.session[tested])
                    if split == "month":
                        right = p.argmax(1) == number[tested]
                        row |= by_version(data, learned, tested, right)
                    results.add(said, row)
                last = {**said, "apps_at_once": 3, "window_s": 30, "both": True}
                if name in ("sequence", "lengths-rf") and not results.has(last):
                    p = run(learned, data.apps[learned], tested)
                    for what, found, phones in contexts(data, tested, p, prior, seed):
                        if results.has({**said, **what}):
                            continue
                        row = figures(number[tested], found.argmax(1), apps, phones.key)
                        if split == "month":
                            right = found.argmax(1) == number[tested]
                            row |= by_version(data, learned, tested, right)
                        results.add({**said, **what}, row)


if __name__ == "__main__":
    main()
