"""Statistics in, a random forest out, as the paper's Weka would build it (Section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from apptell.learning.export import forest_to_onnx

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class StatisticsForest(ClassifierMixin, BaseEstimator):
    """A random forest with Weka's defaults, on the 37 features of ``apptell.encoding.statistics``.

    Each tree grows on a bootstrap sample to unlimited depth; each split takes the best of
    log2(features) + 1 features by information gain; the trees' class shares are averaged. Leave the
    ports out with ``statistics(flows, ports=False)``. Any other table of numbers is taken too.

    Parameters:
        n_trees: trees (the paper: 100).
        n_jobs: processes or threads as scikit-learn counts them; None for one.
        random_state: seed, or a NumPy ``RandomState``.

    Attributes:
        classes_: the classes, sorted.
        forest_: the scikit-learn forest.
        n_features_in_: features seen in ``fit``.
    """

    def __init__(
        self, n_trees: int = 100, *, n_jobs: int | None = None, random_state: Any = None
    ) -> None:
        self.n_trees = n_trees
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Grows the forest.

        Args:
            X: features, float32, shape (n, features).
            y: classes, shape (n,).
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.forest_ = RandomForestClassifier(
            self.n_trees,
            criterion="entropy",
            max_features=int(np.log2(X.shape[1])) + 1,
            n_jobs=self.n_jobs,
            random_state=self.random_state,
        ).fit(X, y)
        self.classes_ = self.forest_.classes_
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The mean of the trees' class shares, shape (n, classes), columns as in ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return np.asarray(self.forest_.predict_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class, shape (n,)."""
        shares = self.predict_proba(X)
        return np.asarray(self.classes_[shares.argmax(axis=1)])

    def to_onnx(self) -> bytes:
        """The forest as an ONNX model; its probabilities are in the order of ``classes_``."""
        check_is_fitted(self)
        return forest_to_onnx(self.forest_)
