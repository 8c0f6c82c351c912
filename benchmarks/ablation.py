"""Measures what each view and each part of ``fast`` and ``fusion`` adds, on inner folds.

    python benchmarks/ablation.py DATASET -o RESULTS [--apps a,b] [--names masked] [--outer 5]

The table goes to stdout. The flows are divided by source as benchmarks/models.py divides them for seed 0.
Each training side is divided by source once more, and every variant is measured only on these inner folds:
the outer test side decides nothing. *Best of* counts the training sides on which a variant is best. Every
training is kept in RESULTS/cache, so that an interrupted run continues. RESULTS/ablation.csv has a line for
each variant, outer fold and treatment of names.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.dataset import folds
from apptell.dataset.groups import origins
from apptell.dataset.masking import mask_server_names
from apptell.encoding import encode
from apptell.experiments.trial_cache import run_trial
from apptell.learning.task import Task
from models import is_mid_session, read_flows_of, verdicts_by_level

if TYPE_CHECKING:
    from apptell.dataset import Selection
    from apptell.flows import FlowBatch

LATER = [("skip", n) for n in range(1, 7)]
CUT = [("packets", n) for n in (2, 3)]
LOST = [("lost", n) for n in range(1, 4)]
"""The n-th packet with payload is missing from the capture."""
LATE = [("late", n) for n in range(4)]
"""The n-th packet was lost and sent again, so that it follows the next one."""


@dataclass(frozen=True)
class Way:
    """A variant of training."""

    name: str
    model: str = "fast"
    views: list[tuple[str, int]] = field(default_factory=list)
    is_grouped: bool = True


WAYS = (
    Way("the flow as it is, flows weighed alike", is_grouped=False),
    Way("and begun later", views=LATER, is_grouped=False),
    Way("and cut early", views=LATER + CUT, is_grouped=False),
    Way("and sources weighed alike (fast)", views=LATER + CUT),
    Way("fast, and a packet lost", views=LATER + CUT + LOST),
    Way("fast, and a packet sent again", views=LATER + CUT + LATE),
    Way("fast, and the network (fusion)", "fusion", LATER + CUT),
)


def main() -> None:
    """Runs what is not in the cache, writes the lines and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--apps", help="comma-separated; default: all")
    parser.add_argument("--names", action="append", help="on or masked; default: both")
    parser.add_argument("--outer", type=int, default=5, help="training sides, of five")
    given = parser.parse_args()
    chosen, truth = read_flows_of(given.dataset, given.apps)
    lines = []
    for names in given.names or ["on", "masked"]:
        inputs = Inputs(chosen, names == "masked")
        for way in WAYS:
            lines += measure(chosen, truth, inputs, way, names, given)
    given.output.mkdir(parents=True, exist_ok=True)
    with (given.output / "ablation.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    for names in given.names or ["on", "masked"]:
        print(f"\n| names {names} | macro-F1 | accuracy | mid-session | best of {given.outer} |")
        here = [line for line in lines if line["names"] == names]
        best = [
            max((x for x in here if x["outer"] == at), key=lambda x: x["macro_f1"])["way"]
            for at in range(given.outer)
        ]
        for way in WAYS:
            rows = [line for line in here if line["way"] == way.name]
            means = [
                np.mean([float(row[name]) for row in rows])
                for name in ("macro_f1", "accuracy", "accuracy_mid_session")
            ]
            said = " | ".join(f"{mean:.3f}".lstrip("0") for mean in means)
            print(f"| {way.name} | {said} | {best.count(way.name)} |")


def measure(
    chosen: Selection,
    truth: np.ndarray,
    inputs: Inputs,
    way: Way,
    names: str,
    given: argparse.Namespace,
) -> list[dict[str, Any]]:
    """A line for each outer training side: the pooled verdicts of its inner folds."""
    apps = tuple(sorted(set(truth.tolist())))
    origin, is_late = origins(chosen.flows), is_mid_session(chosen)
    X = inputs.of(way)
    lines = []
    for outer, side in enumerate(folds(chosen.flows, "source", 5, 0)[: given.outer]):
        rows = side.train
        pooled = np.zeros((len(rows), len(apps)), dtype=np.float32)
        for inner in folds(chosen.flows.take(rows), "source", 5, 0):
            learned = rows[inner.train]
            run = run_trial(
                Task(way.model), X[learned], truth[learned], X[rows[inner.test]],
                given.output / "cache", groups=origin[learned] if way.is_grouped else None,
            )  # fmt: skip
            pooled[inner.test] = run.spread(apps)
        found = verdicts_by_level(pooled, truth[rows], apps, "provider")
        right = found.guess == found.target
        line = {
            "names": names, "way": way.name, "outer": outer, "flows": len(rows),
            "macro_f1": round(found.macro_f1, 4), "accuracy": round(float(right.mean()), 4),
            "accuracy_mid_session": round(float(right[is_late[rows]].mean()), 4),
        }  # fmt: skip
        print(line, flush=True)
        lines.append(line)
    return lines


class Inputs:
    """Tokens of every view, each computed once."""

    def __init__(self, chosen: Selection, is_masked: bool) -> None:
        self.chosen, self.is_masked = chosen, is_masked
        self.kept = chosen.gather(
            lambda batch: np.diff(batch.segments().first), ("core", "segments")
        )
        self.known: dict[tuple[str, int], np.ndarray] = {}

    def of(self, way: Way) -> np.ndarray:
        """The plain flows and every view of a variant, shape (n, 1 + views, width)."""
        return np.stack(
            [self.view("packets", 5), *(self.view(*view) for view in way.views)], axis=1
        )

    def view(self, kind: str, n: int) -> np.ndarray:
        """Tokens of one view, none of flows too short for it."""
        if (kind, n) not in self.known:
            found = self.chosen.gather(
                partial(self._encode, kind=kind, n=n), ("core", "segments", "names")
            )
            least = {"lost": max(n + 1, 3), "late": n + 2}.get(kind, 0)
            found[self.kept < least] = 0
            self.known[kind, n] = found
        return self.known[kind, n]

    def _encode(self, batch: FlowBatch, kind: str, n: int) -> np.ndarray:
        batch = mask_server_names(batch) if self.is_masked else batch
        if kind in ("skip", "packets"):
            return encode(batch, "structure", {kind: n})
        return encode(reordered(batch, kind, n), "structure")


def reordered(batch: FlowBatch, kind: str, n: int) -> FlowBatch:
    """Flows whose n-th packet with payload is lost, or comes behind the next."""
    names = ("segment_length", "segment_to_server", "segment_time_ns", "segment_bytes")
    columns = {}
    for name in names:
        lists = batch.column(name).to_pylist()
        for each in lists:
            if kind == "lost":
                del each[n : n + 1]
            else:
                each[n : n + 2] = reversed(each[n : n + 2])
        columns[name] = lists
    return batch.with_columns(**columns)


if __name__ == "__main__":
    main()
