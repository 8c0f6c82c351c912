"""Reads the sum that a linear model on tokens computes, term by term, from the model's own file.

What is found is checked against the model's own probabilities for the flow. A model that only looks like one of
ours is explained by occlusion, as any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.encoding.name_keys import N_KEY_WORDS
from apptell.encoding.structure import N_TOKENS
from apptell.encoding.tokens import N_BUCKETS
from apptell.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.models import Model

_NEEDED: Final = ("vocabulary", "table", "linear_bias")
_NAMES: Final = ("name_slots", "name_check", "name_apps", "name_weight")
_TOLERANCE: Final = 1e-3
"""By how much probabilities may differ by rounding."""
_MOST_DIGITS: Final = 9
_HOST, _DOMAIN = 0, 2


@dataclass(frozen=True, slots=True)
class TokenWeights:
    """The weights of a linear model on tokens, with the lookup of server names where it has one."""

    vocabulary: NDArray[np.int32]
    """Number of each token, 0 for one that is not known, shape (65,536,)."""
    table: NDArray[np.float64]
    """Weight of each known token for each app, row 0 zero, shape (known + 1, apps)."""
    bias: NDArray[np.float64]
    """Shape (apps,)."""
    names: tuple[NDArray[np.int64], ...] | None
    """Slots and check words of the lookup; None without it."""
    name_apps: NDArray[np.float64]
    """Share of each app by row of the lookup, shape (rows, apps); empty without it."""
    name_weight: NDArray[np.float64]
    """Reliability of each row, shape (rows,)."""
    name_sources: NDArray[np.int64] | None
    """Sources of the training data that showed the name of each row, shape (rows,); None where not kept."""

    @classmethod
    def of(cls, model: Model) -> TokenWeights | None:
        """The weights of a model; None where it is no linear token model of the form that apptell writes."""
        if model.info["inputs"] != "structure":
            return None
        try:
            weights = model.read_weights()
        except ModelError:
            return None
        tensors = weights.tensors
        if not set(_NEEDED) <= set(tensors) or "dense_weight" in tensors:
            return None
        vocabulary, table, bias = (tensors[name] for name in _NEEDED)
        n_apps = len(model.apps)
        fits = (
            vocabulary.shape == (N_BUCKETS,)
            and table.ndim == 2
            and table.shape[1] == n_apps
            and bias.shape == (n_apps,)
            and vocabulary.min() >= 0
            and vocabulary.max() < len(table)
        )
        if not fits:
            return None
        names, apps, weight = None, np.zeros((0, n_apps)), np.zeros(0)
        if set(_NAMES) <= set(tensors):
            slots, check, apps, weight = (tensors[name] for name in _NAMES)
            weight = weight.reshape(-1)
            if not (
                slots.shape == (N_BUCKETS,)
                and apps.shape == (len(check), n_apps)
                and len(weight) == len(check)
                and slots.min() >= 0
                and slots.max() < len(check)
            ):
                return None
            names = (slots.astype(np.int64), check.astype(np.int64))
        return cls(
            vocabulary.astype(np.int32),
            table.astype(np.float64),
            bias.astype(np.float64),
            names,
            apps.astype(np.float64),
            weight.astype(np.float64),
            sources_of_names(weights.properties.get("name_sources", ""), len(apps)),
        )

    def terms(self, row: NDArray[np.uint16]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The known tokens of a flow, shape (m,), and what each adds to each app's score, shape (m, apps)."""
        tokens = row[:N_TOKENS]
        numbers = self.vocabulary[tokens]
        known = np.flatnonzero(numbers)
        root = np.sqrt(max(len(known), 1))
        return tokens[known].astype(np.int64), self.table[numbers[known]] / root

    def name_row(self, row: NDArray[np.uint16]) -> tuple[int, bool]:
        """The row of the lookup that a flow's server name finds, 0 for none, and whether by the whole host."""
        if self.names is None or len(row) < N_TOKENS + N_KEY_WORDS:
            return 0, False
        slots, check = self.names
        keys = row[N_TOKENS:].astype(np.int64)
        for kind in (_HOST, _DOMAIN):
            at = int(slots[keys[kind]])
            if at and check[at] == keys[kind + 1]:
                return at, kind == _HOST
        return 0, False

    def log_probabilities(self, row: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Of each app without the lookup, shape (apps,)."""
        scores = self.bias + self.terms(row)[1].sum(axis=0)
        scores -= scores.max()
        return np.asarray(scores - np.log(np.exp(scores).sum()))

    def mixed(self, row: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Logarithms of the probabilities with the lookup's answer mixed in, shape (apps,)."""
        logs = self.log_probabilities(row)
        at, _ = self.name_row(row)
        if at == 0:
            return logs
        weight = self.name_weight[at]
        with np.errstate(divide="ignore"):
            mixed = weight * self.name_apps[at] + (1 - weight) * np.exp(logs)
            return np.asarray(np.where(mixed > 0, np.log(mixed), logs + np.log1p(-weight)))

    def fits(self, row: NDArray[np.uint16], probabilities: NDArray[np.float32], t: float) -> bool:
        """Whether these weights give a model's probabilities for a flow, at the temperature ``t``."""
        logs = self.mixed(row) / t
        powers = np.exp(logs - logs.max())
        return bool(np.abs(powers / powers.sum() - probabilities).max() < _TOLERANCE)


def sources_of_names(text: str, n_rows: int) -> NDArray[np.int64] | None:
    """Numbers of sources, one for each row of a lookup; None for anything else."""
    words = text.split(" ", n_rows)
    if len(words) != n_rows or not all(
        word.isascii() and word.isdigit() and len(word) <= _MOST_DIGITS for word in words
    ):
        return None
    return np.array([int(word) for word in words], dtype=np.int64)
