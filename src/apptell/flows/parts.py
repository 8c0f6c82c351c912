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

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apptell.flows.schema import FlowBatch

CARRIED: Final = ("server_name", "alpn", "ja4", "http_host")
"""The columns that belong to a connection and not to an address."""
MAX_CONNECTIONS: Final = 1 << 16
"""Connections whose names are remembered; the one that ended first is forgotten first."""

_Names = tuple[str | None, ...]


class ConnectionNames:
    """The names of connections whose flows have ended, in case more of them comes."""

    def __init__(self, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max = max_connections
        self._known: OrderedDict[int, _Names] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, flows: FlowBatch) -> None:
        """Remembers what flows show.

        Args:
            flows: n flows with the columns of the groups *core* and *names*, in the order in which they ended.
        """
        rows = np.flatnonzero(_shows_names(flows))
        if len(rows):
            shown = flows.take(rows)
            ids = shown.column("connection_id").to_pylist()
            for connection_id, names in zip(ids, _names(shown), strict=True):
                self._remember(connection_id, names)

    def learn_and_fill(self, flows: FlowBatch) -> FlowBatch:
        """Remembers what flows show; gives them with the names of their connections where they show none."""
        is_later = flows.numpy("part") > 0
        if not is_later.any():
            self.learn(flows)
            return flows
        ids = flows.column("connection_id").to_pylist()
        filled = list(_names(flows))
        for row, is_shown in enumerate(_shows_names(flows).tolist()):
            if is_shown:
                self._remember(ids[row], filled[row])
            elif is_later[row]:
                filled[row] = self._known.get(ids[row], filled[row])
        return _with_names(flows, filled)

    def fill(self, flows: FlowBatch) -> FlowBatch:
        """Flows with the names of their connections where they show none; nothing is remembered."""
        rows = np.flatnonzero((flows.numpy("part") > 0) & ~_shows_names(flows))
        if not len(rows):
            return flows
        ids = flows.column("connection_id").to_pylist()
        filled = list(_names(flows))
        for row in rows.tolist():
            filled[row] = self._known.get(ids[row], filled[row])
        return _with_names(flows, filled)

    def _remember(self, connection_id: int, names: _Names) -> None:
        self._known[connection_id] = tuple(name and sys.intern(name) for name in names)
        self._known.move_to_end(connection_id)
        if len(self._known) > self._max:
            self._known.popitem(last=False)


def _shows_names(flows: FlowBatch) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each flow has any name, shape (n,)."""
    shows = np.zeros(len(flows), dtype=np.bool_)
    for name in CARRIED:
        column = flows.column(name)
        if column.null_count < len(column):
            shows |= np.asarray(pc.is_valid(column))
    return shows


def _names(flows: FlowBatch) -> Iterable[_Names]:
    return zip(*(flows.column(name).to_pylist() for name in CARRIED), strict=True)


def _with_names(flows: FlowBatch, names: list[_Names]) -> FlowBatch:
    columns = zip(*names, strict=True)
    return flows.with_columns(
        **{
            name: pa.array(values, pa.string())
            for name, values in zip(CARRIED, columns, strict=True)
        }
    )
