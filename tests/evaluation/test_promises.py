import numpy as np
import pytest

from apptell.evaluation.promises import Judged, promise


def judged(seed, n, accuracy, confidence, groups=200):
    """Two apps; a model that always says the same confidence and is right on a share."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, n)
    guess = np.where(random.random(n) < accuracy, truth, 1 - truth)
    probabilities = np.full((n, 2), 1 - confidence, dtype=np.float32)
    probabilities[np.arange(n), guess] = confidence
    return Judged(truth, probabilities, np.arange(n) % groups)


def mixed(seed, n, groups):
    """A model that is as often right as it says, at confidences from 0.5 to 1."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.5, 1.0, n).astype(np.float32)
    truth = random.integers(0, 2, n)
    guess = np.where(random.random(n) < confidence, truth, 1 - truth)
    probabilities = np.empty((n, 2), dtype=np.float32)
    probabilities[np.arange(n), guess] = confidence
    probabilities[np.arange(n), 1 - guess] = 1 - confidence
    return Judged(truth, probabilities, np.arange(n) % groups)


def test_a_model_that_is_too_sure_is_calibrated_by_what_was_held_out():
    folds = [(judged(i, 2000, 0.75, 0.99), judged(10 + i, 500, 0.75, 0.99)) for i in range(3)]
    kept = promise(folds)
    assert kept.error_before == pytest.approx(0.24, abs=0.03)
    assert kept.error_after < 0.04
    assert all(t > 2 for t in kept.temperatures)
    fixed, *rules = kept.rules
    assert (fixed.promised, fixed.coverage) == (None, 1.0)
    assert fixed.got == pytest.approx(0.75, abs=0.03)
    for rule in rules:  # nobody can promise 90 % of a model that is right on 75 %
        assert (rule.coverage, rule.got, rule.thresholds) == (0.0, None, (None,) * 3)


def test_a_promise_that_can_be_given_is_kept_on_flows_never_seen():
    kept = promise([(judged(1, 4000, 0.98, 0.97), judged(2, 4000, 0.98, 0.97))], (0.95,))
    assert kept.rules[1].coverage == 1.0
    assert kept.rules[1].got == pytest.approx(0.98, abs=0.01)


def test_promises_hold_on_average_over_many_drawings():
    """What conformal risk control says: over calibrations, not of each one."""
    kept = [
        promise([(mixed(seed, 3000, 150), mixed(1000 + seed, 3000, 150))], (0.9,)).rules[1]
        for seed in range(30)
    ]
    assert np.mean([rule.got for rule in kept]) >= 0.9 - 0.003
    assert np.mean([rule.coverage for rule in kept]) > 0.15  # and is no empty word


def test_too_few_held_out_groups_promise_nothing():
    """Nineteen groups are the least that 95 % can rest on: one more, unseen, may be all wrong."""
    for groups, can in ((18, False), (40, True)):
        held = judged(3, 2000, 1.0, 0.99, groups)
        (_, rule) = promise([(held, held)], (0.95,)).rules
        assert (rule.thresholds[0] is not None) is can


def test_groups_count_alike_in_the_promise_and_flows_in_the_share():
    truth = np.zeros(10, np.int64)
    probabilities = np.tile(np.array([0.9, 0.1], np.float32), (10, 1))
    probabilities[8:] = [0.1, 0.9]
    groups = np.array([0] * 8 + [1] * 2)  # one group right, a small one wrong
    tested = Judged(truth, probabilities, groups)
    fixed = promise([(judged(0, 100, 0.9, 0.9), tested)]).rules[0]
    assert fixed.got == pytest.approx(0.8)
    assert fixed.got_by_group == pytest.approx(0.5)


def test_the_tested_labels_move_no_threshold():
    held, tested = mixed(0, 3000, 100), mixed(1, 500, 20)
    turned = Judged(1 - tested.truth, tested.probabilities, tested.groups)
    one, other = promise([(held, tested)]), promise([(held, turned)])
    assert one.temperatures == other.temperatures
    assert [r.thresholds for r in one.rules] == [r.thresholds for r in other.rules]
    assert [r.coverage for r in one.rules] == [r.coverage for r in other.rules]


def test_a_truth_that_no_tree_voted_for_does_not_outweigh_all():
    """Votes of 0 and 1, right on 80 %: the temperature that says so, not the largest there is."""
    held = judged(0, 2000, 0.8, 1.0)
    kept = promise([(held, judged(1, 2000, 0.8, 1.0))])
    assert 5 < kept.temperatures[0] < 9  # 1 / (1 + 1e-4 ** (1 / T)) = 0.8
    assert kept.error_after < 0.03
