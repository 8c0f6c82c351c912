"""Learns which apps a server name indicates, and how reliable each kind of name is.

A linear model or a network drowns the few tokens of a server name among a hundred others. The lookup keeps
names apart: it remembers in which share of the sources (networks, people) a host or a registered domain
belonged to each app, and measures on sources left out how often that answer was right. Where a flow shows a
known name, the lookup's answer is mixed into the other model's, weighted by that reliability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from apptell.encoding.name_keys import N_KEY_WORDS
from apptell.learning.catalogue_names import catalogue_names

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from apptell.learning.catalogue_names import CatalogueNames

HOST, DOMAIN = 0, 2
"""Where a flow's keys hold the words of its host and of its domain."""
N_SLOTS: Final = 1 << 16
"""Values of the high word of a key."""
_FOLDS: Final = 5
_PURE: Final = 0.95
"""Share of one app from which a name counts as belonging to it alone."""
_SOURCES: Final = (1, 2, 4)
"""Lower ends of the classes by number of sources that a name was seen in."""


class NameTable(NamedTuple):
    """Names by the words of their keys; row 0 stands for a name that is not known."""

    slots: NDArray[np.int32]
    """Row of the name whose key has this high word, 0 for none, shape (65,536,)."""
    check: NDArray[np.int32]
    """Low word of each row's key; -1 in row 0, shape (rows,)."""
    apps: NDArray[np.float32]
    """Share of the sources in which the name belonged to each app, shape (rows, apps)."""
    weight: NDArray[np.float32]
    """Reliability of the row, 0 to 1; 0 in row 0, shape (rows,)."""
    sources: NDArray[np.int32]
    """Sources that showed the name, shape (rows,): 0 for row 0 and names that only the catalogue has."""

    def rows_of(self, keys: NDArray[np.uint16]) -> NDArray[np.int64]:
        """The row for each flow: its host's, otherwise its domain's, otherwise 0; shape (n,)."""
        hosts, domains = self.find(keys, HOST), self.find(keys, DOMAIN)
        return np.where(hosts > 0, hosts, domains)

    def mixed_into(
        self, probabilities: NDArray[Any], keys: NDArray[np.uint16]
    ) -> NDArray[np.float64]:
        """The probabilities of another model, shape (n, apps), with the lookup's answer mixed in."""
        rows = self.rows_of(keys)
        weight = self.weight[rows][:, None].astype(np.float64)
        return np.asarray(weight * self.apps[rows] + (1 - weight) * probabilities)

    def find(self, keys: NDArray[np.uint16], kind: int) -> NDArray[np.int64]:
        """The row of each flow's HOST or DOMAIN, 0 where it is not known; shape (n,)."""
        high, low = keys[:, kind], keys[:, kind + 1]
        rows = self.slots[high].astype(np.int64)
        return np.where((self.check[rows] == low) & ((high > 0) | (low > 0)), rows, 0)


