"""Selects flows of a dataset: small columns in memory, payload in batches.

A million flows with their payload are some 9 GB, their other columns a tenth of it. Training and measuring
need payload only to make inputs of it, which is done batch by batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from apptell.dataset.store import DEFAULT_GROUPS, Dataset
from apptell.flows.schema import FlowBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_SMALL: Final = ("core", "names", "labels")
_BATCH_FLOWS: Final = 1024
_NONE: Final = FlowBatch.from_columns({}, n_flows=0)


class StoredFlows(Protocol):
    """Flows that can be read repeatedly; a ``Dataset`` is one."""

    def batches(
        self,
        groups: Sequence[str],
        batch_flows: int,
        rows: NDArray[np.int64] | None,
    ) -> Iterator[FlowBatch]:
        """The flows of these ascending numbers, as ``Dataset.batches`` gives them."""


class Selection:
    """Some flows, in the order of their source.

    Example:
        >>> learned, tested = apptell.Dataset.open("dataset/").split("source")
        >>> len(learned), len(tested)
        (32, 8)
    """

    def __init__(self, source: StoredFlows, flows: FlowBatch, rows: NDArray[np.int64]) -> None:
        """``Selection.of`` makes one of all flows.

        Args:
            source: where the flows are.
            flows: the chosen ones with the columns core, names and labels.
            rows: their numbers in the source, ascending, shape (n,).
        """
        self._source = source
        self._rows = rows
        self.flows = flows
        """The columns core, names and labels of each flow; all columns when they came from memory."""

    @classmethod
    def of(cls, source: Dataset | FlowBatch | Selection) -> Selection:
        """All flows of a dataset, of a batch, or of another selection.

        Raises:
            DatasetError: a shard is damaged.
        """
        if isinstance(source, Selection):
            return source
        if isinstance(source, FlowBatch):
            return cls(_Memory(source), source, np.arange(len(source)))
        flows = FlowBatch.concat(list(source.batches(_SMALL, 65_536)))
        return cls(source, flows, np.arange(len(flows)))

    @classmethod
    def join(cls, parts: Sequence[Selection]) -> Selection:
        """Joins the flows of several selections, in order."""
        flows = FlowBatch.concat([part.flows for part in parts])
        return cls(_Chain(parts), flows, np.arange(len(flows)))

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<Selection of {len(self):,} flows>"

    def filter(self, keep: NDArray[np.bool_]) -> Selection:
        """The flows where ``keep``, shape (n,), is true."""
        if keep.all():
            return self
        return Selection(self._source, self.flows.filter(keep), self._rows[keep])

    def take(self, rows: NDArray[np.int64]) -> Selection:
        """Some flows, by ascending numbers in this selection."""
        return Selection(self._source, self.flows.take(rows), self._rows[rows])

    def batches(self, groups: Sequence[str] = DEFAULT_GROUPS) -> Iterator[FlowBatch]:
        """The flows with these column groups, in order, in bounded memory.

        Raises:
            DatasetError: a shard is damaged, or a group does not exist.
        """
        return self._source.batches(groups, _BATCH_FLOWS, self._rows)

    def gather(
        self,
        work: Callable[[FlowBatch], NDArray[Any]],
        groups: Sequence[str] = DEFAULT_GROUPS,
    ) -> NDArray[Any]:
        """Applies ``work`` to each batch, giving shape (flows, ...); returns one array of shape (n, ...).

        Raises:
            DatasetError: a shard is damaged, or a group does not exist.
        """
        found: NDArray[Any] | None = None
        at = 0
        for batch in self.batches(groups):
            part = work(batch)
            if found is None:
                found = np.empty((len(self), *part.shape[1:]), dtype=part.dtype)
            found[at : at + len(part)] = part
            at += len(part)
        return work(_NONE) if found is None else found

    def read(
        self, rows: Sequence[int] | NDArray[np.int64], groups: Sequence[str] = DEFAULT_GROUPS
    ) -> FlowBatch:
        """A few flows with these column groups, by numbers in this selection, in the order given."""
        wanted, place = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        if not len(wanted):
            return _NONE
        found = self._source.batches(groups, _BATCH_FLOWS, self._rows[wanted])
        return FlowBatch.concat(list(found)).take(place)


class _Memory:
    """Flows that are in memory."""

    def __init__(self, flows: FlowBatch) -> None:
        self._flows = flows

    def batches(
        self, _groups: Sequence[str], batch_flows: int, rows: NDArray[np.int64] | None
    ) -> Iterator[FlowBatch]:
        wanted = np.arange(len(self._flows)) if rows is None else rows
        for start in range(0, len(wanted), batch_flows):
            yield self._flows.take(wanted[start : start + batch_flows])


class _Chain:
    """The flows of several selections."""

    def __init__(self, parts: Sequence[Selection]) -> None:
        self._parts = parts

    def batches(
        self, groups: Sequence[str], _batch_flows: int, rows: NDArray[np.int64] | None
    ) -> Iterator[FlowBatch]:
        begin = 0
        for part in self._parts:
            wanted = np.arange(len(part)) if rows is None else rows - begin
            low, high = np.searchsorted(wanted, [0, len(part)])
            yield from part.take(wanted[low:high]).batches(groups)
            begin += len(part)
