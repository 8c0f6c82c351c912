"""Chooses thresholds that promise a precision, and counts what they achieve on unseen flows.

For each fold, models that learned from a part of its training side name the rest of that side. On
these verdicts a temperature (Guo et al., 2017) and thresholds for requested precisions (conformal risk
control, Angelopoulos et al., 2024) are chosen; then they are applied to the fold's own test side, which was
not used. The paper's fixed threshold is given for comparison, without a promise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.evaluation.curves import expected_calibration_error, reliability
from apptell.models.temperature import calibrate
from apptell.verdicts.calibration import FLOOR, fit_temperature, threshold_for_precision
from apptell.verdicts.pipeline import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PROMISED: Final = (0.90, 0.95, 0.99)
"""Shares of right verdicts among the accepted that are promised."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Some flows with a model's probabilities."""

    truth: NDArray[np.int64]
    """The right column of each; -1 for an app without a column; shape (n,)."""
    probabilities: NDArray[np.float32]
    """Shape (n, k)."""
    groups: NDArray[Any]
    """The unit of each, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that chooses the threshold, and its result."""

    promised: float | None
    """The share of right verdicts among the accepted that was promised; None for a fixed threshold."""
    got: float | None
    """The share that was right; None when nothing was accepted."""
    got_by_group: float | None
    """The same with equal weight for every group, as in the promise."""
    coverage: float
    """Share of flows accepted. A fold for which nothing can be promised accepts none."""
    thresholds: tuple[float | None, ...]
    """Of each fold; None where its held-out groups cannot promise that much."""


@dataclass(frozen=True, slots=True)
class Promise:
    """The promised and the achieved precision on flows of unseen groups."""

    rules: tuple[Rule, ...]
    """The fixed threshold first, on probabilities as they came; the others after temperature scaling."""
    temperatures: tuple[float, ...]
    """Of each fold."""
    error_before: float
    """Expected calibration error as the probabilities came."""
    error_after: float
    """The same after temperature scaling."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def promise(
    folds: Sequence[tuple[Judged, Judged]],
    promised: Sequence[float] = PROMISED,
    fixed: float = DEFAULT_THRESHOLD,
) -> Promise:
    """Chooses temperature and thresholds on held-out flows, and counts what they give on tested ones.

    Args:
        folds: of each fold the held-out flows of its training side, then the tested flows.
        promised: requested shares of right verdicts among the accepted.
        fixed: a fixed threshold for comparison.
    """
    tested = [test for _, test in folds]
    temperatures, softened, thresholds = [], [], []
    for held, test in folds:
        known = held.truth >= 0
        temperature = fit_temperature(
            held.probabilities[known], held.truth[known], FLOOR, np.asarray(held.groups)[known]
        )
        beside = calibrate(held.probabilities, temperature, FLOOR)
        right = beside.argmax(axis=1) == held.truth
        thresholds.append(
            [
                threshold_for_precision(beside.max(axis=1), right, wish, held.groups)
                for wish in promised
            ]
        )
        temperatures.append(temperature)
        softened.append(calibrate(test.probabilities, temperature, FLOOR))
    raw = [test.probabilities for test in tested]
    rules = [_rule(None, tested, raw, [fixed] * len(folds))]
    rules += [
        _rule(wish, tested, softened, [each[i] for each in thresholds])
        for i, wish in enumerate(promised)
    ]
    return Promise(tuple(rules), tuple(temperatures), _error(tested, raw), _error(tested, softened))


def _rule(
    promised: float | None,
    tested: Sequence[Judged],
    probabilities: Sequence[NDArray[np.float32]],
    thresholds: Sequence[float | None],
) -> Rule:
    accepted = np.concatenate(
        [
            np.zeros(len(each), bool) if limit is None else each.max(axis=1) >= np.float32(limit)
            for each, limit in zip(probabilities, thresholds, strict=True)
        ]
    )
    right = _right(tested, probabilities)
    if not accepted.any():
        return Rule(promised, None, None, 0.0, tuple(thresholds))
    group = np.unique(np.concatenate([test.groups for test in tested]), return_inverse=True)[1]
    weight = 1 / np.bincount(group)[group]
    return Rule(
        promised,
        float(right[accepted].mean()),
        float((weight * (accepted & right)).sum() / (weight * accepted).sum()),
        float(accepted.mean()),
        tuple(thresholds),
    )


def _right(
    tested: Sequence[Judged], probabilities: Sequence[NDArray[np.float32]]
) -> NDArray[np.bool_]:
    pairs = zip(tested, probabilities, strict=True)
    return np.concatenate([each.argmax(axis=1) == test.truth for test, each in pairs])


def _error(tested: Sequence[Judged], probabilities: Sequence[NDArray[np.float32]]) -> float:
    confidence = np.concatenate([each.max(axis=1) for each in probabilities])
    return expected_calibration_error(reliability(confidence, _right(tested, probabilities)))
