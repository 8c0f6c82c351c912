"""Measures what deciding early costs and gains, packet by packet, on recordings unknown to the model.

    python benchmarks/early.py CAPTURES [--threshold 0.85]

CAPTURES holds ``<recording>/<app>.pcap...``. Recordings are dealt into five folds; a forest without ports
learns from four and sees the flows of the fifth after each payload packet, as ``apptell live --early`` would.
The temperature of each number of packets is fitted on the other folds' flows. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.encoding import statistics
from apptell.errors import CaptureError
from apptell.flows.early import read_early
from apptell.learning.forest import StatisticsForest
from apptell.names import add_names
from apptell.verdicts import calibrate, fit_temperature

if TYPE_CHECKING:
    from apptell.flows import FlowBatch

FOLDS = 5


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", type=Path)
    parser.add_argument("--threshold", type=float, default=0.85)
    parser.add_argument("--without", default="", help="an app to leave out")
    parser.add_argument("--learn-early", action="store_true", help="learn from young flows too")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for path in sorted(options.captures.glob("*/*.pcap*")):
        app = path.name.split(".")[0]
        if path.parent.name == "pcapdroid" or app == options.without:
            continue
        try:
            young, ended = read_early(path, add_names=add_names)
        except CaptureError:
            continue
        at = {n: _by_id(flows) for n, flows in young.items()}
        ended = ended.filter(ended.payload_packets >= 2)
        final = statistics(ended, ports=False)
        for row, (key, total) in enumerate(zip(_ids(ended), ended.payload_packets, strict=True)):
            seen = {n: by_id[key] for n, by_id in at.items() if key in by_id}
            rows.append(
                {
                    "app": app,
                    "source": path.parent.name,
                    "seen": seen,
                    "final": final[row],
                    "total": int(total),
                }
            )
    sources = sorted({row["source"] for row in rows})
    order = np.random.default_rng(options.seed).permutation(len(sources))
    fold_of = {sources[at]: i % FOLDS for i, at in enumerate(order)}
    fold = np.array([fold_of[row["source"]] for row in rows])
    apps = sorted({row["app"] for row in rows})
    truth = np.array([apps.index(row["app"]) for row in rows])
    numbers = sorted({n for row in rows for n in row["seen"]})
    found = {n: np.full((len(rows), len(apps)), np.nan) for n in (*numbers, 0)}
    for k in range(FOLDS):
        out = fold == k
        learned = np.flatnonzero(~out)
        inputs = [(rows[i]["final"], truth[i]) for i in learned]
        if options.learn_early:
            inputs += [(each, truth[i]) for i in learned for each in rows[i]["seen"].values()]
        forest = StatisticsForest(random_state=options.seed).fit(
            np.stack([each for each, _ in inputs]), np.array([app for _, app in inputs])
        )
        for n in (*numbers, 0):
            held = [i for i in np.flatnonzero(out) if n == 0 or n in rows[i]["seen"]]
            tested = np.stack([rows[i]["final"] if n == 0 else rows[i]["seen"][n] for i in held])
            found[n][np.ix_(held, forest.classes_)] = forest.predict_proba(tested)
    there = {n: ~np.isnan(found[n]).all(axis=1) for n in found}
    for n in found:
        found[n] = np.nan_to_num(found[n])
    temperatures = {
        n: fit_temperature(found[n][there[n]].astype(np.float32), truth[there[n]]) for n in numbers
    }
    report = {
        "flows": len(rows),
        "recordings": len(sources),
        "apps": apps,
        "threshold": options.threshold,
        "final": _figures(found[0], truth, options.threshold),
        "temperatures": {n: round(each, 2) for n, each in temperatures.items()},
        "plain": _policy(found, there, truth, options.threshold, None),
        "calibrated": _policy(found, there, truth, options.threshold, fold),
    }
    print(json.dumps(report, indent=1))


def _ids(flows: FlowBatch) -> list[tuple[int, int]]:
    return list(
        zip(flows.numpy("connection_id").tolist(), flows.numpy("part").tolist(), strict=True)
    )


def _by_id(flows: FlowBatch) -> dict[tuple[int, int], np.ndarray]:
    return dict(zip(_ids(flows), statistics(flows, ports=False), strict=True))


def _figures(probabilities: np.ndarray, truth: np.ndarray, threshold: float) -> dict[str, Any]:
    right = probabilities.argmax(axis=1) == truth
    accepted = probabilities.max(axis=1) >= threshold
    return {
        "accuracy": round(float(right.mean()), 3),
        "coverage": round(float(accepted.mean()), 3),
        "right of accepted": round(float(right[accepted].mean()), 3) if accepted.any() else None,
    }


def _policy(
    found: dict[int, np.ndarray],
    there: dict[int, np.ndarray],
    truth: np.ndarray,
    threshold: float,
    fold: np.ndarray | None,
) -> dict[str, Any]:
    """Each flow named at the first number of packets at which it is clear."""
    numbers = [n for n in found if n]
    final = np.where(found[0].max(axis=1) >= threshold, found[0].argmax(axis=1), -1)
    said, when = np.full(len(truth), -1), np.zeros(len(truth), dtype=int)
    at = {}
    for n in numbers:
        scaled = found[n].astype(np.float32)
        if fold is not None:
            for k in range(FOLDS):
                known = there[n] & (fold != k)
                here = fold == k
                if here.any():
                    scaled[here] = calibrate(
                        scaled[here], fit_temperature(scaled[known], truth[known])
                    )
        clear = there[n] & (when == 0) & (scaled.max(axis=1) >= threshold)
        said[clear], when[clear] = scaled[clear].argmax(axis=1), n
        at[n] = {
            "accuracy of all": _share(found[n].argmax(axis=1) == truth, there[n]),
            "named now": _share(clear, np.ones_like(clear)),
            "right of these": _share(said == truth, clear),
            "right of these at the end": _share(final == truth, clear),
        }
    early = when > 0
    return {
        "after packets": at,
        "named early": _share(early, np.ones_like(early)),
        "right of these": _share(said == truth, early),
        "revised": _share(said != final, early),
        "revised though right": _share((said == truth) & (final != truth), early),
    }


def _share(is_so: np.ndarray, among: np.ndarray) -> float | None:
    return round(float(is_so[among].mean()), 3) if among.any() else None


if __name__ == "__main__":
    main()
