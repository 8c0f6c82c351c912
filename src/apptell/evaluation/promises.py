"""Out-of-fold probabilities in; what a calibration promised on held-out groups and what it got out.

Each fold is calibrated by the predictions of the other folds, whose groups it shares none of:
temperature scaling (Guo et al., 2017) and a threshold for a wished precision (conformal risk control,
Angelopoulos et al., 2024), beside the paper's fixed 0.85.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.evaluation.curves import expected_calibration_error, reliability
from apptell.verdicts.calibration import calibrate, fit_temperature, threshold_for_precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PROMISED_PRECISION: Final = 0.95


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised for flows of held-out groups, and what was got on them."""

    precision: float
    """The share of right verdicts that was promised."""
    got: float | None
    """The share that was right; None when nothing was accepted."""
    coverage: float
    """Share of flows accepted. A fold for which nothing can be promised accepts none."""
    calibration_error: float
    """Expected calibration error after temperature scaling."""
    temperatures: tuple[float, ...]
    """Of each fold."""
    thresholds: tuple[float | None, ...]
    """Of each fold; None where the other folds cannot promise that precision."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def promise(
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    fold: NDArray[np.int64],
    groups: ArrayLike,
    precision: float = PROMISED_PRECISION,
) -> Promise | None:
    """Calibrates each fold by the others; None when there is one fold only.

    Args:
        truth: the right column of each row, shape (n,); -1 for an app without a column.
        probabilities: out-of-fold, shape (n, k).
        fold: the fold in which each row was tested, shape (n,).
        groups: the unit of each row, shape (n,).
        precision: the wished share of right verdicts among the accepted.
    """
    numbers = np.unique(fold)
    if len(numbers) < 2:
        return None
    group = np.asarray(groups)
    softened = probabilities.copy()
    accepted = np.zeros(len(truth), dtype=np.bool_)
    temperatures: list[float] = []
    thresholds: list[float | None] = []
    for number in numbers:
        held, here = fold != number, fold == number
        known = held & (truth >= 0)
        temperature = fit_temperature(probabilities[known], truth[known])
        beside = calibrate(probabilities[held], temperature)
        limit = threshold_for_precision(
            beside.max(axis=1), beside.argmax(axis=1) == truth[held], precision, group[held]
        )
        softened[here] = calibrate(probabilities[here], temperature)
        if limit is not None:
            accepted[here] = softened[here].max(axis=1) >= np.float32(limit)
        temperatures.append(temperature)
        thresholds.append(limit)
    confidence = softened.max(axis=1)
    right = softened.argmax(axis=1) == truth
    return Promise(
        precision,
        float(right[accepted].mean()) if accepted.any() else None,
        float(accepted.mean()),
        expected_calibration_error(reliability(confidence, right)),
        tuple(temperatures),
        tuple(thresholds),
    )
