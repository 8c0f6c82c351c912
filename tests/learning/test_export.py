from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from apptell.learning.convolutional import ByteNetwork, PaperNetwork
from apptell.learning.export import forest_to_onnx, network_to_onnx
from apptell.learning.forest import CalibratedForest
from apptell.learning.network_training import predict
from apptell.learning.trees import Trees, compact


def run(onnx_bytes, inputs):
    session = onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"inputs": inputs})[0]


def to_onnx(forest):
    n_classes = len(forest.classes_)
    every = np.arange(n_classes)
    trees = Trees.join([compact(tree.tree_, every, n_classes) for tree in forest.estimators_])
    return forest_to_onnx(trees, forest.n_features_in_)


@pytest.mark.parametrize("kind", [PaperNetwork, ByteNetwork])
@pytest.mark.parametrize("n_apps", [2, 6])
@pytest.mark.parametrize("n", [1, 70])
def test_the_network_gives_the_same_probabilities_outside_pytorch(kind, n_apps, n):
    torch.manual_seed(0)
    network = kind(n_apps).eval()
    torch.nn.init.normal_(network.convolution1.bias)
    network.dense2.weight.data *= 20  # far from uniform
    images = np.random.default_rng(0).integers(0, 256, (n, *kind.shape), dtype=np.uint8)
    expected = predict(network, images)
    assert expected.std() > 0.01
    np.testing.assert_allclose(run(network_to_onnx(network), images), expected, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_a_forest_gives_the_same_probabilities_outside_scikit_learn(n_classes):
    random = np.random.default_rng(n_classes)
    X = np.round(random.normal(size=(600, 7)), 1).astype(np.float32)  # many equal values
    y = random.integers(0, n_classes, 600)
    forest = RandomForestClassifier(30, random_state=0).fit(X[:400], y[:400])
    expected = forest.predict_proba(X)
    np.testing.assert_allclose(run(to_onnx(forest), X), expected, atol=1e-5)


def test_a_threshold_between_two_float32_sorts_both_as_before():
    steps = 1 + np.arange(4, dtype=np.float32) * np.finfo(np.float32).eps
    X, y = np.tile(steps[[0, 3]], 20)[:, None], np.tile([0, 1], 20)
    forest = RandomForestClassifier(10, random_state=0).fit(X, y)
    assert forest.estimators_[0].tree_.threshold[0] == (steps[1] + np.float64(steps[2])) / 2
    found, expected = (
        run(to_onnx(forest), steps[:, None]),
        forest.predict_proba(steps[:, None]),
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert expected[1, 0] > expected[2, 0]


@pytest.mark.parametrize("n_classes", [2, 9])
def test_a_calibrated_forest_gives_the_same_probabilities_outside_scikit_learn(n_classes):
    random = np.random.default_rng(n_classes)
    X = np.round(random.normal(size=(500, 7)), 1).astype(np.float32)
    y = np.abs(X[:, 0] * 2 + random.normal(size=500)).astype(int) % n_classes
    forest = CalibratedForest(20, features=0.5, random_state=0).fit(X[:400], y[:400])
    assert forest.temperature_ != 1.0
    found = run(forest.to_onnx(), X)
    np.testing.assert_allclose(found, forest.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
