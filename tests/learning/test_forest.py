from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from apptell.learning.forest import MIXED, CalibratedForest, StatisticsForest
from apptell.verdicts import calibrate, fit_temperature


@parametrize_with_checks(
    [StatisticsForest(n_trees=10, random_state=0), CalibratedForest(n_trees=10, random_state=0)]
)
def test_scikit_learn_finds_its_contract_kept(estimator, check):
    check(estimator)


def test_it_grows_the_very_trees_of_scikit_learn_with_wekas_settings():
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 37)).astype(np.float32)
    y = random.integers(0, 6, 300)
    ours = StatisticsForest(random_state=3).fit(X, y)
    theirs = RandomForestClassifier(100, criterion="entropy", max_features=6, random_state=3)
    theirs.fit(X, y)
    assert len(ours.trees_) == 100
    assert [tree.tree_.node_count for tree in theirs.estimators_] == np.diff(
        ours.trees_.root
    ).tolist()
    new = random.normal(size=(500, 37)).astype(np.float32)
    np.testing.assert_allclose(ours.predict_proba(new), theirs.predict_proba(new), atol=1e-12)
    # unlimited depth: every leaf is pure, one share each
    leaves = ours.trees_.left < 0
    assert (np.diff(ours.trees_.first)[leaves] == 1).all()
    assert ours.trees_.depth == max(tree.get_depth() for tree in theirs.estimators_)


def test_leaves_of_flows_that_nothing_tells_apart_share_their_classes():
    X = np.zeros((30, 3), dtype=np.float32)
    y = np.array([0] * 20 + [1] * 10)
    ours = StatisticsForest(random_state=0).fit(X, y)
    theirs = RandomForestClassifier(100, criterion="entropy", max_features=2, random_state=0)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.fit(X, y).predict_proba(X), atol=1e-12)


def test_a_bound_on_the_flows_of_a_tree_bounds_the_forest():
    random = np.random.default_rng(0)
    X = random.normal(size=(5000, 5)).astype(np.float32)
    y = random.integers(0, 3, 5000)
    small = StatisticsForest(10, most_flows=100, random_state=0).fit(X, y)
    assert np.diff(small.trees_.root).max() < 200
    theirs = RandomForestClassifier(
        10, criterion="entropy", max_features=3, max_samples=100, random_state=0
    )
    np.testing.assert_allclose(
        small.predict_proba(X), theirs.fit(X, y).predict_proba(X), atol=1e-12
    )


def test_threads_change_nothing():
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 8)).astype(np.float32)
    y = random.integers(0, 4, 400)
    one = StatisticsForest(20, random_state=0).fit(X, y)
    four = StatisticsForest(20, n_jobs=4, random_state=0).fit(X, y)
    assert one.to_onnx() == four.to_onnx()
    np.testing.assert_array_equal(one.predict_proba(X), four.predict_proba(X))


def test_a_class_that_a_sample_lacks_keeps_its_number():
    X = np.arange(60, dtype=np.float32)[:, None]
    y = np.array(["rare"] + ["b"] * 30 + ["c"] * 29)
    forest = StatisticsForest(20, random_state=0).fit(X, y)
    assert forest.predict([[20.0], [50.0]]).tolist() == ["b", "c"]
    assert forest.predict_proba([[50.0]])[0, 2] == 0.0


def test_class_names_come_back():
    X = np.array([[0.0], [1.0]] * 10)
    forest = StatisticsForest(n_trees=20, random_state=0).fit(X, ["signal", "wechat"] * 10)
    assert forest.predict([[0.0], [1.0]]).tolist() == ["signal", "wechat"]


def test_the_onnx_model_keeps_to_the_order_of_the_classes():
    random = np.random.default_rng(1)
    X = random.normal(size=(200, 35)).astype(np.float32)
    y = np.where(X[:, 0] > 0, "zulu", np.where(X[:, 1] > 0, "alpha", "mike"))
    forest = StatisticsForest(n_trees=15, random_state=0).fit(X, y)
    session = onnxruntime.InferenceSession(forest.to_onnx(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"inputs": X})[0]
    np.testing.assert_allclose(found, forest.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("width", [3, 38])
def test_another_number_of_features_is_refused(width):
    random = np.random.default_rng(0)
    forest = StatisticsForest(n_trees=2).fit(random.normal(size=(20, 37)), [0, 1] * 10)
    with pytest.raises(ValueError, match="is expecting 37 features"):
        forest.predict(np.zeros((1, width)))


def test_there_are_checks_to_pass():
    assert len(list(estimator_checks_generator(StatisticsForest()))) > 30


def test_a_calibrated_forest_learns_its_temperature_from_what_each_tree_did_not_see():
    random = np.random.default_rng(0)
    X = random.normal(size=(600, 4)).astype(np.float32)
    y = (X[:, 0] + random.normal(size=600) > 0.5).astype(int)
    ours = CalibratedForest(50, features=0.5, random_state=0).fit(X, y)
    theirs = RandomForestClassifier(
        50, criterion="entropy", max_features=0.5, random_state=0, oob_score=True
    ).fit(X, y)
    prior = np.bincount(y) / 600

    def mixed(votes, weight=ours.mixed_):
        return ((1 - weight) * votes + weight * prior).astype(np.float32)

    def loss(weight):
        p = mixed(theirs.oob_decision_function_, weight)
        return -np.log(calibrate(p, fit_temperature(p, y))[np.arange(600), y]).mean()

    assert ours.mixed_ == min(MIXED, key=loss)
    expected = fit_temperature(mixed(theirs.oob_decision_function_), y)
    assert ours.temperature_ == pytest.approx(expected, abs=1e-3)
    assert ours.temperature_ > 1.05  # a forest on noise is too sure
    new = random.normal(size=(50, 4)).astype(np.float32)
    softened = calibrate(mixed(theirs.predict_proba(new)), expected)
    np.testing.assert_allclose(ours.predict_proba(new), softened, atol=1e-3)


def test_importances_are_scikit_learns_and_point_at_what_tells_the_classes_apart():
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 4)).astype(np.float32)
    y = (X[:, 2] > 0).astype(int)
    forest = StatisticsForest(20, random_state=0).fit(X, y)
    importances = forest.feature_importances_
    assert importances.shape == (4,)
    assert importances.sum() == pytest.approx(1)
    assert importances.argmax() == 2
    same = RandomForestClassifier(
        20, criterion="entropy", max_features=int(np.log2(4)) + 1, random_state=0
    ).fit(X, y)
    np.testing.assert_allclose(importances, same.feature_importances_, rtol=1e-6)


def test_importances_of_a_forest_without_splits_are_zero():
    X = np.ones((20, 3), dtype=np.float32)
    forest = StatisticsForest(3, random_state=0).fit(X, [0, 1] * 10)
    assert forest.feature_importances_.tolist() == [0, 0, 0]
