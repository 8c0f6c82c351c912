import numpy as np
import pytest

from apptell.evaluation import (
    coverage_precision,
    expected_calibration_error,
    histogram,
    reliability,
)

CONFIDENCE = np.array([0.2, 0.55, 0.55, 0.85, 0.95, 1.0], np.float32)
RIGHT = np.array([False, True, False, True, True, True])


def test_the_histogram_counts_right_and_wrong_apart_and_holds_certainty() -> None:
    bars = histogram(CONFIDENCE, RIGHT, n_bins=10)
    assert bars["edges"] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert bars["right"] == [0, 0, 0, 0, 0, 1, 0, 0, 1, 2]
    assert bars["wrong"] == [0, 0, 1, 0, 0, 1, 0, 0, 0, 0]


def test_coverage_falls_and_precision_is_over_the_accepted() -> None:
    points = {p["threshold"]: p for p in coverage_precision(CONFIDENCE, RIGHT)}
    assert points[0.0]["coverage"] == 1.0
    assert points[0.0]["precision"] == pytest.approx(4 / 6)
    assert points[0.85]["coverage"] == pytest.approx(3 / 6)
    assert points[0.85]["precision"] == 1.0
    assert points[1.0]["coverage"] == pytest.approx(1 / 6)


def test_a_threshold_that_accepts_nothing_gives_no_point() -> None:
    points = coverage_precision(CONFIDENCE[:1], RIGHT[:1])
    assert points[-1]["threshold"] == 0.2


def test_reliability_bins_hold_their_upper_edge_and_skip_empty_bins() -> None:
    bins = reliability(CONFIDENCE, RIGHT, n_bins=5)
    assert [row["flows"] for row in bins] == [1, 2, 3]
    assert [row["accuracy"] for row in bins] == [0.0, 0.5, 1.0]
    assert bins[1]["confidence"] == pytest.approx(0.55)


def test_the_calibration_error_is_worked_by_hand() -> None:
    bins = reliability(CONFIDENCE, RIGHT, n_bins=5)
    by_hand = (1 * 0.2 + 2 * 0.05 + 3 * (1 - 2.8 / 3)) / 6
    assert expected_calibration_error(bins) == pytest.approx(by_hand, abs=1e-6)
    assert expected_calibration_error([]) == 0.0


def test_right_as_often_as_confident_has_hardly_any_error() -> None:
    noise = np.random.default_rng(0)
    confidence = noise.random(200_000).astype(np.float32)
    right = noise.random(200_000) < confidence
    assert expected_calibration_error(reliability(confidence, right)) < 0.01
