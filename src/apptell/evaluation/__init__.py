"""Metrics of models: scores, curves, intervals, comparisons, guarantees, and the paper's numbers."""

from __future__ import annotations

from apptell.evaluation.curves import (
    coverage_precision,
    expected_calibration_error,
    histogram,
    reliability,
)
from apptell.evaluation.figures import Evaluation, evaluate_predictions, slices_of
from apptell.evaluation.scores import Scores, confusion_matrix, score
from apptell.evaluation.uncertainty import bootstrap_intervals, mcnemar

__all__ = [
    "Evaluation",
    "Scores",
    "bootstrap_intervals",
    "confusion_matrix",
    "coverage_precision",
    "evaluate_predictions",
    "expected_calibration_error",
    "histogram",
    "mcnemar",
    "reliability",
    "score",
    "slices_of",
]
