"""Curves of confidence: histogram, coverage against precision, and calibration.

Paper, Section 4.2 and Fig. 3. Expected calibration error: Naeini et al. (2015), equal-width bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def histogram(
    confidence: NDArray[np.float32], right: NDArray[np.bool_], n_bins: int = 20
) -> dict[str, Any]:
    """Right and wrong verdicts by confidence (Fig. 3): ``edges``, n_bins + 1; ``right``, ``wrong``.

    A bin holds its lower edge; the last one holds 1 as well.
    """
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    return {
        "edges": [round(float(edge), 6) for edge in edges],
        "right": np.histogram(confidence[right], edges)[0].tolist(),
        "wrong": np.histogram(confidence[~right], edges)[0].tolist(),
    }


def coverage_precision(
    confidence: NDArray[np.float32], right: NDArray[np.bool_], n_points: int = 101
) -> list[dict[str, float]]:
    """Coverage and precision at each threshold: points with ``threshold``, ``coverage``, ``precision``.

    Thresholds are ``n_points`` steps from 0 to 1. Precision is the share of right verdicts among
    the accepted; a threshold that accepts none gives no point.
    """
    order = np.sort(confidence)
    right_order = np.sort(confidence[right])
    points = []
    for threshold in np.linspace(0.0, 1.0, n_points):
        limit = np.float32(threshold)
        accepted = len(order) - int(np.searchsorted(order, limit, side="left"))
        if accepted == 0:
            break
        good = len(right_order) - int(np.searchsorted(right_order, limit, side="left"))
        points.append(
            {
                "threshold": round(float(threshold), 6),
                "coverage": accepted / len(order),
                "precision": good / accepted,
            }
        )
    return points


def reliability(
    confidence: NDArray[np.float32], right: NDArray[np.bool_], n_bins: int = 15
) -> list[dict[str, float]]:
    """Equal-width bins of mean ``confidence`` beside ``accuracy``, with their ``flows``."""
    # Bins are (lower, upper], so that a confidence of 1 lies in the last one.
    at = np.clip(
        np.ceil(confidence.astype(np.float64) * n_bins).astype(np.int64) - 1, 0, n_bins - 1
    )
    flows = np.bincount(at, minlength=n_bins)
    mean = np.bincount(at, confidence.astype(np.float64), n_bins)
    good = np.bincount(at, right.astype(np.float64), n_bins)
    return [
        {"confidence": mean[i] / flows[i], "accuracy": good[i] / flows[i], "flows": int(flows[i])}
        for i in np.flatnonzero(flows)
    ]


def expected_calibration_error(bins: list[dict[str, float]]) -> float:
    """The mean distance of confidence and accuracy in ``reliability``'s bins, by their flows."""
    total = sum(row["flows"] for row in bins)
    if not total:
        return 0.0
    return float(
        sum(row["flows"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / total
    )
