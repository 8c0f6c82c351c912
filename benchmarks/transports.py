"""Tries rules by which a model declines on a transport that few sources taught it: docs/reports/models.md.

    OMP_NUM_THREADS=1 nice python benchmarks/transports.py CAPTURES -o RESULTS [--folds 10]

Names are masked; the flows are those of ``real_flows.py`` without background, by provider. A rule is chosen on
five inner folds of whole sources of each training side, by what verdicts with a confidence of at least 0.85
are worth: 1 if they are right, and -0.85/0.15 if they are wrong, which is what makes 0.85 the best threshold.
Trainings are kept in RESULTS/cache; prints JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.evaluation.by_source import THRESHOLD, source_folds
from apptell.evaluation.providers import by_provider, provider_of
from apptell.learning.task import Task
from real_flows import OTHER, RealFlows, read_real_flows
from variants import run

if TYPE_CHECKING:
    from numpy.typing import NDArray

INNER = 5
COST = THRESHOLD / (1 - THRESHOLD)
TRANSPORTS = {"TCP": "6", "UDP": "17"}
RULES = (
    "none",
    *(f"the likeliest app has {k} sources" for k in (2, 3, 4)),
    *(f"the transport has {k} sources" for k in (5, 10, 20)),
    *(f"every app has {k} sources" for k in (1, 2, 3)),
)


def main() -> None:
    """Measures each rule, and the one that inner folds choose."""
    parser = argparse.ArgumentParser()
    parser.add_argument("captures", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--folds", type=int, default=10)
    given = parser.parse_args()
    flows = read_real_flows(given.captures, given.output)
    flows = flows.take(np.flatnonzero(flows.app != OTHER))
    apps = tuple(np.unique(flows.app).tolist())
    truth = np.array([provider_of(app) for app in flows.app.tolist()])
    task = Task(given.model)
    outer = source_folds(flows.source, flows.app, given.folds, 0)
    told = np.zeros(len(flows), dtype=truth.dtype)
    sure = {rule: np.zeros(len(flows), dtype=bool) for rule in (*RULES, "chosen")}
    chosen = []
    for fold in range(given.folds):
        learned, tested = np.flatnonzero(outer != fold), np.flatnonzero(outer == fold)
        side = flows.take(learned)
        inner = source_folds(side.source, side.app, INNER, 1)
        worth = dict.fromkeys(RULES, 0.0)
        for number in range(INNER):
            rows, rest = np.flatnonzero(inner == number), np.flatnonzero(inner != number)
            p = run(task, side, rest, rows, apps, given.output)
            guess, accepted = verdicts(side, rest, rows, p, apps)
            right = guess == truth[learned[rows]]
            for rule in RULES:
                worth[rule] += float(np.where(right, 1, -COST)[accepted[rule]].sum())
        best = max(RULES, key=lambda rule: worth[rule])
        chosen.append(best)
        p = run(task, flows, learned, tested, apps, given.output)
        told[tested], accepted = verdicts(flows, learned, tested, p, apps)
        for rule, yes in accepted.items():
            sure[rule][tested] = yes
        sure["chosen"][tested] = accepted[best]
        print(fold, best, flush=True)
    right = told == truth
    transport = transports(flows)
    result: dict[str, Any] = {"chosen": chosen}
    for rule, yes in sure.items():
        result[rule] = {
            name: {
                "flows": int(part.sum()),
                "precision_at_85": float(right[part & yes].mean()) if (part & yes).any() else None,
                "coverage_at_85": float(yes[part].mean()),
                "worth": float(np.where(right, 1, -COST)[part & yes].sum()),
            }
            for name, part in (
                ("all", np.ones(len(flows), dtype=bool)),
                *((name, transport == number) for name, number in TRANSPORTS.items()),
            )
        }
    print(json.dumps(result, indent=1))


def transports(flows: RealFlows) -> NDArray[np.str_]:
    """The IP protocol number of each flow."""
    return np.array([key.split(" ")[3] for key in flows.key.tolist()])


def verdicts(
    flows: RealFlows,
    learned: NDArray[np.int64],
    tested: NDArray[np.int64],
    p: NDArray[np.float32],
    apps: tuple[str, ...],
) -> tuple[NDArray[np.str_], dict[str, NDArray[np.bool_]]]:
    """The likeliest provider of each tested flow, and by rule whether it is said."""
    shares, providers = by_provider(p, apps)
    guess, confident = np.array(providers)[shares.argmax(axis=1)], shares.max(axis=1) >= THRESHOLD
    transport = transports(flows)
    seen: dict[tuple[str, str], set[str]] = {}
    for app, number, source in zip(
        flows.app[learned].tolist(),
        transport[learned].tolist(),
        flows.source[learned].tolist(),
        strict=True,
    ):
        seen.setdefault((provider_of(app), number), set()).add(source)
    n = {pair: len(sources) for pair, sources in seen.items()}
    of_transport = {
        number: len(set().union(*(s for (_, t), s in seen.items() if t == number)))
        for number in TRANSPORTS.values()
    }
    least = {
        number: min(n.get((each, number), 0) for each in providers)
        for number in TRANSPORTS.values()
    }
    numbers = transport[tested].tolist()
    sources = {
        "the likeliest app": [
            n.get((g, t), 0) for g, t in zip(guess.tolist(), numbers, strict=True)
        ],
        "the transport": [of_transport[t] for t in numbers],
        "every app": [least[t] for t in numbers],
    }
    found = {"none": confident}
    for rule in RULES[1:]:
        what, k = rule.removesuffix(" sources").split(" has ")
        found[rule] = confident & (np.array(sources[what]) >= int(k))
    return guess, found


if __name__ == "__main__":
    main()
