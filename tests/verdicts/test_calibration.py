import numpy as np
import pytest
from numpy.typing import NDArray

from apptell.errors import UsageError
from apptell.verdicts import calibrate, fit_temperature, threshold_for_precision


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)


def _draw(temperature: float, n: int = 40_000) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities too sharp by a known temperature; truths drawn from the right ones."""
    noise = np.random.default_rng(0)
    logits = noise.normal(0, 2, (n, 4))
    right = _softmax(logits)
    truth = (noise.random((n, 1)) > right.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    return _softmax(logits * temperature), truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_the_probabilities_is_found(temperature: float) -> None:
    probabilities, truth = _draw(temperature)
    assert fit_temperature(probabilities, truth) == pytest.approx(temperature, rel=0.05)


def test_calibrating_by_one_changes_nothing_and_rows_sum_to_one() -> None:
    probabilities, _ = _draw(1.0, 100)
    np.testing.assert_allclose(calibrate(probabilities, 1.0), probabilities, atol=1e-6)
    softer = calibrate(probabilities, 2.5)
    np.testing.assert_allclose(softer.sum(axis=1), 1.0, atol=1e-6)
    assert (softer.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert softer.dtype == np.float32


def test_probabilities_of_zero_and_one_stay_finite() -> None:
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert np.isfinite(calibrate(probabilities, 3.0)).all()
    assert np.isfinite(fit_temperature(probabilities, np.array([1, 1])))


def test_without_flows_the_temperature_is_one() -> None:
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1.0


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_a_temperature_not_above_zero_is_refused(wrong: float) -> None:
    with pytest.raises(UsageError, match="is not above 0"):
        calibrate(np.ones((1, 1), np.float32), wrong)


def test_the_threshold_is_the_add_one_rule_worked_by_hand() -> None:
    # 19 right at .9, then one wrong at .8, then 20 right at .7: (wrong + 1) / (accepted + 1)
    # is 1/20 after the first run, 2/21 after the second, 2/41 after the third.
    confidence = np.array([0.9] * 19 + [0.8] + [0.7] * 20, np.float32)
    right = np.array([True] * 19 + [False] + [True] * 20)
    assert threshold_for_precision(confidence, right, 0.95) == pytest.approx(0.9)
    assert threshold_for_precision(confidence, right, 0.90) == pytest.approx(0.7)
    assert threshold_for_precision(confidence, right, 0.99) is None


def test_equal_confidences_are_accepted_together_or_not_at_all() -> None:
    confidence = np.full(40, 0.9, np.float32)
    right = np.array([True] * 30 + [False] * 10)
    assert threshold_for_precision(confidence, right, 0.9) is None


def test_the_promised_precision_is_kept_on_new_data_in_the_mean() -> None:
    noise = np.random.default_rng(1)

    def draw(n: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        confidence = noise.random(n).astype(np.float32)
        return confidence, noise.random(n) < 0.6 + 0.4 * confidence

    wrong = accepted = 0
    for _ in range(300):
        threshold = threshold_for_precision(*draw(300), precision=0.95)
        if threshold is None:
            continue
        confidence, right = draw(2_000)
        accepted += int((confidence >= threshold).sum())
        wrong += int((~right[confidence >= threshold]).sum())
    assert accepted > 10_000
    assert 1 - wrong / accepted >= 0.95


def test_a_group_counts_once_however_many_flows_it_has() -> None:
    # One spoiled network with a thousand flows among 30 good ones with ten each.
    groups = np.concatenate([np.zeros(1000, int), np.repeat(np.arange(1, 31), 10)])
    right = groups > 0
    confidence = np.full(len(groups), 0.9, np.float32)
    assert threshold_for_precision(confidence, right, 0.9) is None
    assert threshold_for_precision(confidence, right, 0.9, groups) == pytest.approx(0.9)
    assert threshold_for_precision(confidence, right, 0.95, groups) is None


def test_without_held_out_flows_nothing_is_promised() -> None:
    assert threshold_for_precision(np.zeros(0, np.float32), np.zeros(0, bool), 0.9) is None


@pytest.mark.parametrize("wrong", [0.0, 1.0, 2.0])
def test_a_precision_outside_zero_to_one_is_refused(wrong: float) -> None:
    with pytest.raises(UsageError, match="is not between 0 and 1"):
        threshold_for_precision(np.ones(1, np.float32), np.ones(1, bool), wrong)


def test_with_groups_a_large_source_weighs_as_much_as_a_small_one() -> None:
    sharp, truth = _draw(3.0, 20_000)
    soft, other = _draw(0.5, 1_000)
    both, truths = np.concatenate([sharp, soft]), np.concatenate([truth, other])
    groups = np.array(["large"] * 20_000 + ["small"] * 1_000)
    weighted = fit_temperature(both, truths, groups=groups)
    # the same as when the small source had as many flows as the large one
    again = np.tile(np.arange(20_000, 21_000), 20)
    rows = np.concatenate([np.arange(20_000), again])
    assert weighted == pytest.approx(fit_temperature(both[rows], truths[rows]), rel=1e-3)
    assert weighted < fit_temperature(both, truths)
    each_its_own = fit_temperature(both, truths, groups=np.arange(21_000))
    assert each_its_own == pytest.approx(fit_temperature(both, truths), rel=1e-3)
