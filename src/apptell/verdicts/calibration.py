"""Chooses temperatures and thresholds from held-out probabilities; uses only NumPy.

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks" (2017). Thresholds with a
    guarantee: Angelopoulos et al., "Conformal Risk Control" (2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import UsageError
from apptell.models.temperature import TINY

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FLOOR: Final = 1e-4
"""The smallest probability that votes are taken for: an app without votes of any tree of a forest is rare
rather than impossible.
"""
_GOLDEN: Final = (5**0.5 - 1) / 2


def fit_temperature(
    probabilities: NDArray[np.float32],
    truth: NDArray[np.int64],
    floor: float = TINY,
    groups: ArrayLike | None = None,
) -> float:
    """The temperature with the highest likelihood of held-out truths; 1.0 if there are no flows.

    The negative log-likelihood is convex in 1/T, so a golden-section search over log T finds its
    minimum; T stays between 0.05 and 20.

    Args:
        probabilities: of held-out flows, shape (n, k).
        truth: the right column of each row, shape (n,).
        floor: smaller probabilities are raised to this value, because a truth of probability zero would
            outweigh all others.
        groups: the source of each row, shape (n,): each source has the same weight, whatever the number of its
            flows. None gives each flow the same weight.
    """
    n = len(truth)
    if n == 0:
        return 1.0
    weight = np.full(n, 1 / n)
    if groups is not None:
        _, group, size = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
        weight = 1 / (size[group] * len(size))
    logits = np.log(np.maximum(probabilities.astype(np.float64), floor))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=1)
        log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float(weight @ (log_sum - scaled[np.arange(n), truth]))

    low, high = np.log(0.05), np.log(20.0)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > 1e-6:
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - _GOLDEN * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + _GOLDEN * (high - low)
            loss_right = loss(right)
    return float(np.exp((low + high) / 2))


def threshold_for_precision(
    confidence: NDArray[np.float32],
    right: NDArray[np.bool_],
    precision: float,
    groups: ArrayLike | None = None,
) -> float | None:
    """The lowest threshold that promises a precision on new data like the held-out data.

    Conformal risk control of the loss ``accepted * (wrong - (1 - precision))``, whose expectation
    is at most 0 exactly when the precision among accepted flows is at least the requested one: the
    mean loss of n held-out units plus one imaginary unit with the worst loss must not be above 0.
    Units are flows, or whole groups (a group's loss is the mean over its flows), which is what to
    use when flows of one network or session resemble each other. The theorem is exact for losses
    that fall as the threshold rises; this one need not, so the threshold goes down from 1 and stops
    before the first one that fails, and the promise is approximate by the flows at that place.

    Args:
        confidence: of held-out flows, shape (n,).
        right: whether the best guess was right, shape (n,).
        precision: the requested share of right verdicts among the accepted, above 0, below 1.
        groups: the unit of each flow, shape (n,); None takes flows one by one.

    Returns:
        The threshold, or None when the held-out data cannot promise that precision.
    """
    if not 0.0 < precision < 1.0:
        raise UsageError(f"precision {precision} is not between 0 and 1")
    if len(confidence) == 0:
        return None
    allowed = 1.0 - precision
    order = np.argsort(-confidence, kind="stable")
    loss = (~right[order]).astype(np.float64) - allowed
    if groups is not None:
        _, group, size = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
        loss = loss / size[group[order]]
    # One imaginary unit, wrong and accepted: its loss is 1 - allowed = precision.
    total = np.cumsum(loss) + precision
    sorted_confidence = confidence[order]
    # A threshold accepts all flows of equal confidence, so only the last of each run counts.
    ends = np.flatnonzero(np.append(np.diff(sorted_confidence) != 0, True))
    return _lowest_that_holds(sorted_confidence[ends], total[ends])


def _lowest_that_holds(thresholds: NDArray[Any], total: NDArray[np.float64]) -> float | None:
    """Going down from the highest threshold: the last one before the first failure.

    The imaginary unit makes the very first ones fail for lack of data; these are skipped.
    """
    holds = total <= 1e-12
    if not holds.any():
        return None
    first = int(np.argmax(holds))
    failures = np.flatnonzero(~holds[first:])
    last = first + int(failures[0]) - 1 if len(failures) else len(holds) - 1
    return float(thresholds[last])
