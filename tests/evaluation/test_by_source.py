from __future__ import annotations

import numpy as np
import pytest

from apptell.evaluation.by_source import link_sources, source_figures, source_folds, turns

APPS = ("discord", "other", "skype", "teams")


def words(text: str) -> np.ndarray:
    return np.array(text.split())


def test_sources_that_share_a_connection_are_one_and_each_connection_counts_once():
    source, first = link_sources(words("d c b b a e"), words("1 2 2 3 3 4"))
    assert source.tolist() == ["d", "a", "a", "a", "a", "e"]
    assert first.tolist() == [0, 1, 3, 5]


def test_no_source_is_learned_from_and_tested_in_one_turn_and_every_tested_flow_has_one_turn():
    random = np.random.default_rng(0)
    source = random.choice(list("abcdefg"), 300)
    tested, learnable = random.random(300) < 0.5, random.random(300) < 0.8
    found = turns(source, tested, learnable)
    for turn in found:
        assert not set(source[turn.learned]) & set(source[turn.tested])
        assert learnable[turn.learned].all()
    assert (
        sorted(np.concatenate([turn.tested for turn in found])) == np.flatnonzero(tested).tolist()
    )
    assert len(found) == 7


def test_flows_that_are_kept_apart_are_in_no_training_and_their_people_are_not_either():
    """Person a gave captures to both halves; b and c gave none to learn from."""
    source = words("a a b c d")
    is_untouched = np.array([0, 1, 1, 1, 0], dtype=bool)
    found = turns(source, is_untouched, ~is_untouched)
    assert [(turn.learned.tolist(), turn.tested.tolist()) for turn in found] == [
        ([4], [1]),
        ([0, 4], [2, 3]),  # one training for all people without flows to learn from
    ]


def test_testing_a_few_flows_does_not_take_the_others_out_of_the_training():
    source = words("a a b b c c")
    tested = np.array([1, 0, 1, 0, 0, 0], dtype=bool)
    found = turns(source, tested, np.ones(6, dtype=bool))
    assert [turn.learned.tolist() for turn in found] == [[2, 3, 4, 5], [0, 1, 4, 5]]


def test_a_fold_of_sources_is_left_out_together():
    source = words("a b c d e f g h a b c d")
    app = words("x x x x y y y y x x x x")
    fold = source_folds(source, app, 2, seed=0)
    for each in np.unique(source):
        assert len(set(fold[source == each])) == 1
    for each in ("x", "y"):  # the sources of an app are spread over the folds
        assert sorted(np.bincount(fold[np.flatnonzero(app == each)][:4]).tolist()) == [2, 2]
    assert len(turns(source, np.ones(12, dtype=bool), np.ones(12, dtype=bool), fold)) == 2


def test_the_figures_of_a_small_table_worked_out_by_hand():
    app = words("discord skype teams other other")
    source = words("a a b b b")
    p = np.array([
        [0.9, 0.1, 0.0, 0.0],  # right and sure
        [0.0, 0.0, 0.4, 0.6],  # the provider is right and sure, the app is not
        [0.9, 0.0, 0.0, 0.1],  # wrong and sure
        [0.1, 0.9, 0.0, 0.0],  # background: no verdict of an app
        [0.0, 0.3, 0.0, 0.7],  # wrong, not sure
    ])  # fmt: skip
    found = source_figures(app, source, p.astype(np.float32), APPS, "other")
    by_app, by_provider = found["app"], found["provider"]
    assert (by_app["flows"], by_app["sources"]) == (5, 2)
    assert by_app["accuracy"][0] == pytest.approx(2 / 5)
    assert by_provider["accuracy"][0] == pytest.approx(3 / 5)
    assert by_provider["accuracy"][1:] == [pytest.approx(1 / 3), pytest.approx(1)]
    assert by_provider["accuracy_by_source"] == pytest.approx((1 + 1 / 3) / 2)
    assert by_provider["by_source"] == {"a": [1.0, 2], "b": [pytest.approx(1 / 3), 3]}
    assert by_provider["precision_at_85"] == pytest.approx(2 / 3)
    assert by_provider["coverage_at_85"] == pytest.approx(3 / 3)
    assert by_app["precision_at_85"] == pytest.approx(1 / 2)
    assert by_app["coverage_at_85"] == pytest.approx(2 / 3)
    assert by_app["errors"] == {"other as teams": 1, "skype as teams": 1, "teams as discord": 1}
    # Bins of 1/15: .9 three times (one wrong), 1.0 right, .7 wrong.
    assert by_provider["ece"] == pytest.approx((abs(2.7 - 2) + 0 + 0.7) / 5, abs=1e-6)


def test_flows_of_background_alone_have_no_coverage():
    p = np.array([[0.1, 0.9, 0.0, 0.0]] * 2, dtype=np.float32)
    found = source_figures(words("other other"), words("a b"), p, APPS, "other")
    assert found["app"]["coverage_at_85"] is None
    assert found["app"]["precision_at_85"] is None
