"""Joins flows to the lines of a log: the app of each flow, none, or ambiguous.

A line belongs to a flow when both have the same two endpoints, in either direction, and the same protocol
(if the log has it), and when the line, corrected by the clock offset between log and capture, lies within the
tolerance of the flow's span. Lines of two apps there make the flow ambiguous: it is dropped and counted,
never guessed. That tells the reuse of a port apart, as long as its uses lie further apart than the tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.labels.log import LogTable

NONE: Final = -1
"""No line of the log fits the flow."""
AMBIGUOUS: Final = -2
"""Lines of two apps fit the flow."""
DEFAULT_TOLERANCE_S: Final = 3.0
"""Network Log's lines lie up to 2 s off their packets; 1 s is left for the offset's own error."""
JOINABLE_S: Final = 10.0
"""A flow is joinable when a line fits it and no other app used its tuple this close to it."""
MAX_OFFSET_S: Final = 120.0
"""A larger clock offset is rejected unless the log's time zone is unknown."""
UNZONED_MAX_OFFSET_S: Final = 16 * 3600.0
_MS: Final = 1_000_000
_EITHER: Final = 2
_SHORT_MS: Final = 10_000
_ENOUGH: Final = 30


@dataclass(frozen=True, slots=True)
class Offset:
    """The clock of the log against that of the capture."""

    offset_ms: int
    """Time of the log minus time of the capture."""
    n_pairs: int
    """Flows that agree with it."""
    n_candidates: int
    """Flows that could be compared."""


