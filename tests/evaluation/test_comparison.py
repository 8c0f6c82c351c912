import numpy as np
import pytest

from apptell.evaluation.comparison import measure_pooled
from apptell.evaluation.promises import promise
from apptell.evaluation.providers import by_provider, provider_of, shares_a_provider
from apptell.testing import flow_batch


def test_teams_and_skype_are_one_provider_and_their_probabilities_add_up():
    probabilities = np.array([[0.4, 0.35, 0.25], [0.1, 0.2, 0.7]], dtype=np.float32)
    summed, providers = by_provider(probabilities, ("skype", "teams", "zoom"))
    assert providers == ("microsoft", "zoom")
    np.testing.assert_allclose(summed, [[0.75, 0.25], [0.3, 0.7]], rtol=1e-6)
    assert provider_of("zoom") == "zoom"
    assert not shares_a_provider(["teams", "zoom"])
    assert shares_a_provider(["teams", "skype"])


def measured(labels, guesses, apps, confidence=0.9):
    probabilities = np.full((len(labels), len(apps)), (1 - confidence) / (len(apps) - 1))
    probabilities[np.arange(len(labels)), [apps.index(guess) for guess in guesses]] = confidence
    return measure_pooled(
        flow_batch(labels),
        labels,
        probabilities.astype(np.float32),
        apps,
        fold=np.arange(len(labels)) % 2,
        groups=np.array([f"g{i % 4}" for i in range(len(labels))]),
    )


def test_a_verdict_that_mixes_up_one_provider_is_right_for_the_provider():
    found = measured(
        ["teams", "skype", "zoom", "zoom"],
        ["skype", "skype", "zoom", "teams"],
        ["skype", "teams", "zoom"],
    )
    assert found.result.scores.accuracy == 0.5
    assert found.by_provider.scores.accuracy == 0.75
    assert found.without_other is None


def test_without_other_background_is_left_out_of_the_test():
    found = measured(["a", "a", "other", "other"], ["a", "a", "a", "a"], ["a", "other"])
    assert found.result.scores.accuracy == 0.5
    assert found.without_other.scores.accuracy == 1.0
    assert found.without_other.scores.n_flows == 2


def test_the_hardest_confusions_come_with_flows_to_look_at():
    found = measured(["a", "a", "a", "b"], ["b", "b", "c", "b"], ["a", "b", "c"])
    assert [(c.true, c.given, c.flows) for c in found.hardest] == [("a", "b", 2), ("a", "c", 1)]
    assert found.hardest[1].examples == ("1:flow2",)


def confident(seed, n, accuracy, confidence):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, n)
    right = random.random(n) < accuracy
    guess = np.where(right, truth, 1 - truth)
    probabilities = np.full((n, 2), 1 - confidence, dtype=np.float32)
    probabilities[np.arange(n), guess] = confidence
    return truth, probabilities


def test_a_model_that_is_too_sure_is_calibrated_by_the_other_folds():
    truth, probabilities = confident(0, 2000, 0.75, 0.99)
    fold = np.arange(2000) % 5
    kept = promise(truth, probabilities, fold, fold)
    assert kept.calibration_error < 0.03  # 0.24 before
    assert all(t > 2 for t in kept.temperatures)
    assert kept.coverage == 0.0  # nobody can promise 95 % of a model that is right on 75 %
    assert kept.got is None


def test_a_promise_that_can_be_given_is_kept_on_held_out_groups():
    truth, probabilities = confident(1, 4000, 0.98, 0.97)
    fold = np.arange(4000) % 5
    kept = promise(truth, probabilities, fold, np.arange(4000) % 200)
    assert kept.coverage > 0.9
    assert kept.got == pytest.approx(0.98, abs=0.01)


def test_one_fold_promises_nothing():
    truth, probabilities = confident(0, 20, 0.9, 0.9)
    assert promise(truth, probabilities, np.zeros(20, np.int64), np.zeros(20)) is None
