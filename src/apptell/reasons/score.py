"""The score that reasons explain: one app of a model against another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.models.model import BATCH_FLOWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.models import Model
    from apptell.reasons.explanation import Contribution

LEAST: Final = 1e-30
"""Probabilities count as at least this much, so that their logarithms say something."""


class Pair(NamedTuple):
    """Two apps of a model, by their columns."""

    app: int
    runner_up: int


class Reasoned(NamedTuple):
    """What a way of explaining found: method, unit, total, base, contributions in any order, unknown parts."""

    method: str
    unit: str
    total: float
    base: float
    contributions: list[Contribution]
    unknown_parts: int = 0
    saliency: NDArray[np.float64] | None = None


def log_odds(model: Model, inputs: NDArray[Any], pair: Pair) -> NDArray[np.float64]:
    """Logarithm of the app's probability over the runner-up's, for n inputs, shape (n,).

    Raises:
        ModelError: the model fails.
    """
    parts = [
        model.predict_inputs(inputs[start : start + BATCH_FLOWS])
        for start in range(0, len(inputs), BATCH_FLOWS)
    ]
    if not parts:
        return np.zeros(0)
    p = np.maximum(np.concatenate(parts).astype(np.float64), LEAST)
    return np.asarray(np.log(p[:, pair.app]) - np.log(p[:, pair.runner_up]))
