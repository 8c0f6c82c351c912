"""Chooses the share of the network in ``fusion`` from predictions on sources left out: docs/reports/models.md.

    python benchmarks/sources.py CAPTURES -o RESULTS --folds 10 --names masked --model fast --model fusion
    python benchmarks/fusion_shares.py RESULTS

The linear member of ``fusion`` is ``fast``. With masked names, the logarithms of ``fusion``'s probabilities are
the mean of those of its members, but for a constant of each flow, so the network's follow from the predictions
of both models, and nothing is trained. The share for a fold is the one with the smallest log loss on the nine
other folds, by the rule of docs/reports/protocol.md. RESULTS/shares.json has the figures.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.evaluation.by_source import source_figures, source_folds
from apptell.files import write_file
from apptell.learning.token_models import SHARE
from real_flows import OTHER

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS: Final = 10
SHARES: Final = tuple(round(0.1 * each, 1) for each in range(11))
SHOWN: Final = (0.0, 0.3, SHARE, 0.7, 1.0)
"""Constant shares that are measured beside the chosen ones."""
LEAST: Final = np.finfo(np.float32).tiny
PARTS: Final = {"all": ("6", "17"), "TCP": ("6",), "UDP": ("17",)}


def main() -> None:
    """Measures constant shares, and those chosen with flows alike and with sources alike."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    results = parser.parse_args().results
    fast, fusion = (predictions(results, model) for model in ("fast", "fusion"))
    if fast["key"].tolist() != fusion["key"].tolist():
        raise SystemExit("the two models were tested on different flows")
    app, source, apps = fast["app"], fast["source"], tuple(fast["apps"].tolist())
    linear = np.log(np.maximum(fast["p"].astype(np.float64), LEAST))
    both = np.log(np.maximum(fusion["p"].astype(np.float64), LEAST))
    network = normalized((both - (1 - SHARE) * linear) / SHARE)
    mixed = {share: normalized((1 - share) * linear + share * network) for share in SHARES}
    rows, target = np.arange(len(app)), np.searchsorted(apps, app)
    loss = np.stack([-mixed[share][rows, target] for share in SHARES], axis=1)  # (n, shares)
    fold = source_folds(source, app, FOLDS, 0)
    _, number, size = np.unique(source, return_inverse=True, return_counts=True)
    found = {f"{share:g}": mixed[share] for share in SHOWN}
    picked: dict[str, dict[str, int]] = {}
    for way, weight in (("flows", np.ones(len(app))), ("sources", 1 / size[number])):
        best = []
        for each in range(FOLDS):
            others = fold != each
            best.append(int((weight[others] @ loss[others]).argmin()))
        shares = np.array(SHARES)[best]
        name = f"chosen, {way} alike"
        picked[name] = dict(Counter(f"{share:g}" for share in shares.tolist()))
        found[name] = np.stack([mixed[s][row] for row, s in enumerate(shares[fold].tolist())])
    result = {
        name: {
            "chosen": picked.get(name),
            "log loss": float(-logs[rows, target].mean()),
            "log loss, sources alike": float(np.average(-logs[rows, target], weights=1 / size[number])),
            **{
                part: source_figures(
                    app[of], source[of], np.exp(logs[of]).astype(np.float32), apps, OTHER
                )
                for part, protocols in PARTS.items()
                for of in [np.isin(fast["protocol"], protocols)]
            },
        }
        for name, logs in found.items()
    }  # fmt: skip
    write_file(results / "shares.json", (json.dumps(result, indent=1) + "\n").encode())


def predictions(results: Path, model: str) -> dict[str, NDArray[Any]]:
    """What ``sources.py`` kept of a model on ten folds, names masked."""
    name = f"model={model} names=masked seed=0 set= folds=10 background=False untouched=False.npz"
    with np.load(results / "probabilities" / name) as file:
        return {each: file[each] for each in file.files}


def normalized(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log probabilities of log odds, shape (n, apps)."""
    return np.asarray(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))


if __name__ == "__main__":
    main()
