"""Explains forests: how the trees' votes change along the way that a flow takes through each tree.

At each node, a tree expects a share of votes for each app. A step to a child changes it, and the change is
credited to the feature that the node asks. The changes along all ways, and what the roots expect, add up to the
votes. A model's file does not say how many training flows reached a node: a node expects the mean of what its
two children expect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.errors import ModelError
from apptell.reasons.explanation import PATHS, VOTES, Contribution
from apptell.reasons.occlusion import feature_words
from apptell.reasons.score import Reasoned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.models import Model
    from apptell.reasons.score import Pair

_NUMBERS = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids",
    "nodes_values", "target_treeids", "target_nodeids", "target_ids", "target_weights",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TreePaths:
    """The trees of a forest: nodes of all trees in one list, parents before their children."""

    feature: NDArray[np.int64]
    """Feature that a node asks, -1 at a leaf, shape (nodes,)."""
    limit: NDArray[np.float32]
    """Up to this value the way goes left, shape (nodes,)."""
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    """Nodes, shape (nodes,)."""
    expected: NDArray[np.float64]
    """Votes that a node expects for each app, as part of the forest's, shape (nodes, apps)."""
    roots: NDArray[np.int64]
    """First node of each tree."""

    @classmethod
    def of(cls, model: Model) -> TreePaths | None:
        """The trees of a model; None where it has other operators, or trees of another form."""
        try:
            operator = model.read_weights().find("TreeEnsembleRegressor")
        except ModelError:
            return None
        if operator is None or operator.inputs != ("inputs",):
            return None
        values = operator.attributes
        if {"base_values", "aggregate_function", "post_transform"} & set(values):
            return None
        modes = values.get("nodes_modes")
        if not isinstance(modes, list) or not set(modes) <= {b"LEAF", b"BRANCH_LEQ"}:
            return None
        columns = [np.asarray(values.get(name, ())) for name in _NUMBERS]
        try:
            return cls._built(np.array([mode == b"LEAF" for mode in modes]), columns, model)
        except (IndexError, KeyError, ValueError):
            return None  # trees that do not fit together

    @classmethod
    def _built(
        cls, is_leaf: NDArray[np.bool_], columns: list[NDArray[Any]], model: Model
    ) -> TreePaths:
        tree, node, feature, yes, no, limit, of_tree, of_node, app, weight = columns
        if not (len(is_leaf) == len(tree) == len(node) == len(yes) == len(no) == len(limit)):
            raise ValueError("columns of different length")
        place = {key: at for at, key in enumerate(zip(tree.tolist(), node.tolist(), strict=True))}
        left, right = (
            np.array(
                [
                    -1 if leaf else place[(of, node_id)]
                    for leaf, of, node_id in zip(is_leaf, tree.tolist(), to.tolist(), strict=True)
                ],
                dtype=np.int64,
            )
            for to in (yes, no)
        )
        inner = np.flatnonzero(~is_leaf)
        if (left[inner] <= inner).any() or (right[inner] <= inner).any():
            raise ValueError("a child stands before its parent")
        expected = np.zeros((len(tree), len(model.apps)))
        at = np.array(
            [place[key] for key in zip(of_tree.tolist(), of_node.tolist(), strict=True)],
            dtype=np.int64,
        )
        np.add.at(expected, (at, app.astype(np.int64)), weight.astype(np.float64))
        for parent in inner[::-1].tolist():
            expected[parent] = (expected[left[parent]] + expected[right[parent]]) / 2
        roots = np.flatnonzero(~np.isin(np.arange(len(tree)), np.concatenate([left, right])))
        return cls(
            np.where(is_leaf, -1, feature.astype(np.int64)),
            limit.astype(np.float32),
            left,
            right,
            expected,
            roots,
        )

    def reason(self, x: NDArray[np.float32], pair: Pair, model: Model) -> Reasoned:
        """The contributions of a flow's features to the votes, app less runner-up.

        Args:
            x: the input of one flow, shape (features,).
            pair: the two apps.
            model: whose trees these are.
        """
        margin = self.expected[:, pair.app] - self.expected[:, pair.runner_up]
        base = float(margin[self.roots].sum())
        gained = np.zeros(len(x))
        at = self.roots
        while len(at):
            at = at[self.feature[at] >= 0]
            asked = self.feature[at]
            goes_left = x[asked] <= self.limit[at]
            to = np.where(goes_left, self.left[at], self.right[at])
            np.add.at(gained, asked, margin[to] - margin[at])
            at = to
        words = feature_words(x, model)
        kind = str(model.info["inputs"])
        found = [
            Contribution(float(gained[at]), kind, words[at])
            for at in np.flatnonzero(gained).tolist()
        ]
        return Reasoned(PATHS, VOTES, base + float(gained.sum()), base, found)
