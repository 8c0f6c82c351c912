"""Bootstrap intervals over groups, and a paired test of two models.

Bootstrap: Efron and Tibshirani (1993), percentile intervals; the unit that is drawn is the group,
because the flows of one network or session resemble each other. McNemar's exact test (1947).
"""

from __future__ import annotations

from math import exp, lgamma, log
from typing import TYPE_CHECKING

import numpy as np

from apptell.evaluation.scores import shares_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def bootstrap_intervals(
    truth: NDArray[np.int64],
    guess: NDArray[np.int64],
    n_apps: int,
    groups: ArrayLike | None = None,
    *,
    n_draws: int = 1000,
    share: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Intervals of ``accuracy``, ``macro_precision``, ``macro_recall`` and ``macro_f1``.

    Args:
        truth: true app of each flow, shape (n,).
        guess: given app of each flow, shape (n,).
        n_apps: number of apps k.
        groups: the unit of each flow, shape (n,); None draws flows one by one.
        n_draws: number of draws with replacement.
        share: the coverage of the interval, 0.95 for 95 %.
        seed: of the drawings.

    Returns:
        Lower and upper end by name; empty without flows or with a single group. Means are over the apps of
        each drawing.
    """
    if len(truth) == 0:
        return {}
    noise = np.random.default_rng(seed)
    cells = truth * n_apps + guess
    if groups is None:
        # Drawing n flows with replacement is drawing the matrix from its own cells.
        counts = np.bincount(cells, minlength=n_apps * n_apps)
        matrices = noise.multinomial(len(truth), counts / len(truth), n_draws).reshape(
            n_draws, n_apps, n_apps
        )
        drawn = [np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(1), matrices.sum(2)]
    else:
        _, group = np.unique(np.asarray(groups), return_inverse=True)
        n_groups = int(group.max()) + 1
        if n_groups == 1:
            return {}
        weights = noise.multinomial(n_groups, np.full(n_groups, 1 / n_groups), n_draws)
        # Every figure is made of three counts an app; float64 holds them exactly and multiplies fast.
        hit = truth == guess
        drawn = [
            weights.astype(np.float64) @ _by_group(group_of, app, n_groups, n_apps)
            for group_of, app in ((group[hit], truth[hit]), (group, guess), (group, truth))
        ]
    right, given, true = drawn
    present = true > 0
    n_present = np.maximum(present.sum(axis=1), 1)
    values = {"accuracy": right.sum(axis=1) / np.maximum(true.sum(axis=1), 1)}
    parts = shares_of(right, given, true)
    for name, part in zip(("macro_precision", "macro_recall", "macro_f1"), parts, strict=True):
        values[name] = np.where(present, part, 0.0).sum(axis=1) / n_present
    tails = [(1 - share) / 2, (1 + share) / 2]
    return {
        name: (float(low), float(high))
        for name, drawn_values in values.items()
        for low, high in [np.quantile(drawn_values, tails)]
    }


def _by_group(
    group: NDArray[np.int64], app: NDArray[np.int64], n_groups: int, n_apps: int
) -> NDArray[np.float64]:
    """Flows of each app in each group, shape (n_groups, n_apps)."""
    counts = np.bincount(group * n_apps + app, minlength=n_groups * n_apps)
    return counts.reshape(n_groups, n_apps).astype(np.float64)


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> float:
    """The exact two-sided p-value of the difference of two models.

    Only flows on which exactly one of the two is right count; without any, 1.0.

    Args:
        first_right: whether one model was right on each flow, shape (n,).
        second_right: the same of the other model on the same flows, shape (n,).
    """
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    n = only_first + only_second
    if n == 0:
        return 1.0
    tail = sum(
        exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * log(2))
        for i in range(min(only_first, only_second) + 1)
    )
    return min(1.0, 2 * tail)
