"""Computes the similarity of flows to the nearest of some reference flows, by their tokens.

The similarity is the cosine of TF-IDF weights. A token occurs at most once in a flow, so its term frequency is
1. Tokens that no reference flow has take the largest weight: they make a flow less similar to all of them.
Tokens that many reference flows have are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.encoding.tokens import N_BUCKETS
from apptell.kernels.compiled import kernel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MOST_REFERENCES: Final = 1024
"""Maximum number of reference flows: identification compares each flow with all of them."""
_COMMON: Final = 0.1
"""Tokens that a larger share of the reference flows has are left out: they cost most and carry the least
information.
"""
_FEW: Final = 256
"""Reference flows up to which no token is left out."""


@dataclass(frozen=True, slots=True)
class NearestTokens:
    """Reference flows as an inverted index, by token."""

    weight: NDArray[np.float32]
    """Inverse document frequency of each token, shape (N_BUCKETS,)."""
    first: NDArray[np.int64]
    """First entry of each token, shape (N_BUCKETS + 1,)."""
    row: NDArray[np.uint16]
    """Reference flow of each entry, shape (m,)."""
    value: NDArray[np.float32]
    """Weight of the token in that flow, whose weights have the length 1; shape (m,)."""
    n_references: int

    @classmethod
    def of(cls, tokens: NDArray[np.uint16]) -> NearestTokens:
        """The index of some reference flows.

        Args:
            tokens: shape (r, width), r at most 65,535; 0 behind the last token of a flow.
        """
        flow, at = np.nonzero(tokens)
        token = tokens[flow, at].astype(np.int64)
        n = len(tokens)
        frequency = np.bincount(token, minlength=N_BUCKETS)
        weight = np.log((1 + n) / (1 + frequency)).astype(np.float32)
        if n > _FEW:
            weight[frequency > _COMMON * n] = 0
            kept = weight[token] > 0
            flow, token = flow[kept], token[kept]
            frequency = np.bincount(token, minlength=N_BUCKETS)
        own = weight[token].astype(np.float64)
        length = np.sqrt(np.bincount(flow, own**2, minlength=n))
        order = np.argsort(token, kind="stable")
        first = np.concatenate([[0], np.cumsum(frequency)]).astype(np.int64)
        value = (own / np.maximum(length[flow], 1e-9)).astype(np.float32)
        return cls(weight, first, flow[order].astype(np.uint16), value[order], n)

    def similarity(self, tokens: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Of each flow to the nearest reference flow, 0 to 1, shape (n,)."""
        found = np.zeros(len(tokens), dtype=np.float32)
        find_nearest(
            np.ascontiguousarray(tokens),
            self.weight,
            self.first,
            self.row,
            self.value,
            self.n_references,
            found,
        )
        return found

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Compact arrays for a file."""
        known = np.flatnonzero(np.diff(self.first))
        common = np.flatnonzero(self.weight == 0)
        return {
            "nearest_common": common.astype(np.uint16),
            "nearest_token": known.astype(np.uint16),
            "nearest_count": np.diff(self.first)[known].astype(np.uint16),
            "nearest_row": self.row,
            "nearest_value": self.value,
            "nearest_references": np.array([self.n_references], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> NearestTokens:
        """Restores an index from ``to_arrays``.

        Raises:
            ValueError: the arrays do not fit together.
            KeyError: one is missing.
        """
        token, count = arrays["nearest_token"], arrays["nearest_count"]
        common = arrays["nearest_common"]
        row, value = arrays["nearest_row"], arrays["nearest_value"]
        n = int(arrays["nearest_references"][0])
        whole = (token, count, common, row)
        fits = all(array.dtype == np.uint16 for array in whole) and value.dtype == np.float32
        fits = fits and all(array.ndim == 1 for array in (*whole, value))
        fits = fits and len(token) == len(count) and len(row) == len(value) == count.sum()
        if not (fits and 0 < n <= 65_535 and (row < n).all() and np.isfinite(value).all()):
            raise ValueError("the reference flows do not fit together")
        if (np.diff(token.astype(np.int64)) <= 0).any():
            raise ValueError("the tokens are not sorted")
        frequency = np.zeros(N_BUCKETS, dtype=np.int64)
        frequency[token] = count
        weight = np.log((1 + n) / (1 + frequency)).astype(np.float32)
        weight[common] = 0
        first = np.concatenate([[0], np.cumsum(frequency)]).astype(np.int64)
        return cls(weight, first, np.ascontiguousarray(row), np.ascontiguousarray(value), n)


@kernel
def find_nearest(
    tokens: NDArray[np.uint16],
    weight: NDArray[np.float32],
    first: NDArray[np.int64],
    row: NDArray[np.uint16],
    value: NDArray[np.float32],
    n_references: int,
    found: NDArray[np.float32],
) -> None:
    """Writes the largest cosine of each flow with any reference flow into ``found``, shape (n,)."""
    total = np.zeros(n_references, dtype=np.float32)
    for flow in range(tokens.shape[0]):
        total[:] = 0
        squares = 0.0
        for at in range(tokens.shape[1]):
            token = np.int64(tokens[flow, at])
            if token == 0:
                break
            own = weight[token]
            if own == 0:
                continue
            squares += own * own
            for entry in range(first[token], first[token + 1]):
                total[row[entry]] += own * value[entry]
        if squares > 0:
            found[flow] = total.max() / np.sqrt(squares)
