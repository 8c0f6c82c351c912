"""Computes precision, recall and F-measure per app, their means, and accuracy from a confusion matrix.

Paper, Section 4.1. A figure without any flows is 0: an app that is never named has precision 0, an app whose
flows were all declined has recall 0. Means are over the apps that have flows in the truth, each counted once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of k apps over some flows."""

    apps: tuple[str, ...]
    """The k apps, in the order of rows and columns."""
    confusion: NDArray[np.int64]
    """Flows of the true app (row) given to an app (column), shape (k, k)."""
    precision: NDArray[np.float64]
    """Shape (k,)."""
    recall: NDArray[np.float64]
    """Shape (k,)."""
    f1: NDArray[np.float64]
    """F-measure, the harmonic mean of both, shape (k,)."""
    counted: NDArray[np.bool_]
    """Apps that count in the means, shape (k,)."""
    accuracy: float
    """Share of flows given to their app."""

    @property
    def n_flows(self) -> int:
        """Flows the figures rest on."""
        return int(self.confusion.sum())

    @property
    def macro_precision(self) -> float:
        """Mean precision over the apps."""
        return _mean(self.precision[self.counted])

    @property
    def macro_recall(self) -> float:
        """Mean recall over the apps."""
        return _mean(self.recall[self.counted])

    @property
    def macro_f1(self) -> float:
        """Mean F-measure over the apps."""
        return _mean(self.f1[self.counted])

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, as ``metrics.json`` holds them."""
        return {
            "flows": self.n_flows,
            "accuracy": self.accuracy,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "macro_f1": self.macro_f1,
            "per_app": {
                app: {
                    "precision": float(self.precision[i]),
                    "recall": float(self.recall[i]),
                    "f1": float(self.f1[i]),
                    "flows": int(self.confusion[i].sum()),
                }
                for i, app in enumerate(self.apps)
            },
            "confusion": self.confusion.tolist(),
        }


def confusion_matrix(
    truth: NDArray[np.int64], guess: NDArray[np.int64], n_apps: int
) -> NDArray[np.int64]:
    """Counts of (true app, given app), shape (n_apps, n_apps); both inputs shape (n,)."""
    cells = np.bincount(truth * n_apps + guess, minlength=n_apps * n_apps)
    return cells.reshape(n_apps, n_apps).astype(np.int64)


def score(
    confusion: NDArray[np.int64], apps: Sequence[str], counted: NDArray[np.bool_] | None = None
) -> Scores:
    """All figures of one confusion matrix.

    Args:
        confusion: true app by given app, shape (k, k).
        apps: the k apps.
        counted: apps that count in the means, shape (k,); default: those with true flows.
    """
    precision, recall, f1 = shares_of(
        np.diagonal(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    )
    if counted is None:
        counted = confusion.sum(axis=1) > 0
    total = int(confusion.sum())
    return Scores(
        tuple(apps),
        confusion,
        precision,
        recall,
        f1,
        counted,
        float(np.trace(confusion) / total) if total else 0.0,
    )


def shares_of(
    right: NDArray[Any], given: NDArray[Any], true: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F-measure per app, shape (..., k), 0 where undefined.

    Args:
        right: flows of the app that were given to it, shape (..., k).
        given: flows given to it, of whatever app, shape (..., k).
        true: flows of it, shape (..., k).
    """
    hits = right.astype(np.float64)
    return (
        _share(hits, given),
        _share(hits, true),
        _share(2 * hits, given + true),  # = 2PR / (P + R)
    )


def _share(part: NDArray[np.float64], whole: NDArray[Any]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return shares


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
