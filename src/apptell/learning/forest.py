"""Statistics in, a random forest out, as the paper's Weka would build it (Section 4)."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from apptell.learning.export import forest_to_onnx
from apptell.learning.trees import Trees, compact

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MOST_FLOWS: Final = 131_072
"""Flows that one tree grows on at most, unless told otherwise."""


class StatisticsForest(ClassifierMixin, BaseEstimator):
    """A random forest with Weka's defaults, on the 37 features of ``apptell.encoding.statistics``.

    Each tree grows on a bootstrap sample to unlimited depth; each split takes the best of
    log2(features) + 1 features by information gain; the trees' class shares are averaged. Leave the
    ports out with ``statistics(flows, ports=False)``. Any other table of numbers is taken too.

    Trees are scikit-learn's, the very ones its ``RandomForestClassifier`` grows from the same seed, as
    long as there are at most ``most_flows`` flows. Of more, each tree's sample has that many draws: the
    forest's size is bounded by it, however many flows there are.

    Parameters:
        n_trees: trees (the paper: 100).
        most_flows: draws of a tree's bootstrap sample at most; None for no bound.
        n_jobs: threads; None for one, -1 for as many as there are processors. The trees are the same
            whatever it is.
        random_state: seed, or a NumPy ``RandomState``.

    Attributes:
        classes_: the classes, sorted.
        trees_: the trees, as ``apptell.learning.trees.Trees``.
        n_features_in_: features seen in ``fit``.
    """

    def __init__(
        self,
        n_trees: int = 100,
        *,
        most_flows: int | None = MOST_FLOWS,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_trees = n_trees
        self.most_flows = most_flows
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
        self.classes_, targets = np.unique(y, return_inverse=True)
        seeds = check_random_state(self.random_state).randint(
            np.iinfo(np.int32).max, size=self.n_trees
        )

        def grow(seed: int) -> Trees:
            return self._grow(X, targets, seed)

        with ThreadPoolExecutor(self._threads) as pool:
            self.trees_ = Trees.join(list(pool.map(grow, seeds.tolist())))
        return self

    def _grow(self, X: NDArray[np.float32], targets: NDArray[np.int64], seed: int) -> Trees:
        n = len(targets)
        draws = n if self.most_flows is None else min(n, self.most_flows)
        drawn = check_random_state(seed).randint(0, n, draws, dtype=np.int32)
        times = np.bincount(drawn, minlength=n)
        rows = np.flatnonzero(times)
        # A sample may lack a class, which would renumber the others: targets are told apart by name.
        present, numbers = np.unique(targets[rows], return_inverse=True)
        tree = DecisionTreeClassifier(
            criterion="entropy",
            max_features=int(np.log2(X.shape[1])) + 1,
            random_state=seed,
        ).fit(X[rows], numbers, sample_weight=times[rows].astype(np.float64))
        return compact(tree.tree_, present, len(self.classes_))

    @property
    def _threads(self) -> int:
        jobs = self.n_jobs or 1
        return max(1, jobs if jobs > 0 else (os.cpu_count() or 1) + 1 + jobs)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The mean of the trees' class shares, shape (n, classes), columns as in ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return self.trees_.votes(np.ascontiguousarray(X), self._threads)

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class, shape (n,)."""
        shares = self.predict_proba(X)
        return np.asarray(self.classes_[shares.argmax(axis=1)])

    def to_onnx(self) -> bytes:
        """The forest as an ONNX model; its probabilities are in the order of ``classes_``."""
        check_is_fitted(self)
        return forest_to_onnx(self.trees_, self.n_features_in_)
