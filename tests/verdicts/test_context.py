"""Context is Saerens's expectation maximisation, looks only where it may, and leaves a lone flow alone."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apptell.errors import CaptureError, UsageError
from apptell.kernels.machine_code import IS_POSSIBLE
from apptell.testing import START_NS, flow_batch
from apptell.verdicts import ContextOptions, RollingContext, WholeContext, identify_flows
from apptell.verdicts.context import MOST_FLOWS, Scored, estimate, reweigh_all, weigh_one
from apptell.verdicts.decide import COUNTS, FROM_FLOWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

SECOND = 1_000_000_000
UNIFORM = np.full(3, 1 / 3)


def saerens(p: np.ndarray, prior: np.ndarray, iterations: int, strength: float = 0.0) -> Any:
    """Equations 2.9 of Saerens et al. (2002) as they are written: prior and posteriors of a window."""
    here = prior.copy()
    for _ in range(iterations):
        joint = p * (here / prior)
        posterior = joint / joint.sum(axis=1, keepdims=True)
        here = (posterior.sum(axis=0) + strength * prior) / (len(p) + strength)
    return posterior, here


def weighted_as_documented(
    p: np.ndarray, own: int, prior: np.ndarray, strength: float, iterations: int
) -> np.ndarray:
    posterior, _ = saerens(p, prior, iterations, strength)
    others = np.delete(posterior, own, axis=0).sum(axis=0)
    here = (others + strength * prior) / (len(p) - 1 + strength)
    joint = p[own] * here / prior
    return np.asarray(joint / joint.sum())


def random_probabilities(random: np.random.Generator, m: int, k: int) -> np.ndarray:
    return random.dirichlet(np.full(k, 0.5), m).astype(np.float32)


@pytest.mark.parametrize("iterations", [1, 2, 10, 200])
def test_without_imaginary_flows_the_estimate_is_saerens_s(iterations: int) -> None:
    random = np.random.default_rng(iterations)
    p, prior = random_probabilities(random, 40, 5), random.dirichlet(np.full(5, 3.0))
    posterior, total = estimate(p, prior, 0.0, iterations)
    expected, here = saerens(p.astype(np.float64), prior, iterations)
    np.testing.assert_allclose(posterior, expected, atol=1e-6)
    np.testing.assert_allclose(total / 40, here, atol=1e-6)


def test_the_estimate_raises_the_likelihood_and_finds_the_prior_that_the_flows_were_drawn_by() -> (
    None
):
    random = np.random.default_rng(0)
    shares, prior = np.array([0.7, 0.3, 0.0]), UNIFORM
    # a classifier whose posteriors are exact: two measurements, each right with 0.8
    true = random.choice(3, 4000, p=shares)
    like = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    seen = np.array([random.choice(3, p=like[app]) for app in true])
    p = (like[:, seen].T / like[:, seen].T.sum(axis=1, keepdims=True)).astype(np.float32)
    found = [estimate(p, prior, 0.0, steps)[1] / 4000 for steps in (1, 3, 10, 300)]
    likelihood = [np.log((p * (here / prior)).sum(axis=1)).sum() for here in found]
    assert likelihood == sorted(likelihood)
    np.testing.assert_allclose(found[-1], shares, atol=0.03)


def weighted(
    p: NDArray[np.float32], own: int, prior: NDArray[np.float64], strength: float, iterations: int
) -> NDArray[np.float64]:
    found = np.empty(len(prior))
    weigh_one(p, own, prior, strength, iterations, found)
    return found


@pytest.mark.parametrize(
    ("m", "strength", "iterations"), [(1, 1.0, 10), (2, 0.5, 3), (30, 4.0, 10)]
)
def test_a_flow_is_weighted_by_what_the_others_say(
    m: int, strength: float, iterations: int
) -> None:
    random = np.random.default_rng(m)
    p, prior = random_probabilities(random, m, 4), random.dirichlet(np.full(4, 3.0))
    for own in range(m):
        found = weighted(p, own, prior, strength, iterations)
        expected = weighted_as_documented(p.astype(np.float64), own, prior, strength, iterations)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.skipif(not IS_POSSIBLE, reason="kernels are always called through Numba here")
def test_once_compiled_the_kernel_needs_no_numba() -> None:
    program = (
        "import sys, numpy as np; from apptell.verdicts.context import weigh_one;"
        "weigh_one(np.ones((2, 2), np.float32), 0, np.ones(2), 1.0, 1, np.empty(2, np.float32));"
        "print('numba' in sys.modules)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    ]
    assert said[-1] == "False\n"


def test_an_app_that_was_never_learned_and_flows_without_any_app_are_no_division_by_zero() -> None:
    prior = np.array([0.5, 0.5, 0.0])
    p = np.array([[0.2, 0.8, 0.0], [0.0, 0.0, 1.0], [0.9, 0.1, 0.0]], np.float32)
    for own in range(3):
        assert weighted(p, own, prior, 1.0, 10).sum() == pytest.approx(1.0)


def test_a_doubtful_flow_follows_the_others_and_a_clear_one_does_not() -> None:
    window = np.array([[0.9, 0.05, 0.05]] * 8 + [[0.3, 0.4, 0.3], [0.0, 0.0, 1.0]], np.float32)
    assert weighted(window, 8, UNIFORM, 1.0, 10).argmax() == 0
    assert weighted(window, 9, UNIFORM, 1.0, 10).argmax() == 2


def some_flows(
    times_s: list[float], clients: list[str | None] | None = None, capture: str = "a.pcap"
) -> FlowBatch:
    n = len(times_s)
    times = [START_NS + int(t * SECOND) for t in times_s]
    return flow_batch(["zoom"] * n).with_columns(
        client_address=clients or ["10.0.0.2"] * n,
        capture=[capture] * n,
        start_ns=times,
        decided_ns=times,
        community_id=[f"{t:g}" for t in times_s],
    )


def whole(options: ContextOptions) -> WholeContext:
    return WholeContext(options, UNIFORM, (*FROM_FLOWS, *COUNTS))


def by_time(scored: Any) -> dict[float, tuple[np.ndarray, int]]:
    return {
        (time - START_NS) / SECOND: (row, int(n))
        for flows, rows, others, *_ in scored
        for time, row, n in zip(flows.numpy("start_ns").tolist(), rows, others, strict=True)
    }


def test_only_flows_of_the_same_client_and_capture_within_the_window_count() -> None:
    p = random_probabilities(np.random.default_rng(1), 6, 3)
    flows = some_flows([0, 20, 25, 31, 40, 100], ["x", "x", "y", "x", None, "x"])
    found = by_time(RollingContext(ContextOptions(30.0), UNIFORM).reweigh([Scored(flows, p)]))
    assert [n for _, n in found.values()] == [0, 1, 0, 1, 0, 0]
    for time in (0, 25, 40, 100):
        np.testing.assert_array_equal(found[time][0], p[list(found).index(time)])
    expected = weighted_as_documented(p[[1, 3]].astype(np.float64), 1, UNIFORM, 1.0, 10)
    np.testing.assert_allclose(found[31][0], expected, atol=1e-6)
    other = some_flows([101], ["x"], capture="b.pcap")
    context = RollingContext(ContextOptions(30.0), UNIFORM)
    list(context.reweigh([Scored(flows, p)]))
    assert by_time(context.reweigh([Scored(other, p[:1])]))[101][1] == 0


@pytest.mark.parametrize("batch", [1, 7, 400])
def test_flows_that_come_are_weighted_as_those_of_a_file(batch: int) -> None:
    random = np.random.default_rng(3)
    n = 400
    times = np.sort(random.uniform(0, 120, n)).round(3)
    flows = some_flows(times.tolist(), [f"c{i}" for i in random.choice([0, 0, 0, 1, 2], n)])
    p = random_probabilities(random, n, 3)
    parts = [
        Scored(flows.take(np.arange(i, min(i + batch, n))), p[i : i + batch])
        for i in range(0, n, batch)
    ]
    options = ContextOptions(60.0, strength=0.5)
    rolling = by_time(RollingContext(options, UNIFORM).reweigh(parts))
    shuffled = [parts[i] for i in random.permutation(len(parts))]
    held = by_time(whole(options).reweigh(shuffled))
    assert list(held) == sorted(rolling)
    assert max(n for _, n in held.values()) == MOST_FLOWS - 1
    for time, (row, others) in rolling.items():
        assert others == held[time][1]
        np.testing.assert_allclose(row, held[time][0], atol=1e-6)


def test_nothing_that_comes_later_changes_a_flow_unless_both_sides_are_asked_for() -> None:
    p = random_probabilities(np.random.default_rng(4), 5, 3)
    times = np.array([0, 10, 20, 30, 40]) * SECOND
    alone = reweigh_all(["x"] * 3, times[:3], p[:3], UNIFORM, ContextOptions())
    all_of_them = reweigh_all(["x"] * 5, times, p, UNIFORM, ContextOptions())
    np.testing.assert_array_equal(all_of_them[0][:3], alone[0])
    both, others = reweigh_all(["x"] * 5, times, p, UNIFORM, ContextOptions(20.0, both_sides=True))
    assert others.tolist() == [2, 3, 4, 3, 2]
    expected = weighted_as_documented(p[:3].astype(np.float64), 0, UNIFORM, 1.0, 10)
    np.testing.assert_allclose(both[0], expected, atol=1e-6)


def test_a_flow_that_is_only_looked_at_is_no_context_of_others() -> None:
    context = RollingContext(ContextOptions(), UNIFORM)
    p = random_probabilities(np.random.default_rng(5), 1, 3)
    list(context.reweigh([Scored(some_flows([0]), p)], keep=False))
    assert by_time(context.reweigh([Scored(some_flows([1]), p)]))[1][1] == 0
    assert by_time(context.reweigh([Scored(some_flows([2]), p)]))[2][1] == 1


def test_flows_that_come_late_find_the_flows_of_their_time() -> None:
    context = RollingContext(ContextOptions(30.0), UNIFORM)
    p = random_probabilities(np.random.default_rng(6), 3, 3)
    list(context.reweigh([Scored(some_flows([0, 90]), p[:2])]))
    late = by_time(context.reweigh([Scored(some_flows([5]), p[2:])]))
    assert late[5][1] == 1


class Doubtful:
    """Zoom for sure, or hardly."""

    threshold, apps, name, hash, decision_packets = 0.85, ["other", "zoom"], "d", "0", 5
    transports = (6,)
    known_ja4 = None
    needs_whole_packets = False
    prior = np.array([0.5, 0.5])

    def predict_proba(self, flows: FlowBatch, *, early: bool = False) -> np.ndarray:
        del early
        sure = np.array([float(t) < 100 for t in flows.column("community_id").to_pylist()])
        zoom = np.where(sure, 0.99, 0.6).astype(np.float32)
        return np.stack([1 - zoom, zoom], axis=1)


def test_verdicts_say_what_they_rest_on_and_a_declined_flow_may_be_named() -> None:
    flows = some_flows([90, 95, 99, 101, 200])
    plain = [v for batch in identify_flows([flows], Doubtful()) for v in batch]
    assert [v.app for v in plain] == ["zoom"] * 3 + [None] * 2
    assert [v.context_flows for v in plain] == [None] * 5
    context = whole(ContextOptions())
    context._prior = Doubtful.prior
    (batch,) = identify_flows([flows], Doubtful(), context=context)
    assert [v.app for v in batch] == ["zoom"] * 4 + [None]
    assert [v.context_flows for v in batch] == [0, 1, 2, 3, 0]
    assert [v.confidence for v in batch][4] == pytest.approx(0.6)


def test_an_error_comes_after_the_verdicts_on_all_flows_before_it() -> None:
    def damaged() -> Iterator[FlowBatch]:
        yield some_flows([1])
        raise CaptureError("cut")

    context = WholeContext(ContextOptions(), np.array([0.5, 0.5]), (*FROM_FLOWS, *COUNTS))
    found = []
    verdicts = identify_flows(damaged(), Doubtful(), context=context)
    found += list(next(verdicts))
    with pytest.raises(CaptureError, match="cut"):
        next(verdicts)
    assert len(found) == 1


def test_windows_are_read_from_text() -> None:
    assert ContextOptions.parse("30s") == ContextOptions.parse("30") == ContextOptions(30.0)
    assert ContextOptions.parse("2.5s,both") == ContextOptions(2.5, both_sides=True)


@pytest.mark.parametrize("text", ["", "s", "-3s", "30m", "30s,all", "nan"])
def test_a_window_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not seconds, as in 30s"):
        ContextOptions.parse(text)


def test_values_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match=r"a context of 0\.0 s is not above 0"):
        ContextOptions.parse("0s")
    with pytest.raises(UsageError, match=r"a strength of 0\.0 is not above 0"):
        ContextOptions(strength=0.0)
    with pytest.raises(UsageError, match="0 iterations are not 1 or more"):
        ContextOptions(iterations=0)
    with pytest.raises(UsageError, match="needs later flows too"):
        RollingContext(ContextOptions(both_sides=True), UNIFORM)
