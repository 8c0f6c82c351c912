from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from apptell.learning.convolutional import PaperNetwork
from apptell.learning.estimators import AppClassifier, ByteClassifier

WIDTH = "fits tables of a few columns; an image has 7569 pixels, and no other width is accepted"
NARROW = (
    "check_fit_score_takes_y",
    "check_estimators_overwrite_params",
    "check_dont_overwrite_parameters",
    "check_estimators_fit_returns_self",
    "check_readonly_memmap_input",
    "check_n_features_in_after_fitting",
    "check_positive_only_tag_during_fit",
    "check_estimators_dtypes",
    "check_dtype_object",
    "check_pipeline_consistency",
    "check_estimators_nan_inf",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_classifier_data_not_an_array",
    "check_classifiers_one_label",
    "check_classifiers_classes",
    "check_classifiers_train",
    "check_supervised_y_2d",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_fit2d_1sample",
    "check_fit2d_1feature",
    "check_dict_unchanged",
    "check_fit_idempotent",
    "check_fit_check_is_fitted",
    "check_n_features_in",
    "check_fit2d_predict1d",
)


def expected_failures(estimator):
    if type(estimator) is AppClassifier:
        return dict.fromkeys(NARROW, WIDTH)
    return {
        "check_classifiers_train": "wants 83 % right on a table of two columns; one epoch is not enough"
    }


class Dense(PaperNetwork):
    """A network that learns in milliseconds: the checks are of the estimator."""

    def __init__(self, n_apps):
        nn.Module.__init__(self)
        self.dense2 = nn.Linear(7569, n_apps, dtype=torch.float64)

    def forward(self, images):
        return self.dense2(images.flatten(1).double() / 255).float()


class Widened(AppClassifier):
    """Spreads a table's few columns over an image, so that every check reaches a network."""

    _kind = Dense

    def _images(self, X):
        low, high = self.range_ = getattr(self, "range_", (X.min(axis=0), X.max(axis=0)))
        scaled = (X - low) / np.maximum(high - low, 1e-9) * 255
        return np.repeat(scaled, -(-7569 // X.shape[1]), axis=1)[:, :7569].reshape(-1, 87, 87)

    def fit(self, X, y, groups=None):
        if hasattr(self, "range_"):
            del self.range_
        return super().fit(X, y, groups)


@parametrize_with_checks(
    [
        AppClassifier(epochs=1, device="cpu", random_state=0),
        Widened(epochs=1, device="cpu", precision="float32", random_state=0),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_finds_its_contract_kept(estimator, check):
    check(estimator)


def images(n=60, seed=0):
    random = np.random.default_rng(seed)
    X = random.integers(0, 60, (n, 87, 87), dtype=np.uint8)
    y = random.choice(["signal", "threema", "wechat"], n)
    for image, app in zip(X, y, strict=True):
        image["stw".index(app[0]) * 29 :][:29] += 150
    return X, y


def classifier(**changes):
    return AppClassifier(**{"epochs": 4, "device": "cpu", "random_state": 0, **changes})


def test_it_names_the_apps_of_images_it_never_saw():
    model = classifier().fit(*images(200))
    assert model.classes_.tolist() == ["signal", "threema", "wechat"]
    assert model.score(*images(seed=1)) > 0.95
    np.testing.assert_allclose(model.predict_proba(images()[0]).sum(axis=1), 1, atol=1e-5)


def test_square_and_flat_images_give_the_same():
    X, y = images(40)
    square, flat = clone(classifier(epochs=1)), classifier(epochs=1)
    expected = square.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(flat.fit(X.reshape(40, -1), y).predict_proba(X), expected)


@pytest.mark.parametrize("shape", [(9, 7568), (9, 86, 88), (9, 10)])
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"but an image has 7569 pixels \(87 x 87\)|7569"):
        classifier().fit(np.zeros(shape, dtype=np.uint8) + 1, [0, 1, 2] * 3)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="y has only one class, signal; at least two are needed"):
        classifier().fit(images(3)[0], ["signal"] * 3)


def test_no_group_is_both_learned_and_watched(monkeypatch):
    X, y = images(40)
    groups = np.repeat(np.arange(8), 5)
    model = classifier(validation=0.25)
    watched = model._watched(np.zeros(40, dtype=np.int64), groups, seed=0)
    assert len(watched) == 10
    assert not set(groups[watched]) & set(np.delete(groups, watched))
    history = model.fit(X, y, groups).history_
    assert "validation_loss" in history.rows[0]


def test_the_one_dimensional_network_names_the_apps_of_bytes_it_never_saw():
    X, y = (part[:120] for part in images(160))
    X = X.reshape(-1, 87 * 87)[:, : 784 * 9 : 9]  # the bright third is where the app says
    model = ByteClassifier(6, device="cpu", random_state=0).fit(X[:90], y[:90])
    assert model.score(X[90:], y[90:]) > 0.9
    with pytest.raises(ValueError, match="but a flow has 784 bytes"):
        ByteClassifier(1, device="cpu").fit(np.ones((9, 783), dtype=np.uint8), [0, 1, 2] * 3)
