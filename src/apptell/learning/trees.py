"""A compact table of the nodes of decision trees, and their votes.

scikit-learn keeps a float64 for every class at every node: a hundred trees of a hundred classes on a
million flows would be some 50 GB. Nearly all leaves hold one class or a few, so a leaf here keeps the
classes it has.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.kernels.compiled import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CHUNK = 16_384
"""Rows that one thread votes on at a time."""


@dataclass(frozen=True, slots=True)
class Trees:
    """The n nodes of some trees, one tree behind the other, numbered from 0 in each tree."""

    root: NDArray[np.int64]
    """First node of each tree, and n; shape (trees + 1,)."""
    feature: NDArray[np.int32]
    """Feature that a node looks at; 0 in a leaf; shape (n,)."""
    threshold: NDArray[np.float32]
    """A feature goes left when it is at most this; 0 in a leaf; shape (n,)."""
    left: NDArray[np.int32]
    """Node of the same tree, -1 in a leaf; shape (n,)."""
    right: NDArray[np.int32]
    """Node of the same tree, -1 in a leaf; shape (n,)."""
    first: NDArray[np.int64]
    """First share of each node, and m; a leaf has one or more, another node none; shape (n + 1,)."""
    of_class: NDArray[np.int32]
    """Number of the class a share is of, shape (m,)."""
    share: NDArray[np.float64]
    """What a leaf gives that class; 1 in all over a leaf; shape (m,)."""
    importance: NDArray[np.float64]
    """Share of a tree's information gain that each feature's nodes have, shape (trees, features)."""
    n_classes: int
    depth: int
    """Of the deepest tree."""

    def __len__(self) -> int:
        return len(self.root) - 1

    @staticmethod
    def join(parts: Sequence[Trees]) -> Trees:
        """The trees of all parts, in order."""
        nodes = np.cumsum([0] + [int(part.root[-1]) for part in parts])
        shares = np.cumsum([0] + [int(part.first[-1]) for part in parts])
        pairs = list(zip(parts, nodes, shares, strict=False))

        def joined(name: str) -> Any:
            return np.concatenate([getattr(part, name) for part in parts])

        return Trees(
            np.concatenate([*(part.root[:-1] + node for part, node, _ in pairs), nodes[-1:]]),
            joined("feature"),
            joined("threshold"),
            joined("left"),
            joined("right"),
            np.concatenate([*(part.first[:-1] + share for part, _, share in pairs), shares[-1:]]),
            joined("of_class"),
            joined("share"),
            joined("importance"),
            parts[0].n_classes,
            max(part.depth for part in parts),
        )

    def votes(self, X: NDArray[np.float32], n_threads: int = 1) -> NDArray[np.float64]:
        """The mean of the trees' class shares, shape (rows, n_classes), for features (rows, f)."""
        found = np.zeros((len(X), self.n_classes))
        table = (
            self.root, self.feature, self.threshold, self.left, self.right, self.first,
            self.of_class, self.share,
        )  # fmt: skip

        def work(start: int) -> None:
            vote(X[start : start + _CHUNK], *table, found[start : start + _CHUNK])

        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(work, range(0, len(X), _CHUNK)))
        return found


def compact(tree: Any, classes: NDArray[np.int64], n_classes: int) -> Trees:
    """One tree of scikit-learn, a ``sklearn.tree.Tree``.

    Args:
        tree: a tree of k classes.
        classes: the number of each among all, shape (k,).
        n_classes: how many there are in all.
    """
    leaf = tree.children_left < 0
    values = tree.value[:, 0, :]
    at, of_class = np.nonzero(values * leaf[:, None])
    share = values[at, of_class] / values[at].sum(axis=1)
    first = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=tree.node_count))])
    return Trees(
        np.array([0, tree.node_count], dtype=np.int64),
        np.where(leaf, 0, tree.feature).astype(np.int32),
        np.where(leaf, np.float32(0), _round_down(tree.threshold)),
        tree.children_left.astype(np.int32),
        tree.children_right.astype(np.int32),
        first.astype(np.int64),
        classes[of_class].astype(np.int32),
        share,
        tree.compute_feature_importances(normalize=True)[None],
        n_classes,
        int(tree.max_depth),
    )


def _round_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above each value: it sorts every float32 feature to the same side."""
    near = values.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    return np.where(near > values, below, near)


@kernel
def vote(
    X: NDArray[np.float32],
    root: NDArray[np.int64],
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    first: NDArray[np.int64],
    of_class: NDArray[np.int32],
    share: NDArray[np.float64],
    found: NDArray[np.float64],
) -> None:
    """Writes the mean of the trees' shares into ``found``, shape (rows, classes), zeros before."""
    n_trees = len(root) - 1
    for row in range(X.shape[0]):
        for tree in range(n_trees):
            base = root[tree]
            node = base
            while left[node] >= 0:
                goes_left = X[row, feature[node]] <= threshold[node]
                node = base + (left[node] if goes_left else right[node])
            for at in range(first[node], first[node + 1]):
                found[row, of_class[at]] += share[at]
        for number in range(found.shape[1]):
            found[row, number] /= n_trees
