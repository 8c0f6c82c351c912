"""Prepares tokens of labelled flows for training: a vocabulary and weights.

A flow may have several *views*: whole, begun in mid-session, cut after two packets. The first view is the
    flow as it was recorded; the others imitate how other captures would have shown it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.encoding.tokens import N_BUCKETS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from scipy import sparse

MIN_ROWS: Final = 2
"""Views in which a token must occur to be known."""
VIEWS_WEIGHT: Final = 0.5
"""Weight of all further views of a flow together; the first has 1."""
MAX_WEIGHTS: Final = 1_000_000
"""Maximum of tokens times classes; with more tokens, the most frequent ones are used."""
MAX_ROWS: Final = 200_000
"""Maximum number of training views, unless there are more flows."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """The training data: views of flows, each with its target and its weight."""

    tokens: NDArray[np.uint16]
    """Shape (m, width), 0 behind the last token; no row is empty."""
    target: NDArray[np.int64]
    """Number of the class, shape (m,)."""
    weight: NDArray[np.float64]
    """Each class has the same sum, and within it each group; mean 1, shape (m,)."""
    vocabulary: NDArray[np.int32]
    """The number of each token, from 1; 0 for one that is not known, shape (65,536,)."""
    n_flows: int
    """Flows that these are views of."""
    flow: NDArray[np.int64]
    """Number of the flow that each row is a view of, below ``n_flows``, shape (m,)."""

    @property
    def n_known(self) -> int:
        """Tokens that are known."""
        return int(self.vocabulary.max())


def make_token_batch(
    X: NDArray[np.uint16], target: NDArray[np.int64], groups: ArrayLike | None, seed: int
) -> TokenBatch:
    """Prepares views for learning.

    A network that sends many flows must not outweigh the others, because the model must work on networks that
    it never saw. Therefore a class's weight is divided among its groups, and a group's among its flows.

    Args:
        X: tokens, shape (n, width) or (n, views, width).
        target: class of each flow, shape (n,).
        groups: where each flow came from, shape (n,); None makes every flow its own.
        seed: of the choice of views, where there are too many for all.
    """
    views = X[:, None] if X.ndim == 2 else X
    n, n_views = views.shape[:2]
    group = (
        np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    shares = _shares(target, group)
    wanted = min(n_views - 1, max(1, MAX_ROWS // max(n, 1)))
    random = np.random.default_rng(seed)
    flow, view = [np.arange(n)], [np.zeros(n, dtype=np.int64)]
    if n_views > 1:
        order = random.permuted(np.tile(np.arange(1, n_views), (n, 1)), axis=1)[:, :wanted]
        flow.append(np.repeat(np.arange(n), wanted))
        view.append(order.ravel())
    rows, which = np.concatenate(flow), np.concatenate(view)
    weight = shares[rows] * np.where(which == 0, 1.0, VIEWS_WEIGHT / max(wanted, 1))
    tokens = views[rows, which]
    there = tokens[:, 0] > 0
    tokens, rows, weight = tokens[there], rows[there], weight[there]
    learned = target[rows]
    weight /= np.bincount(learned, weight)[learned]
    counts = np.bincount(tokens.ravel(), minlength=N_BUCKETS)
    counts[0] = 0
    room = MAX_WEIGHTS // int(target.max() + 1)
    known = np.flatnonzero(counts >= max(MIN_ROWS, _least_of_the_most(counts, room)))
    vocabulary = np.zeros(N_BUCKETS, dtype=np.int32)
    vocabulary[known] = np.arange(1, len(known) + 1)
    return TokenBatch(tokens, learned, weight * len(weight) / weight.sum(), vocabulary, n, rows)


def matrix(tokens: NDArray[np.uint16], vocabulary: NDArray[np.int32]) -> sparse.csr_matrix:
    """Rows of known tokens, each of length 1: shape (n, n_known + 1), column 0 empty."""
    from scipy import sparse

    numbers = vocabulary[tokens]
    row, column = np.nonzero(numbers)
    count = np.bincount(row, minlength=len(tokens))
    value = (1.0 / np.sqrt(np.maximum(count, 1)))[row].astype(np.float32)
    shape = (len(tokens), int(vocabulary.max()) + 1)
    return sparse.csr_matrix((value, (row, numbers[row, column])), shape=shape)


def first_view(X: NDArray[Any]) -> NDArray[Any]:
    """The first view of each flow, shape (n, width)."""
    return X if X.ndim == 2 else X[:, 0]


def _least_of_the_most(counts: NDArray[np.int64], room: int) -> int:
    """The least count that at most ``room`` tokens reach."""
    if room >= len(counts):
        return 0
    return int(np.partition(counts, len(counts) - room - 1)[len(counts) - room - 1]) + 1


def _shares(target: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weight of each flow: one for each pair of class and group, shared by its flows."""
    pair = np.unique(target * (group.max() + 1) + group, return_inverse=True)[1]
    return np.asarray(1.0 / np.bincount(pair)[pair])
