"""A nearest-neighbour classifier for comparisons, which only remembers the training flows.

A model that is not better than the nearest neighbour has learned nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class NearestNeighbour:
    """The one nearest training flow by Euclidean distance, each feature by its deviation.

    Sizes, gaps and counts grow over orders of magnitude, so distances are between logarithms. Its confidence
    is always 1.

    Attributes:
        classes_: the classes, sorted.
    """

    classes_: NDArray[Any]

    def fit(self, X: NDArray[Any], y: ArrayLike, **_more: Any) -> Self:
        """Remembers features, shape (n, features), and classes, shape (n,)."""
        known = _logarithms(X)
        self._mean = known.mean(axis=0)
        deviation = known.std(axis=0)
        self._deviation = np.where(deviation > 0, deviation, 1.0)
        self._tree = KNeighborsClassifier(1).fit((known - self._mean) / self._deviation, y)
        self.classes_ = self._tree.classes_
        return self

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """1 for the neighbour's class and 0 for all others, shape (n, classes)."""
        scaled = (_logarithms(X) - self._mean) / self._deviation
        return np.asarray(self._tree.predict_proba(scaled), dtype=np.float32)


def _logarithms(X: NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(X, dtype=np.float64)
    # Milliseconds of a gap must count beside bytes of a size: a thousandth is the unit of both.
    return np.asarray(np.sign(values) * np.log1p(np.abs(values) * 1000.0))