class LogIndex:
    """A log that is indexed for joining."""

    def __init__(self, log: LogTable) -> None:
        known = np.flatnonzero(log.app >= 0)
        self.log = log
        low = np.minimum(log.end_a, log.end_b)[known]
        high = np.maximum(log.end_a, log.end_b)[known]
        # Arrow's hashing numbers millions of values several times faster than sorting does.
        self._ends = pc.unique(pa.array(np.concatenate([low, high])))
        code = _protocol_code(log.protocol[known])
        # A line that names no protocol stands for both.
        both = np.flatnonzero(code == _EITHER)
        rows = np.concatenate([np.arange(len(known)), both])
        code = np.concatenate(
            [np.where(code == _EITHER, 0, code), np.ones(len(both), dtype=np.int64)]
        )
        coded = pa.array(self._key(low, high)[rows] | code).dictionary_encode()
        self._keys = coded.dictionary
        number = np.asarray(coded.indices, dtype=np.int64)
        first = log.first_ns[known][rows] // _MS
        last = log.last_ns[known][rows] // _MS
        # One ascending column for (key, time): a search in it stays within the key's lines. Times are
        # numbered in their order, so that one line of a wrong year cannot make the column overflow.
        self._first_times, first_rank = np.unique(first, return_inverse=True)
        self._last_times, last_rank = np.unique(last, return_inverse=True)
        at_first = number * len(self._first_times) + first_rank
        order = np.argsort(at_first)
        self._at_first, number = at_first[order], number[order]
        self._key_start = np.flatnonzero(np.diff(number, prepend=-1))
        self._first, self._last = first[order], last[order]
        self._app = log.app[known][rows][order].astype(np.int64)
        at_last = number * len(self._last_times) + last_rank[order]
        self._at_last = np.maximum.accumulate(at_last)

    def estimate(self, flows: FlowBatch, max_offset_s: float = MAX_OFFSET_S) -> Offset:
        """The clock offset: the densest 4 s of the differences between flows and their lines.

        Compared are flows whose tuple occurs once, middle to middle (or beginning to beginning where
        the log has one line per connection): lost lines and jitter push both ends alike. Short flows are
        preferred, because their middle is the most exact.
        """
        key, start, end = self.keys_of(flows)
        found, counts = np.unique(key[key >= 0], return_counts=True)
        once = np.isin(key, found[counts == 1] if (counts == 1).any() else found)
        rows = np.flatnonzero(once & (key >= 0))
        if not len(rows):
            return Offset(0, 0, 0)
        lines = key[rows]
        low = self._first[self._key_start[lines]]
        high = np.maximum.reduceat(self._last, self._key_start)[lines]
        if self.log.is_start:
            difference = low - start[rows]
        else:
            difference = (low + high - start[rows] - end[rows]) // 2
            span = np.maximum(high - low, end[rows] - start[rows])
            if (span <= _SHORT_MS).sum() >= _ENOUGH:
                difference = difference[span <= _SHORT_MS]
        difference = np.sort(difference[np.abs(difference) <= max_offset_s * 1000])
        if not len(difference):
            return Offset(0, 0, len(rows))
        stop = np.searchsorted(difference, difference + 4000, side="right")
        at = int(np.argmax(stop - np.arange(len(stop))))
        dense = difference[at : stop[at]]
        return Offset(int(np.median(dense)), len(dense), len(rows))

    def label(
        self, flows: FlowBatch, offset: Offset, *tolerances_s: float
    ) -> list[NDArray[np.int64]]:
        """The app of each flow, shape (n,), for each tolerance: an index into ``apps``, NONE or AMBIGUOUS."""
        keys = self.keys_of(flows)
        return [self._label(*keys, offset, tolerance_s) for tolerance_s in tolerances_s]

    def _label(
        self,
        key: NDArray[np.int64],
        start: NDArray[np.int64],
        end: NDArray[np.int64],
        offset: Offset,
        tolerance_s: float,
    ) -> NDArray[np.int64]:
        out = np.full(len(key), NONE, dtype=np.int64)
        rows = np.flatnonzero(key >= 0)
        if not len(rows):
            return out
        reach = int(tolerance_s * 1000)
        begin = start[rows] + offset.offset_ms - reach
        close = end[rows] + offset.offset_ms + reach
        from_begin = np.searchsorted(self._last_times, begin, side="left")
        to_close = np.searchsorted(self._first_times, close, side="right") - 1
        wanted = key[rows] * len(self._last_times) + from_begin
        low = np.searchsorted(self._at_last, wanted, side="left")
        wanted = key[rows] * len(self._first_times) + to_close
        high = np.searchsorted(self._at_first, wanted, side="right")
        low = np.maximum(low, self._key_start[key[rows]])
        count = np.maximum(high - low, 0)
        lines, owner = _ranges(low, count)
        # Lines that began before the window and ended before it stand between two that fit.
        fits = self._last[lines] >= begin[owner]
        lines, owner = lines[fits], owner[fits]
        if not len(lines):
            return out
        edge = np.flatnonzero(np.diff(owner, prepend=-1))
        app = self._app[lines]
        least, most = np.minimum.reduceat(app, edge), np.maximum.reduceat(app, edge)
        out[rows[owner[edge]]] = np.where(least == most, least, AMBIGUOUS)
        return out

    def keys_of(
        self, flows: FlowBatch
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Number of each flow's tuple in the log (-1: not there), its start and its end in ms."""
        client = self._endpoint(flows, "client")
        server = self._endpoint(flows, "server")
        code = _protocol_code(np.asarray(flows.numpy("protocol"), dtype=np.uint8))
        known = (client >= 0) & (server >= 0)
        low, high = np.minimum(client, server), np.maximum(client, server)
        wanted = np.where(known, self._key(low, high) | code, -1)
        key = _index_in(wanted, self._keys)
        return (
            key,
            flows.numpy("start_ns").astype(np.int64) // _MS,
            flows.numpy("end_ns").astype(np.int64) // _MS,
        )

    def _endpoint(self, flows: FlowBatch, side: str) -> NDArray[np.int64]:
        column = flows.column(f"{side}_address").dictionary_encode()
        number = [self.log.addresses.get(text, -1) for text in column.dictionary.to_pylist()]
        address = np.array([*number, -1], dtype=np.int64)[column.indices.fill_null(len(number))]
        port = flows.numpy(f"{side}_port").astype(np.int64)
        return np.where(address >= 0, address * 65536 + port, -1)

    def _key(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
        """One number per pair of ends, the two lowest bits free for the protocol; -1 when unknown."""
        a, b = _index_in(low, self._ends), _index_in(high, self._ends)
        return np.where((a >= 0) & (b >= 0), (a << 33) | (b << 2), -1)


def _index_in(values: NDArray[np.int64], known: pa.Array) -> NDArray[np.int64]:
    """The place of each value in ``known``; -1 where it is not there."""
    return np.asarray(pc.index_in(pa.array(values), known).fill_null(-1), dtype=np.int64)


def _protocol_code(protocol: NDArray[np.uint8]) -> NDArray[np.int64]:
    """0 for TCP, 1 for UDP, _EITHER if the log does not say, 3 for all others."""
    table = np.full(256, 3, dtype=np.int64)
    table[[6, 17, 0]] = 0, 1, 2
    return np.asarray(table[protocol])


def _ranges(low: NDArray[Any], count: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All numbers of the ranges [low, low + count), and the range each belongs to."""
    owner = np.repeat(np.arange(len(low)), count)
    within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return low[owner] + within, owner
