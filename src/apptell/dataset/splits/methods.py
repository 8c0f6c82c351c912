"""The split methods of apptell: by chance, by a group of the flows, by domain, by time, and none.

They are those of the evaluation method: a division by chance is optimistic; the others leave a whole source,
session, device, network, day, version, capture point, registered domain or time out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from apptell.dataset.groups import days, domains, group_names, group_values
from apptell.dataset.splits.method import (
    SourceIntervals,
    SplitMethod,
    connection_numbers,
    deal_out,
    label_numbers,
)
from apptell.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.dataset.splits.method import Sides
    from apptell.flows.schema import FlowBatch


class Paper(SourceIntervals):
    """The paper's: connections at random. One network is on both sides."""

    name: ClassVar[str] = "paper"
    is_optimistic: ClassVar[bool] = True

    def units(self, flows: FlowBatch) -> NDArray[Any]:
        """Each connection by itself."""
        return connection_numbers(flows).astype(object)

    def _whole_units(self, flows: FlowBatch) -> NDArray[np.int64]:
        return connection_numbers(flows)

    def _assign(
        self,
        flows: FlowBatch,
        shares: NDArray[np.float64],
        seed: int,
        level: str,
        unit: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        unit = connection_numbers(flows) if unit is None else unit
        return deal_out(unit, label_numbers(flows, level), shares, seed)


class GroupSplit(SplitMethod):
    """Leaves out whole values of a group of the flows."""

    column: ClassVar[str]
    """The group's name in the flows."""

    def units(self, flows: FlowBatch) -> NDArray[Any]:
        """The value of the group."""
        return _group(flows, self.column)


class Source(GroupSplit):
    """Leaves out whole sources: a person, a network, a folder."""

    name: ClassVar[str] = "source"
    column: ClassVar[str] = "source"


class Session(GroupSplit):
    """Leaves out whole sessions: recordings."""

    name: ClassVar[str] = "session"
    column: ClassVar[str] = "session"


class Device(GroupSplit):
    """Leaves out whole devices."""

    name: ClassVar[str] = "device"
    column: ClassVar[str] = "device"


class Client(SplitMethod):
    """Leaves out whole clients: addresses that connect to servers, apart for each source."""

    name: ClassVar[str] = "client"

    def units(self, flows: FlowBatch) -> NDArray[Any]:
        """The source and the client's address."""
        addresses = flows.column("client_address").to_pylist()
        sources = group_values(flows, "source")
        found = [
            None if address is None else f"{source or ''} {address}"
            for source, address in zip(sources, addresses, strict=True)
        ]
        return np.array(found, dtype=object)


class Network(GroupSplit):
    """Leaves out whole networks."""

    name: ClassVar[str] = "network"
    column: ClassVar[str] = "network"


class Version(GroupSplit):
    """Leaves out whole versions, of an app or of Android."""

    name: ClassVar[str] = "version"
    column: ClassVar[str] = "version"


class CapturePoint(GroupSplit):
    """Leaves out whole capture points: VPN, device, gateway, mirror."""

    name: ClassVar[str] = "capture-point"
    column: ClassVar[str] = "capture_point"


class NamedGroup(SplitMethod):
    """Leaves out whole values of any other group."""

    name: ClassVar[str] = "group"
    argument_name: ClassVar[str | None] = "COLUMN"

    def units(self, flows: FlowBatch) -> NDArray[Any]:
        """The value of the group that the argument names, with - or _ between its words."""
        column = str(self.argument)
        return _group(flows, column if column in group_names(flows) else column.replace("-", "_"))


class Day(SplitMethod):
    """Leaves out whole days: those that the flows name, else the UTC day of the first packet."""

    name: ClassVar[str] = "day"

    def units(self, flows: FlowBatch) -> NDArray[Any]:
        """The day."""
        values = group_values(flows, "day")
        known = np.array([value is not None for value in values], dtype=bool)
        return np.where(known, values, days(flows))


class ServerDomain(SplitMethod):
    """Leaves out whole registered domains of servers."""

    name: ClassVar[str] = "domain"

    def units(self, flows: FlowBatch) -> NDArray[Any]:
        """The registered domain, else the server's address."""
        return domains(flows)


class _ByTime(SourceIntervals):
    """Learns from what began before, and is tested on the rest."""

    def units(self, flows: FlowBatch) -> NDArray[Any]:
        """The time at which each flow's connection began."""
        return connection_starts(flows).astype(object)


class Time(_ByTime):
    """The earliest flows train, the latest test."""

    name: ClassVar[str] = "time"

    def split(self, flows: FlowBatch, test_share: float, seed: int, level: str) -> Sides:  # noqa: ARG002
        """The latest ``test_share`` of the flows are the test side; the seed is not used."""
        start = connection_starts(flows)
        place = min(len(start) - 1, int(np.ceil(len(start) * (1 - test_share))))
        is_late = start >= np.sort(start)[place]
        return np.flatnonzero(~is_late), np.flatnonzero(is_late)

    def folds(self, flows: FlowBatch, n_folds: int, seed: int, level: str) -> list[Sides]:  # noqa: ARG002
        """``n_folds + 1`` stretches of as many flows; fold i learns from the first i, is tested on the next."""
        start = connection_starts(flows)
        edges = np.sort(start)[np.arange(1, n_folds + 1) * len(start) // (n_folds + 1)]
        block = np.searchsorted(edges, start, side="right")
        found = [
            (np.flatnonzero(block < i), np.flatnonzero(block == i)) for i in range(1, n_folds + 1)
        ]
        return [(train, test) for train, test in found if len(train) and len(test)]


class TimeOf(_ByTime):
    """What began before a day trains, the rest tests."""

    name: ClassVar[str] = "time"
    argument_name: ClassVar[str | None] = "DATE"

    def __init__(self, argument: str | None = None) -> None:
        """Raises UsageError when the argument is no date of ISO 8601; without a zone it is in UTC."""
        super().__init__(argument)
        try:
            date = datetime.fromisoformat(str(argument))
        except ValueError as error:
            raise UsageError(f"split {self.text!r}: {error}") from error
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
        self._edge_ns = round(date.timestamp()) * 1_000_000_000

    def split(self, flows: FlowBatch, test_share: float, seed: int, level: str) -> Sides:  # noqa: ARG002
        """Divides at the date; share and seed are not used."""
        is_late = connection_starts(flows) >= self._edge_ns
        return np.flatnonzero(~is_late), np.flatnonzero(is_late)

    def folds(self, flows: FlowBatch, n_folds: int, seed: int, level: str) -> list[Sides]:  # noqa: ARG002
        """The one division."""
        return [self.split(flows, 0, seed, level)]

    def why_empty(self, side: str) -> str:
        """All flows are on one side of the date."""
        return f"every flow began {'before' if side == 'test' else 'on or after'} the date"

    def within(self, flows: FlowBatch) -> SplitMethod:
        """By source, session, client or connection: the training side lies before the date."""
        return usual_method(flows)


class Everything(SourceIntervals):
    """Learns from every flow; there is nothing to measure on."""

    name: ClassVar[str] = "none"
    has_test_side: ClassVar[bool] = False

    def units(self, flows: FlowBatch) -> NDArray[Any]:
        """All flows are together."""
        return np.full(len(flows), "all", dtype=object)

    def split(self, flows: FlowBatch, test_share: float, seed: int, level: str) -> Sides:  # noqa: ARG002
        """Every flow trains."""
        return np.arange(len(flows)), np.zeros(0, dtype=np.int64)

    def folds(self, flows: FlowBatch, n_folds: int, seed: int, level: str) -> list[Sides]:  # noqa: ARG002
        """Never returns: there are no folds.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"the split {self.name!r} leaves nothing to measure on; choose another",
            argument="split",
        )

    def within(self, flows: FlowBatch) -> SplitMethod:
        """By source, session, client or connection."""
        return usual_method(flows)


class Given(Everything):
    """Sides that were read from a file, or are other datasets."""

    name: ClassVar[str] = "file"
    has_test_side: ClassVar[bool] = True

    def split(self, flows: FlowBatch, test_share: float, seed: int, level: str) -> Sides:  # noqa: ARG002
        """Never returns: the name does not define sides.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"the split {self.name!r} is not a method; name the file itself")


class Elsewhere(Given):
    """Every flow of one dataset trains, those of another are tested on."""

    name: ClassVar[str] = "test"


def usual_method(flows: FlowBatch) -> SplitMethod:
    """By source, else by session, else by client; by connection where there is one of each."""
    for method in (Source(), Session()):
        if len({value for value in group_values(flows, method.column) if value is not None}) > 1:
            return method
    client = Client()
    return client if len(set(client.units(flows).tolist()) - {None}) > 1 else Paper()


def connection_starts(flows: FlowBatch) -> NDArray[np.int64]:
    """The time at which each flow's connection began, shape (n,), ns."""
    start = flows.numpy("start_ns").astype(np.int64)
    connection = connection_numbers(flows)
    first = np.full(connection.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, connection, start)
    return np.asarray(first[connection])


def _group(flows: FlowBatch, column: str) -> NDArray[Any]:
    values = group_values(flows, column)
    if all(value is None for value in values):
        there = ", ".join(group_names(flows)) or "none"
        raise DatasetError(
            f"no flow has the group {column!r}; the groups of the flows are: {there}"
        )
    return values
