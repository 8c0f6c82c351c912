"""Sums what each app and service transfers, from live records and open flows.

It is an output like others; a display asks for its rows from another thread.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from apptell.records.schema import END

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_COLUMNS: Final = (
    "event",
    "connection_id",
    "part",
    "client_address",
    "app",
    "app_name",
    "service",
    "confidence",
    "packets_to_server",
    "packets_to_client",
    "bytes_to_server",
    "bytes_to_client",
)
_Who = tuple[str | None, str | None, str | None]
"""A client's address, or None for all clients; an app; and, if no app is named, a service."""


@dataclass(slots=True)
class Row:
    """The totals of an app or a service, for one client or for all."""

    client: str | None
    """None: all clients together."""
    app: str | None
    """None: no app is named."""
    flows: int = 0
    open_flows: int = 0
    packets: int = 0
    bytes: int = 0
    rate: float = 0.0
    """Bytes a second since the last call of ``rows``."""
    confidence: float | None = None
    """The mean confidence of the flows; None without a model's verdicts."""
    service: str | None = None
    """The service, if no app is named; None if nothing is known."""
    app_name: str | None = None
    """The app's name; None if the catalogue does not list the app."""


@dataclass(slots=True)
class _Sum:
    flows: int = 0
    open_flows: int = 0
    packets: int = 0
    bytes: int = 0
    confidence: float = 0.0
    identified: int = 0

    def add(self, other: _Sum) -> None:
        self.flows += other.flows
        self.open_flows += other.open_flows
        self.packets += other.packets
        self.bytes += other.bytes
        self.confidence += other.confidence
        self.identified += other.identified


@dataclass(slots=True)
class _Open:
    """An open flow."""

    who: _Who
    confidence: float | None
    packets: int
    bytes: int


class AppTally:
    """Sums the packets and bytes of each app and service of each client."""

    def __init__(self) -> None:
        self.extra: dict[str, int] = {}
        self._lock = threading.Lock()
        self._over: defaultdict[_Who, _Sum] = defaultdict(_Sum)
        self._open: dict[tuple[int, int], _Open] = {}
        self._names: dict[str, str] = {}
        self._before: dict[_Who, int] = {}
        self._before_s: float | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds records."""
        values = zip(*(batch.column(name).to_pylist() for name in _COLUMNS), strict=True)
        with self._lock:
            for event, connection, part, client, app, name, service, confidence, *counts in values:
                packets, n_bytes = sum(counts[:2]), sum(counts[2:])
                who = (client, app, service if app is None else None)
                if name:
                    self._names[app] = name
                flow = _Open(who, confidence, packets, n_bytes)
                if event == END:
                    self._open.pop((connection, part), None)
                    _count(self._over[flow.who], flow)
                else:
                    self._open[connection, part] = flow

    def tick(self) -> None:
        """Does nothing, because no records are held back."""

    def close(self) -> None:
        """Does nothing, because nothing is open."""

    def meter(self, totals: NDArray[Any]) -> None:
        """Takes the totals of open flows so far, as ``FlowTable.open_totals`` returns them."""
        columns = (totals[name].tolist() for name in totals.dtype.names or ())
        with self._lock:
            for connection, part, packets, n_bytes in zip(*columns, strict=True):
                flow = self._open.get((connection, part))
                if flow is not None:
                    flow.packets, flow.bytes = packets, n_bytes

    def rows(self, now_s: float, *, per_client: bool = False) -> list[Row]:
        """The totals of each app and service, unsorted.

        Args:
            now_s: for rates, s of any clock.
            per_client: whether to give a row for each client's apps and services.
        """
        with self._lock:
            sums: defaultdict[_Who, _Sum] = defaultdict(_Sum)
            for who, total in self._over.items():
                sums[who].add(total)
            for flow in self._open.values():
                _count(sums[flow.who], flow)
                sums[flow.who].open_flows += 1
        passed_s = 0.0 if self._before_s is None else now_s - self._before_s
        rows: dict[_Who, Row] = {}
        identified: defaultdict[_Who, int] = defaultdict(int)
        for who, total in sums.items():
            key = who if per_client else (None, *who[1:])
            name = self._names.get(key[1]) if key[1] else None
            row = rows.setdefault(key, Row(key[0], key[1], service=key[2], app_name=name))
            row.flows += total.flows
            row.open_flows += total.open_flows
            row.packets += total.packets
            row.bytes += total.bytes
            if passed_s > 0:
                row.rate += max(total.bytes - self._before.get(who, 0), 0) / passed_s
            identified[key] += total.identified
            row.confidence = (row.confidence or 0.0) + total.confidence
        for key, row in rows.items():
            n = identified[key]
            row.confidence = (row.confidence or 0.0) / n if n else None
        self._before = {who: total.bytes for who, total in sums.items()}
        self._before_s = now_s
        return list(rows.values())


def _count(total: _Sum, flow: _Open) -> None:
    total.flows += 1
    total.packets += flow.packets
    total.bytes += flow.bytes
    if flow.confidence is not None:
        total.confidence += flow.confidence
        total.identified += 1