def learn_names(
    keys: NDArray[np.uint16],
    target: NDArray[np.int64],
    groups: ArrayLike | None,
    n_apps: int,
    seed: int,
    catalogue: CatalogueNames | None = None,
) -> NameTable:
    """Learns the names of labelled flows and their reliability.

    Args:
        keys: of each flow, as ``name_keys`` gives them, shape (n, 4).
        target: number of each flow's app, shape (n,).
        groups: the source of each flow, shape (n,); None takes every flow as its own source.
        n_apps: apps that there are.
        seed: of the folds by which reliability is measured.
        catalogue: names to look up as well where the flows show none of them. Their reliability is measured in
            the same way.
    """
    group = (
        np.arange(len(keys))
        if groups is None
        else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    table, kinds = _count(keys, target, group, n_apps, catalogue)
    right, asked = np.zeros(_N_KINDS), np.zeros(_N_KINDS)
    n_groups = int(group.max(initial=-1)) + 1
    fold = np.random.default_rng(seed).permutation(n_groups) % min(_FOLDS, max(n_groups, 1))
    for number in range(int(fold.max(initial=-1)) + 1):
        held = fold[group] == number
        if held.all() or not held.any():
            continue
        other, other_kinds = _count(keys[~held], target[~held], group[~held], n_apps, catalogue)
        for kind in (HOST, DOMAIN):
            rows = other.find(keys[held], kind)
            # Each source has the same weight, whatever the number of its flows.
            size = np.bincount(group[held], rows > 0, minlength=n_groups)[group[held]]
            share = np.where(rows > 0, 1 / np.maximum(size, 1), 0.0)
            hit = other.apps[rows, target[held]]
            asked += np.bincount(other_kinds[rows], share, minlength=_N_KINDS)
            right += np.bincount(other_kinds[rows], share * hit, minlength=_N_KINDS)
    reliability = (right + 1) / (asked + 2)
    weight = reliability[kinds].astype(np.float32)
    weight[0] = 0
    return table._replace(weight=weight)


_OF_CATALOGUE: Final = 2 * 2 * len(_SOURCES)
"""The kind of a host that only the catalogue has; the next one is that of a domain."""
_N_KINDS: Final = _OF_CATALOGUE + 2


def _count(
    keys: NDArray[np.uint16],
    target: NDArray[np.int64],
    group: NDArray[np.int64],
    n_apps: int,
    catalogue: CatalogueNames | None = None,
) -> tuple[NameTable, NDArray[np.int64]]:
    """The names with their shares, weights not yet known, and the kind of each row.

    The kind tells host from domain, names of one app from names of several, and by number of sources.
    """
    key = keys.astype(np.int64) @ np.array(
        [[1 << 16, 0], [1, 0], [0, 1 << 16], [0, 1]], dtype=np.int64
    )  # (n, 2)
    flow = np.repeat(np.arange(len(keys)), 2)
    is_domain = np.tile([0, 1], len(keys))
    key = key.ravel()
    flow, is_domain, key = (array[key > 0] for array in (flow, is_domain, key))
    names, name = np.unique(key, return_inverse=True)
    pairs, pair = np.unique(np.stack([name, group[flow]]), axis=1, return_inverse=True)
    counts = np.zeros((pairs.shape[1], n_apps))
    np.add.at(counts, (pair.ravel(), target[flow]), 1)
    counts /= np.maximum(counts.sum(axis=1, keepdims=True), 1)
    apps = np.zeros((len(names), n_apps))
    np.add.at(apps, pairs[0], counts)
    sources = apps.sum(axis=1)
    apps /= np.maximum(sources[:, None], 1)
    of_domain = np.zeros(len(names), dtype=np.int64)
    of_domain[name] = is_domain
    kind = (
        of_domain * 2 * len(_SOURCES)
        + (apps.max(axis=1, initial=0) >= _PURE) * len(_SOURCES)
        + np.searchsorted(_SOURCES, np.round(sources), side="right")
        - 1
    ).clip(0)
    if catalogue is not None:
        new = ~np.isin(catalogue.keys, names)
        names = np.append(names, catalogue.keys[new])
        apps = np.vstack([apps, np.eye(n_apps)[catalogue.app[new]]])
        sources = np.append(sources, np.zeros(new.sum()))
        kind = np.append(kind, _OF_CATALOGUE + catalogue.is_domain[new])
    # Two names whose keys share the high word: the one seen in more sources is kept.
    order = np.argsort(sources, kind="stable")
    slots = np.zeros(N_SLOTS, dtype=np.int32)
    slots[names[order] >> 16] = order + 1
    table = NameTable(
        slots,
        np.concatenate([[-1], names & 0xFFFF]).astype(np.int32),
        np.vstack([np.zeros((1, n_apps)), apps]).astype(np.float32),
        np.zeros(len(names) + 1, dtype=np.float32),
        np.concatenate([[0], np.round(sources)]).astype(np.int32),
    )
    return table, np.concatenate([[0], kind])


class NameLookup(ClassifierMixin, BaseEstimator):
    """Only the lookup, for comparisons: without a known name it gives the shares of the classes.

    Parameters:
        random_state: seed of the folds by which reliability is measured.
        catalogue: 1 to look up the catalogue's names of the classes as well.

    Attributes:
        classes_: the classes, sorted.
        names_: the learned names.
        shares_: the answer without a known name: the share of each class among the flows.
    """

    def __init__(self, *, random_state: int = 0, catalogue: int = 0) -> None:
        self.random_state = random_state
        self.catalogue = catalogue

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learns.

        Args:
            X: keys of ``apptell.encoding.name_keys``, uint16, shape (n, 4).
            y: classes, shape (n,).
            groups: the source of each flow, shape (n,).
        """
        X, y = np.asarray(X, dtype=np.uint16), np.asarray(y)
        check_classification_targets(y)
        self.classes_, target = np.unique(y, return_inverse=True)
        self.shares_ = (np.bincount(target) / len(target)).astype(np.float32)
        self.names_ = learn_names(
            X, target, groups, len(self.classes_), self.random_state,
            catalogue_names(self.classes_.tolist()) if self.catalogue else None,
        )  # fmt: skip
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Probabilities of the classes, shape (n, classes), columns as in ``classes_``."""
        check_is_fitted(self)
        keys = np.asarray(X, dtype=np.uint16)
        return self.names_.mixed_into(np.tile(self.shares_, (len(keys), 1)), keys).astype(
            np.float32
        )

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class, shape (n,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def to_onnx(self) -> bytes:
        """The model as ONNX; its probabilities are in the order of ``classes_``."""
        from apptell.learning.export_tokens import lookup_to_onnx

        check_is_fitted(self)
        return lookup_to_onnx(self.names_, self.shares_)


def split_keys(
    X: NDArray[np.uint16], n_tokens: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Tokens and name keys, the last axis of X cut in two; keys of zeros where X has none."""
    if X.shape[-1] == n_tokens + N_KEY_WORDS:
        return X[..., :n_tokens], X[..., n_tokens:]
    return X, np.zeros((*X.shape[:-1], N_KEY_WORDS), dtype=np.uint16)
