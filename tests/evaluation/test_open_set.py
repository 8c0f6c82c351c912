"""Figures on unlearned apps, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from apptell.evaluation.open_set import auroc, measure_open_set, oscr


def test_the_auroc_is_scikit_learn_s_with_equal_scores_too() -> None:
    random = np.random.default_rng(0)
    scores, flags = random.integers(0, 10, 500), random.random(500) < 0.3
    assert auroc(scores, flags) == pytest.approx(roc_auc_score(flags, scores))
    assert auroc(scores, np.ones(500, bool)) == 0.5


def test_the_oscr_of_a_perfect_score_is_the_accuracy_on_known_flows() -> None:
    is_known = np.repeat([True, False], 50)
    is_right = np.arange(100) % 10 > 0
    assert oscr(np.where(is_known, 0.1, 0.9), is_known, is_right) == pytest.approx(0.9)
    assert oscr(np.where(is_known, 0.9, 0.1), is_known, is_right) == pytest.approx(0.0)


def test_flows_are_counted_as_called_unknown_from_the_cutoff_on() -> None:
    truth = np.array(["a"] * 8 + ["new"] * 4)
    p = np.array([0.1] * 6 + [0.9, 0.96] + [0.99, 0.95, 0.2, 0.97], np.float32)
    found = measure_open_set(
        p,
        truth,
        np.array(["a"] * 12),
        np.array(["a", "b"]),
        np.arange(12) % 4,
        rate=0.05,
        cutoff=0.95,
    )
    assert (found.known, found.unknown) == (8, 4)
    assert found.caught == 0.75
    assert found.realised == 1 / 8
    assert found.caught_by_app == {"new": 0.75}
    assert found.realised_interval[0] <= 1 / 8 <= found.realised_interval[1]
    assert "75.0% of 4 flows of unlearned apps" in found.sentence
