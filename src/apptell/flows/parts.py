"""Copies the names of a connection to later parts of it that show no names themselves.

A TLS connection shows its names once, in its first part. The names of a later part depend only on the parts
before it, in the order in which they ended.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.flows.plain_columns import of_rows, to_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

CARRIED: Final = ("server_name", "alpn", "ja4", "http_host")
"""The columns that belong to a connection and not to an address."""
MAX_CONNECTIONS: Final = 1 << 16
"""Connections whose names are remembered; the one that ended first is forgotten first."""

_FEW: Final = 512
"""Flows up to which all their names are read where some are wanted."""
_Names = tuple[str | None, ...]


class ConnectionNames:
    """The names of connections whose flows have ended, in case more of them comes."""

    def __init__(self, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max = max_connections
        self._known: OrderedDict[int, _Names] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, flows: FlowBatch, keep: NDArray[np.bool_] | None = None) -> None:
        """Remembers what flows show.

        Args:
            flows: n flows with the columns of the groups *core* and *names*, in the order in which they ended.
            keep: whose names to remember, shape (n,); None for all.
        """
        shows = _shows_names(flows)
        rows = np.flatnonzero(shows if keep is None else keep & shows)
        for connection_id, names in _connections(flows, rows):
            self._remember(connection_id, names)

    def learn_and_fill(self, flows: FlowBatch) -> FlowBatch:
        """Remembers what flows show; gives them with the names of their connections where they show none."""
        shows = _shows_names(flows)
        rows = np.flatnonzero(shows | (flows.numpy("part") > 0))
        shown = iter(_connections(flows, np.flatnonzero(shows)))
        ids = flows.numpy("connection_id")[rows].tolist()
        filled: dict[int, _Names] = {}
        known = self._known
        for row, is_shown, connection_id in zip(
            rows.tolist(), shows[rows].tolist(), ids, strict=True
        ):
            if is_shown:
                self._remember(*next(shown))
            elif (names := known.get(connection_id)) is not None:
                filled[row] = names
        return _with_names(flows, filled)

    def fill(self, flows: FlowBatch) -> FlowBatch:
        """Flows with the names of their connections where they show none; nothing is remembered."""
        is_later = flows.numpy("part") > 0
        if not is_later.any():
            return flows
        rows = np.flatnonzero(is_later & ~_shows_names(flows))
        ids = flows.numpy("connection_id")[rows]
        known = {
            row: self._known.get(each)
            for row, each in zip(rows.tolist(), ids.tolist(), strict=True)
        }
        return _with_names(flows, {row: names for row, names in known.items() if names is not None})

    def _remember(self, connection_id: int, names: _Names) -> None:
        self._known[connection_id] = names
        self._known.move_to_end(connection_id)
        if len(self._known) > self._max:
            self._known.popitem(last=False)


def _shows_names(flows: FlowBatch) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each flow has any name, shape (n,)."""
    shows = np.zeros(len(flows), dtype=np.bool_)
    for name in CARRIED:
        shows |= flows.is_there(name)
    return shows


def _connections(flows: FlowBatch, rows: NDArray[np.int64]) -> Iterable[tuple[int, _Names]]:
    """The connection and the names of some flows, in the order of the rows."""
    ids = flows.numpy("connection_id")[rows].tolist()
    wanted = rows.tolist()
    is_wanted = np.zeros(len(flows), dtype=np.bool_)
    is_wanted[rows] = True
    names: list[list[str | None]] = []
    for name in CARRIED:
        column = flows.plain(name)
        if len(flows) > _FEW:  # it takes Arrow less time to leave the others out than to read them
            column = of_rows(column, is_wanted, pa.string())
        values = to_list(column, len(is_wanted))
        if len(values) > len(wanted):
            values = [values[row] for row in wanted]
        names.append([value and sys.intern(value) for value in values])
    return zip(ids, zip(*names, strict=True), strict=True)


def _with_names(flows: FlowBatch, names: dict[int, _Names]) -> FlowBatch:
    """Flows with the names of some rows, which show none; the rows are in ascending order."""
    if not names:
        return flows
    mask = np.zeros(len(flows), dtype=np.bool_)
    mask[list(names)] = True
    columns = zip(*names.values(), strict=True)
    return flows.with_columns(
        **{
            name: pc.replace_with_mask(flows.column(name), mask, pa.array(values, pa.string()))
            for name, values in zip(CARRIED, columns, strict=True)
            if any(values)
        }
    )
