from math import comb

import numpy as np
import pytest

from apptell.evaluation import bootstrap_intervals, mcnemar


def test_the_interval_of_an_accuracy_is_the_binomial_s() -> None:
    truth = np.zeros(400, np.int64)
    guess = np.array([0] * 360 + [1] * 40)
    low, high = bootstrap_intervals(truth, guess, 2, n_draws=20_000)["accuracy"]
    spread = 1.96 * np.sqrt(0.9 * 0.1 / 400)
    assert (low, high) == pytest.approx((0.9 - spread, 0.9 + spread), abs=0.006)


def test_groups_that_stand_or_fall_together_widen_the_interval() -> None:
    truth = np.zeros(400, np.int64)
    guess = np.repeat([0] * 9 + [1], 40)
    groups = np.repeat(np.arange(10), 40)
    by_flow = bootstrap_intervals(truth, guess, 2)["accuracy"]
    by_group = bootstrap_intervals(truth, guess, 2, groups)["accuracy"]
    assert by_group[1] - by_group[0] > 4 * (by_flow[1] - by_flow[0])


def test_the_same_seed_gives_the_same_interval() -> None:
    noise = np.random.default_rng(0)
    truth, guess = noise.integers(0, 3, 200), noise.integers(0, 3, 200)
    groups = [f"s{i % 7}" for i in range(200)]
    first = bootstrap_intervals(truth, guess, 3, groups, seed=4)
    assert first == bootstrap_intervals(truth, guess, 3, groups, seed=4)
    assert first != bootstrap_intervals(truth, guess, 3, groups, seed=5)
    assert set(first) == {"accuracy", "macro_precision", "macro_recall", "macro_f1"}


def test_the_interval_holds_the_figure_of_a_model_that_is_always_right() -> None:
    truth = np.arange(60) % 3
    assert set(bootstrap_intervals(truth, truth, 3).values()) == {(1.0, 1.0)}


def test_one_group_says_nothing_about_another() -> None:
    truth = np.array([0, 1, 0, 1])
    assert bootstrap_intervals(truth, truth, 2, ["home"] * 4) == {}


def test_without_flows_there_is_no_interval() -> None:
    assert bootstrap_intervals(np.zeros(0, np.int64), np.zeros(0, np.int64), 3) == {}


@pytest.mark.parametrize(("first", "second"), [(1, 9), (0, 5), (30, 50), (200, 260)])
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    n = first + second
    a = np.array([True] * first + [False] * second + [True] * 10)
    b = np.array([False] * first + [True] * second + [True] * 10)
    exact = min(1.0, 2 * sum(comb(n, i) for i in range(min(first, second) + 1)) / 2**n)
    assert mcnemar(a, b) == pytest.approx(exact, rel=1e-9)
    assert mcnemar(b, a) == mcnemar(a, b)


def test_mcnemar_of_equal_models_is_one() -> None:
    right = np.array([True, False, True])
    assert mcnemar(right, right) == 1.0
    assert mcnemar(np.array([True, False]), np.array([False, True])) == 1.0
