"""Random forests on statistics, with the defaults of the paper's Weka (Section 4)."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from apptell.learning.export import ForestCalibration, forest_to_onnx
from apptell.learning.trees import Trees, compact
from apptell.models.temperature import calibrate
from apptell.verdicts.calibration import fit_temperature

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MOST_FLOWS: Final = 131_072
"""Default maximum number of flows that one tree grows on."""
MIXED: Final = (0.002, 0.01, 0.03, 0.1)
"""The weights of the training shares that a calibration chooses from."""
_CALIBRATING: Final = 20_000
"""Number of flows that is sufficient for a calibration."""


class StatisticsForest(ClassifierMixin, BaseEstimator):
    """A random forest with Weka's defaults, on the 37 features of ``apptell.encoding.statistics``.

    Each tree grows on a bootstrap sample to unlimited depth; each split takes the best of
    log2(features) + 1 features by information gain; the trees' class shares are averaged. Leave the
    ports out with ``statistics(flows, ports=False)``. Any other table of numbers is also accepted.

    The trees are those that scikit-learn's ``RandomForestClassifier`` grows from the same seed, if there are
    at most ``most_flows`` flows. Otherwise each tree's sample has that many draws, which bounds the size of
    the forest.

    Parameters:
        n_trees: trees (the paper: 100).
        features: share of the features that a split chooses among, above 0, at most 1; None for Weka's
            log2(features) + 1.
        most_flows: maximum number of draws of a tree's bootstrap sample; None for no bound.
        n_jobs: threads; None for one, -1 for as many as there are processors. The trees do not depend on it.
        random_state: seed, or a NumPy ``RandomState``.

    Attributes:
        classes_: the classes, sorted.
        trees_: the trees, as ``apptell.learning.trees.Trees``.
        feature_importances_: share of the information gain of each feature, as scikit-learn has it:
            the mean over the trees, shape (features,), sum 1.
        n_features_in_: features seen in ``fit``.

    Example:
        >>> from apptell.encoding import encode
        >>> flows = apptell.Dataset.open("dataset/").read()
        >>> X, y = encode(flows, "statistics"), flows.column("label").to_pylist()
        >>> apptell.StatisticsForest(10, random_state=0).fit(X, y).classes_.tolist()
        ['signal', 'zoom']
    """

    def __init__(
        self,
        n_trees: int = 100,
        *,
        features: float | None = None,
        most_flows: int | None = MOST_FLOWS,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_trees = n_trees
        self.features = features
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
        self.trees_ = self._grow_all(X, targets)
        return self

    def _grow_all(self, X: NDArray[np.float32], targets: NDArray[np.int64]) -> Trees:
        seeds = check_random_state(self.random_state).randint(
            np.iinfo(np.int32).max, size=self.n_trees
        )

        def grow(seed: int) -> Trees:
            return self._grow(X, targets, seed)

        with ThreadPoolExecutor(self._threads) as pool:
            return Trees.join(list(pool.map(grow, seeds.tolist())))

    def _grow(self, X: NDArray[np.float32], targets: NDArray[np.int64], seed: int) -> Trees:
        times = self._times(len(targets), seed)
        rows = np.flatnonzero(times)
        # A sample may lack a class, which would renumber the others: targets are identified by name.
        present, numbers = np.unique(targets[rows], return_inverse=True)
        tree = DecisionTreeClassifier(
            criterion="entropy",
            max_features=self.features or int(np.log2(X.shape[1])) + 1,
            random_state=seed,
        ).fit(X[rows], numbers, sample_weight=times[rows].astype(np.float64))
        return compact(tree.tree_, present, len(self.classes_))

    def _times(self, n: int, seed: int) -> NDArray[np.int64]:
        """How often each of n flows is in a tree's sample, shape (n,)."""
        draws = n if self.most_flows is None else min(n, self.most_flows)
        drawn = check_random_state(seed).randint(0, n, draws, dtype=np.int32)
        return np.bincount(drawn, minlength=n)

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """The share of the information gain that each feature has, shape (features,), sum 1."""
        check_is_fitted(self)
        grown = self.trees_.importance[self.trees_.importance.any(axis=1)]  # of more than a leaf
        mean = grown.mean(axis=0) if len(grown) else np.zeros(self.n_features_in_)
        return np.asarray(mean / mean.sum() if mean.any() else mean)

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


class CalibratedForest(StatisticsForest):
    """The same forest with calibrated probabilities, from the flows that each tree did not see.

    The votes are mixed with a small part of the training shares, because an app without votes is rare rather
    than impossible, and their logarithms are divided by a temperature. Both maximise the likelihood of the
    out-of-bag truths, so no flows have to be held out.

    Attributes:
        mixed_: weight of the training shares, one of ``MIXED``.
        temperature_: below 1 if the votes were underconfident.
        prior_: frequency of each class in training, shape (classes,).

    Example:
        >>> from apptell.encoding import encode
        >>> flows = apptell.Dataset.open("dataset/").read()
        >>> X, y = encode(flows, "bursts"), flows.column("label").to_pylist()
        >>> apptell.CalibratedForest(10, random_state=0).fit(X, y).classes_.tolist()
        ['signal', 'zoom']
    """

    def _grow_all(self, X: NDArray[np.float32], targets: NDArray[np.int64]) -> Trees:
        n = len(targets)
        self._votes = np.zeros((n, len(self.classes_)), dtype=np.float32)
        self._voters = np.zeros(n, dtype=np.int32)
        self._lock = threading.Lock()
        trees = super()._grow_all(X, targets)
        self.prior_ = np.bincount(targets) / n
        seen = np.flatnonzero(self._voters)
        if len(seen) > _CALIBRATING:
            seen = check_random_state(0).choice(seen, _CALIBRATING, replace=False)
        votes = self._votes[seen] / self._voters[seen, None]
        del self._votes, self._voters, self._lock
        self._calibrate(votes, targets[seen])
        return trees

    def _grow(self, X: NDArray[np.float32], targets: NDArray[np.int64], seed: int) -> Trees:
        tree = super()._grow(X, targets, seed)
        left = np.flatnonzero(self._times(len(targets), seed) == 0)
        if len(left):
            votes = tree.votes(np.ascontiguousarray(X[left]))
            with self._lock:
                self._votes[left] += votes
                self._voters[left] += 1
        return tree

    def _calibrate(self, votes: NDArray[Any], targets: NDArray[np.int64]) -> None:
        least = np.inf
        rows = np.arange(len(targets))
        for mixed in MIXED:
            p = self._mix(votes, mixed)
            temperature = fit_temperature(p, targets)
            truth = calibrate(p, temperature)[rows, targets]
            loss = float(-np.log(np.maximum(truth, 1e-12)).mean()) if len(rows) else 0.0
            if loss < least:
                least, self.mixed_, self.temperature_ = loss, mixed, temperature

    def _mix(self, votes: NDArray[Any], mixed: float) -> NDArray[np.float32]:
        return np.asarray((1 - mixed) * votes + mixed * self.prior_, dtype=np.float32)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Calibrated probabilities, shape (n, classes), columns as in ``classes_``."""
        mixed = self._mix(super().predict_proba(X), self.mixed_)
        return calibrate(mixed, self.temperature_).astype(np.float64)

    def to_onnx(self) -> bytes:
        """The forest and its calibration as an ONNX model."""
        check_is_fitted(self)
        floor = self.mixed_ * self.prior_
        return forest_to_onnx(
            self.trees_,
            self.n_features_in_,
            calibration=ForestCalibration(1 - self.mixed_, floor, self.temperature_),
        )
