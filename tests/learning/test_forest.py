from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from apptell.learning.forest import StatisticsForest


@parametrize_with_checks([StatisticsForest(n_trees=10, random_state=0)])
def test_scikit_learn_finds_its_contract_kept(estimator, check):
    check(estimator)


def test_it_grows_as_weka_does():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(300, 37)), random.integers(0, 6, 300)
    forest = StatisticsForest(random_state=0).fit(X, y).forest_
    assert len(forest.estimators_) == 100
    assert forest.max_features == 6
    assert forest.criterion == "entropy"
    assert forest.bootstrap
    tree = forest.estimators_[0].tree_
    leaves = tree.children_left < 0
    assert (tree.impurity[leaves] == 0).all()  # unlimited depth: every leaf is pure


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
