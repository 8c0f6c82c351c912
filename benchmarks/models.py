"""Compares models on parsed tokens with others on several splits: the table of docs/explanation/models.md.

    python benchmarks/models.py DATASET -o RESULTS [--split source] [--model fast ...] [--seeds 5]

Folds are pooled and seeds averaged. Every training is kept in RESULTS/cache, so that an interrupted run
continues; RESULTS/models.csv has a line for each model, treatment of names and split. By provider, apps that
share servers count as one; *mid-session* are TCP flows of TLS that begin without a hello; **precision at .80*
is over the most confident four fifths of the flows.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apptell.dataset import Dataset, Selection, folds
from apptell.dataset.groups import origins
from apptell.dataset.masking import mask_server_names
from apptell.evaluation.figures import slices_of
from apptell.evaluation.providers import by_provider, provider_of
from apptell.evaluation.scores import confusion_matrix, score
from apptell.evaluation.uncertainty import bootstrap_intervals
from apptell.experiments.trial_cache import run_trial
from apptell.learning.task import Task

COVERAGE = 0.8


def main() -> None:
    """Runs what is not in the cache and writes the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--split", default="source")
    parser.add_argument("--model", action="append")
    parser.add_argument("--apps", help="comma-separated; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    given = parser.parse_args()
    chosen, truth = read_flows_of(given.dataset, given.apps)
    rows = [
        measure(chosen, truth, model, names, given)
        for model in given.model or ["fast", "fusion"]
        for names in ("on", "masked")
    ]
    table = given.output / "models.csv"
    old = list(csv.DictReader(table.open())) if table.exists() else []
    same = {(row["model"], row["names"], row["split"], row["dataset"]) for row in rows}
    kept = [
        row for row in old if (row["model"], row["names"], row["split"], row["dataset"]) not in same
    ]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([*kept, *rows])


def read_flows_of(path: Path, apps: str | None) -> tuple[Selection, np.ndarray]:
    """Flows with two payload packets or more of some apps, by commas, and the app of each."""
    chosen = Selection.of(Dataset.open(path))
    labels = np.array(
        [str(label).split("/")[0] for label in chosen.flows.column("label").to_pylist()]
    )
    keep = chosen.flows.payload_packets >= 2
    if apps:
        keep &= np.isin(labels, apps.split(","))
    return chosen.filter(keep), labels[keep]


def is_mid_session(chosen: Selection) -> np.ndarray:
    """Which flows begin without a hello."""
    hello = slices_of(chosen)
    return next(np.asarray(v == "mid-session") for k, v in hello.items() if "hello" in k)


def measure(
    chosen: Selection, truth: np.ndarray, model: str, names: str, given: argparse.Namespace
) -> dict[str, object]:
    """One line of the table."""
    task = Task(model, given.epochs)
    inputs = task.encode(chosen, mask_server_names if names == "masked" else None, views=True)
    apps = tuple(sorted(set(truth.tolist())))
    origin, is_late = origins(chosen.flows), is_mid_session(chosen)
    found = []
    for seed in range(given.seeds):
        pooled = np.zeros((len(truth), len(apps)), dtype=np.float32)
        for split in folds(chosen.flows, given.split, 5, seed):
            run = run_trial(
                task.with_seed(seed), inputs[split.train], truth[split.train], inputs[split.test],
                given.output / "cache", groups=origin[split.train],
            )  # fmt: skip
            pooled[split.test] = run.spread(apps)
        found.append(pooled)
        print(model, names, given.split, "seed", seed, flush=True)
    line: dict[str, object] = {
        "dataset": given.dataset.name, "split": given.split, "model": model, "names": names,
        "flows": len(truth), "seeds": given.seeds, "epochs": given.epochs,
    }  # fmt: skip
    for level in ("app", "provider"):
        line |= figures(found, truth, apps, origin, is_late, level)
    return line


@dataclass(frozen=True)
class Verdicts:
    """Pooled verdicts beside the truth, by app or by provider."""

    target: np.ndarray
    guess: np.ndarray
    confidence: np.ndarray
    columns: tuple[str, ...]

    @property
    def macro_f1(self) -> float:
        """The mean over the columns."""
        matrix = confusion_matrix(self.target, self.guess, len(self.columns))
        return score(matrix, self.columns).macro_f1


def verdicts_by_level(
    pooled: np.ndarray, truth: np.ndarray, apps: tuple[str, ...], level: str
) -> Verdicts:
    """What pooled probabilities say at one level."""
    columns: tuple[str, ...] = apps
    if level == "provider":
        truth = np.array([provider_of(app) for app in truth.tolist()])
        pooled, columns = by_provider(pooled, apps)
    target = np.array([columns.index(each) for each in truth.tolist()])
    return Verdicts(target, pooled.argmax(axis=1), pooled.max(axis=1), columns)


def figures(
    found: list[np.ndarray],
    truth: np.ndarray,
    apps: tuple[str, ...],
    origin: np.ndarray,
    is_late: np.ndarray,
    level: str,
) -> dict[str, object]:
    """Figures of all seeds' pooled verdicts at one level."""
    seeds = [verdicts_by_level(each, truth, apps, level) for each in found]
    n = int(COVERAGE * len(truth))
    f1, accuracy, late, sure, ece = [], [], [], [], []
    for each in seeds:
        f1.append(each.macro_f1)
        right, confidence = each.guess == each.target, each.confidence
        accuracy.append(right.mean())
        late.append(right[is_late].mean())
        sure.append(right[np.argsort(-confidence, kind="stable")[:n]].mean())
        bins = np.minimum((confidence * 15).astype(int), 14)
        ece.append(
            sum(
                abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
                for b in np.unique(bins)
            )
        )
    low, high = bootstrap_intervals(
        np.concatenate([each.target for each in seeds]),
        np.concatenate([each.guess for each in seeds]),
        len(seeds[0].columns),
        np.tile(origin, len(seeds)),
    )["macro_f1"]
    values = {
        "macro_f1": np.mean(f1), "seed_least": min(f1), "seed_most": max(f1), "low_95": low,
        "high_95": high, "accuracy": np.mean(accuracy), "accuracy_mid_session": np.mean(late),
        "precision_at_80": np.mean(sure), "ece": np.mean(ece),
    }  # fmt: skip
    return {f"{level}_{name}": f"{float(value):.4f}" for name, value in values.items()}


if __name__ == "__main__":
    main()
