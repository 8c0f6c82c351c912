"""Observations of flows as arrays, from verdicts or from their records.

A record has the two likeliest apps of a flow and their probabilities. What is left of the probability is spread
over the other apps, so that records of any age can be watched without the model's inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.models.temperature import calibrate
from apptell.verdicts.context import ContextOptions, reweigh_all
from apptell.verdicts.schema import BELOW_THRESHOLD, NEW_STACK, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

TEMPERATURE: Final = 1.5
"""Softens probabilities before flows are weighed by their windows: confident errors would decide them."""
WINDOW: Final = ContextOptions(30.0, both_sides=True)
NEEDED: Final = (
    "best_guess",
    "confidence",
    "runner_up",
    "runner_up_confidence",
    "outcome",
    "p_unknown",
    "stack",
    "capture",
    "client_address",
)
"""Columns of verdicts and records that observations are made of, beside the time."""


@dataclass(frozen=True, slots=True)
class Observations:
    """Observations of n flows that a model decided."""

    guess: NDArray[np.int64]
    """Number of the model's likeliest app, shape (n,)."""
    probabilities: NDArray[np.float32]
    """Shape (n, k)."""
    key: NDArray[Any]
    """The client of each flow, whose flows are weighed together; objects, None for separate flows."""
    time_ns: NDArray[np.int64]
    is_declined: NDArray[np.bool_]
    is_unknown: NDArray[np.bool_]
    p_unknown: NDArray[np.float32]
    """How unusual each flow is; NaN if it was not measured."""
    is_new_stack: NDArray[np.bool_]
    named: NDArray[np.int64]
    """Number of the app that the flow's own name identifies; -1 for none that the model knows, shape (n,)."""

    def __len__(self) -> int:
        return len(self.guess)

    @classmethod
    def none(cls, apps: Sequence[str]) -> Observations:
        """No flows, under a model of these apps."""
        numbers, flags = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
        p = np.zeros((0, len(apps)), dtype=np.float32)
        key = np.zeros(0, dtype=object)
        return cls(numbers, p, key, numbers, flags, flags, p[:, 0], flags, numbers)

    @classmethod
    def of_records(
        cls,
        batches: Iterable[pa.RecordBatch | pa.Table],
        apps: Sequence[str],
        named: Iterable[pa.Array] | None = None,
    ) -> Observations:
        """Reads verdicts or their records; flows without a model's result are skipped.

        Args:
            batches: with the columns of ``apptell.verdicts.SCHEMA`` or of its records.
            apps: of the model.
            named: for each batch, the app that each flow's own name identifies.

        Raises:
            KeyError: a column is missing.
        """
        table = pa.concat_tables([_columns(batch) for batch in batches])
        identified = pa.nulls(len(table), pa.string())
        if named is not None:
            chunks = [chunk for array in named for chunk in _chunks(array)]
            identified = pa.chunked_array(chunks, pa.string())
        known = pa.array(list(apps), pa.string())
        guess = _number(table["best_guess"], known)
        asked = guess >= 0
        first, second = (
            _floats(table[name])[asked] for name in ("confidence", "runner_up_confidence")
        )
        other = _number(table["runner_up"], known)[asked]
        outcome = table["outcome"]
        return cls(
            guess[asked],
            _of_two(guess[asked], first, other, np.nan_to_num(second), len(apps)),
            _keys(table)[asked],
            table["time_ns"].to_numpy()[asked],
            _flags(pc.equal(outcome, BELOW_THRESHOLD))[asked],
            _flags(pc.equal(outcome, UNKNOWN))[asked],
            _floats(table["p_unknown"])[asked],
            _flags(pc.equal(table["stack"], NEW_STACK))[asked],
            _number(identified, known)[asked],
        )

    @classmethod
    def of_probabilities(
        cls,
        probabilities: NDArray[np.float32],
        key: NDArray[Any],
        time_ns: NDArray[np.int64],
        *,
        threshold: float,
        p_unknown: NDArray[np.float32],
        cutoff: float,
    ) -> Observations:
        """The observations that records of these verdicts would give.

        Args:
            probabilities: shape (n, k).
            key: the client of each flow, objects, shape (n,).
            time_ns: of each flow, shape (n,).
            threshold: smallest accepted confidence.
            p_unknown: how unusual each flow is, shape (n,).
            cutoff: smallest ``p_unknown`` that is called unknown.
        """
        order = np.argsort(probabilities, axis=1)
        guess, other = order[:, -1], order[:, -2]
        rows = np.arange(len(guess))
        first, second = probabilities[rows, guess], probabilities[rows, other]
        is_unknown = p_unknown >= np.float32(cutoff)
        return cls(
            guess,
            _of_two(guess, first, other, second, probabilities.shape[1]),
            key,
            time_ns,
            (first < threshold) & ~is_unknown,
            is_unknown,
            p_unknown,
            np.zeros(len(guess), dtype=bool),
            np.full(len(guess), -1, dtype=np.int64),
        )

    def window_verdicts(self, prior: NDArray[np.float64]) -> NDArray[np.int64]:
        """The likeliest app of each flow by the other flows of its client, softened first, shape (n,)."""
        if not len(self):
            return self.guess
        softened = calibrate(self.probabilities, TEMPERATURE, 1e-5)
        found, _ = reweigh_all(self.key.tolist(), self.time_ns, softened, prior, WINDOW)
        return np.asarray(found.argmax(axis=1), dtype=np.int64)


def _of_two(
    guess: NDArray[np.int64],
    first: NDArray[np.float32],
    other: NDArray[np.int64],
    second: NDArray[np.float32],
    k: int,
) -> NDArray[np.float32]:
    """Probabilities of k apps from the two likeliest; what is left is spread over the others."""
    rest = np.maximum(1 - first - second, 0) / max(k - 2, 1)
    p = np.repeat(rest[:, None], k, axis=1).astype(np.float32)
    rows = np.arange(len(p))
    p[rows[other >= 0], other[other >= 0]] = second[other >= 0]
    p[rows, guess] = first
    return np.asarray(p / p.sum(axis=1, keepdims=True), dtype=np.float32)


def _columns(batch: pa.RecordBatch | pa.Table) -> pa.Table:
    """The columns that are needed, under the same names in verdicts and records."""
    table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    names = set(table.column_names)
    if missing := sorted(set(NEEDED) - names):
        raise KeyError(missing[0])
    time = (
        table["start_ns"] if "start_ns" in names else table["time"].cast(pa.timestamp("ns", "UTC"))
    )
    columns: dict[str, Any] = {}
    for name in NEEDED:
        kind = pa.float64() if name.endswith("confidence") or name == "p_unknown" else pa.string()
        columns[name] = table[name].cast(kind)
    return pa.table({**columns, "time_ns": time.cast(pa.int64())})


def _chunks(array: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return list(array.chunks) if isinstance(array, pa.ChunkedArray) else [array]


def _number(texts: Any, known: pa.Array) -> NDArray[np.int64]:
    """The place of each text in ``known``; -1 for none."""
    place = pc.fill_null(pc.index_in(texts, known), -1)
    return np.asarray(place.to_numpy(), dtype=np.int64)


def _floats(values: Any) -> NDArray[np.float32]:
    return np.asarray(values.to_numpy(), dtype=np.float32)


def _flags(values: Any) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(values, False).to_numpy(), dtype=bool)


def _keys(table: pa.Table) -> NDArray[Any]:
    both = zip(table["capture"].to_pylist(), table["client_address"].to_pylist(), strict=True)
    found = np.empty(len(table), dtype=object)
    for number, (capture, client) in enumerate(both):
        found[number] = None if client is None else (capture, client)
    return found
