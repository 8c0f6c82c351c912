"""Variants of ``fast`` that ``variants.py`` tries: weights of sources, which tokens count, dropped fields.

``fast`` as it is shipped gives each class the same weight, each source of a class the same share of it, and
each flow of a source the same share of that. Strength 30.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from apptell.encoding.tokens import N_BUCKETS
from apptell.learning.export_tokens import Linear
from apptell.learning.token_batch import matrix
from apptell.learning.token_models import TokenLinear

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from apptell.learning.token_batch import TokenBatch

MOST: Final = 3.0
"""Largest factor by which one round changes the weight of a source."""


@dataclass(frozen=True)
class Variant:
    """What differs from the model as it is shipped."""

    power: float = 0.0
    """The weight of a source within its class is that of this power of its flows: 1 is flows alike."""
    rounds: int = 0
    """Trainings before the last one, after each of which sources with a larger loss than others of their class
    get a larger weight.
    """
    pooling: float = 0.0
    """k of the inverse source frequency: a token of s sources is multiplied by s / (s + k)."""
    sources: int = 1
    """Sources in which a token must occur."""
    views: bool = True
    """Whether it also learns from further views of the training flows, such as a capture that began later."""
    dropped: bool = False
    """Whether it also learns from each flow without its tokens of each kind of ``token_kinds.py``."""


SHIPPED: Final = Variant()
_PLAIN: Final = Variant(views=False)
VARIANTS: Final = {
    "as shipped": SHIPPED,
    "without further views": _PLAIN,
    "sources by the root of their flows": replace(_PLAIN, power=0.5),
    "worst sources heavier, one round": replace(_PLAIN, rounds=1),
    "inverse source frequency, k = 1": replace(_PLAIN, pooling=1.0),
    "tokens seen in at least two sources": replace(_PLAIN, sources=2),
    "dropped fields": replace(SHIPPED, dropped=True),
    "dropped fields, without further views": replace(_PLAIN, dropped=True),
}
"""Those without further views learn from flows as they were recorded, which takes a ninth of the time."""


class WeightedTokens(TokenLinear):
    """``fast`` with a variant's weights."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learns from tokens, shape (n, views, width), with the source of each flow, shape (n,)."""
        self._source = np.unique(np.asarray(groups), return_inverse=True)[1]
        return super().fit(X, y, groups)

    def _linear(self, learned: TokenBatch) -> Linear:
        variant, source = self.variant, self._source[learned.flow]
        scale = self._scale(learned, source)
        rows = matrix(learned.tokens, learned.vocabulary) @ sparse.diags(scale)
        unit = np.unique(learned.target * (source.max() + 1) + source, return_inverse=True)[1]
        n = [len(np.unique(learned.flow[unit == each])) for each in range(unit.max() + 1)]
        factor = np.array(n, dtype=np.float64)[unit] ** variant.power
        for number in range(variant.rounds + 1):
            weight = learned.weight * factor
            weight = weight / np.bincount(learned.target, weight)[learned.target]
            model = self._fitted(rows, replace(learned, weight=weight * len(weight) / weight.sum()))
            if number < variant.rounds:
                factor = factor * _heavier(model, rows, learned, unit)
        return Linear(model.table * scale[:, None].astype(np.float32), model.bias)

    def _scale(self, learned: TokenBatch, source: NDArray[np.int64]) -> NDArray[np.float64]:
        """What each known token is multiplied by, shape (n_known + 1,)."""
        variant = self.variant
        seen = np.zeros((N_BUCKETS, source.max() + 1), dtype=bool)
        seen[learned.tokens, source[:, None]] = True
        found = np.zeros(learned.n_known + 1)
        known = learned.vocabulary > 0
        found[learned.vocabulary[known]] = seen[known].sum(axis=1)
        return np.where(found >= variant.sources, found / np.maximum(found + variant.pooling, 1), 0)

    def _fitted(self, rows: sparse.csr_matrix, learned: TokenBatch) -> Linear:
        regression = LogisticRegression(C=self.strength, max_iter=300, tol=1e-3)
        with np.errstate(all="ignore"), threadpool_limits(1):
            regression.fit(rows, learned.target, learned.weight)
        return Linear(regression.coef_.T.astype(np.float32), regression.intercept_)


def _heavier(
    model: Linear, rows: sparse.csr_matrix, learned: TokenBatch, unit: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The factor of each row: the loss of its source against the mean of the sources of its class."""
    scores = np.asarray(rows @ model.table + model.bias, dtype=np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    truth = scores[np.arange(len(scores)), learned.target]
    loss = np.log(np.exp(scores).sum(axis=1)) - truth
    mean = np.bincount(unit, loss * learned.weight) / np.bincount(unit, learned.weight)
    of_class = np.zeros(len(mean), dtype=np.int64)
    of_class[unit] = learned.target
    usual = np.bincount(of_class, mean) / np.bincount(of_class)
    factor = np.clip(mean / np.maximum(usual[of_class], 1e-9), 1 / MOST, MOST)
    return np.asarray(factor[unit])
