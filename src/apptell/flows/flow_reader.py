"""Reads the finished flows of a source, and accounts for every packet."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import pyarrow as pa

from apptell.capture import CaptureReader, CaptureStats
from apptell.errors import CaptureError
from apptell.flows.assembly import Assembly
from apptell.flows.schema import SCHEMA, FlowBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apptell.capture import PacketBatch
    from apptell.flows.options import FlowOptions
    from apptell.packets import HeaderBatch

HAND_OUT_S: Final = 1.0
"""While packets arrive, finished flows are collected for this long before they are returned as a batch."""
LOOK_FLOWS: Final = 1 << 18
"""Finished flows after which an observer is shown the open ones."""


class Observer(Protocol):
    """Receives DNS answers and open flows early, because finished flows would bring them too late."""

    def learn(self, answers: pa.RecordBatch) -> None:
        """Takes the DNS answers of some packets, before flows that end with them are handed out."""

    def observe(self, flows: FlowBatch | None, until: int) -> None:
        """Takes open flows.

        Args:
            flows: open flows whose verdict has become due; each comes once.
            until: all that were due at this place in the order of packets have come.
        """


@dataclass(slots=True)
class FlowStats:
    """What became of every packet of a source: correct whenever flows are returned, final at the end."""

    capture: CaptureStats = field(default_factory=CaptureStats)
    """Files, formats, link types, snap-length cuts, damage."""
    packets: int = 0
    """Packets decoded."""
    status: dict[str, int] = field(default_factory=dict)
    """Packets by ``packets.Status``, lower case; ``ok`` ones are TCP or UDP with whole headers."""
    protocols: dict[int, int] = field(default_factory=dict)
    """Packets by IP protocol number."""
    fragments: int = 0
    """Packets that are fragments, first ones included."""
    reassembled: int = 0
    """Datagrams put together again from their fragments."""
    tunnelled: int = 0
    """Packets found inside a tunnel."""
    in_flows: int = 0
    """Packets that became part of a flow."""
    not_asked: int = 0
    """TCP or UDP packets of a transport that was not selected."""
    after_close: int = 0
    """Packets of closed connections that came after their flow's end and brought nothing new."""
    flows: int = 0
    """Flows handed out."""
    evicted: int = 0
    """Flows ended early because the table was full."""

    def to_dict(self) -> dict[str, Any]:
        """The counters as plain values, for JSON."""
        return asdict(self)


class FlowReader:
    """The flows of a source, batch by batch. It can be iterated once.

    Iterating raises ``CaptureError`` if the capture is damaged, after every flow that precedes the damage.

    Example:
        >>> with apptell.read_flows("phone.pcap") as reader:
        ...     flows = reader.to_flows()
        >>> len(flows), reader.stats.packets
        (2, 24)
    """

    def __init__(
        self,
        reader: CaptureReader,
        options: FlowOptions,
        annotate: Callable[[PacketBatch], PacketBatch] | None = None,
        share: tuple[int, int] = (0, 1),
        hand_out_s: float = HAND_OUT_S,
        add_names: Callable[[FlowBatch], FlowBatch] | None = None,
        read_answers: Callable[[HeaderBatch], pa.RecordBatch] | None = None,
        observer: Observer | None = None,
        watch: Callable[[HeaderBatch], None] | None = None,
    ) -> None:
        self._reader = reader
        self._annotate = annotate
        self._hand_out_s = hand_out_s
        self._read_answers = read_answers
        self._observer = observer
        self._watch = watch
        self._looked_at = self._looked_until = 0
        if observer is not None:
            options = replace(options, lists_decided=True, lists_order=True)
            observer.observe(None, 0)
        is_watching = observer is not None or watch is not None
        self._assembly = Assembly(options, share, add_names, self._learn if is_watching else None)
        self.options = options
        self.stats = FlowStats(capture=reader.stats)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the source."""
        self._reader.close()

    def __iter__(self) -> Iterator[FlowBatch]:
        try:
            yield from self._read()
        finally:  # who handles what was raised, or keeps the reader for its counters, keeps no table
            self._assembly.release()

    def _read(self) -> Iterator[FlowBatch]:
        damage: CaptureError | None = None
        table = self._assembly.table
        due = 0.0
        try:
            with self._reader:
                for packets in self._reader:
                    batch = self._annotate(packets) if self._annotate else packets
                    yield from self._count(self._assembly.add(batch, self._reader.current_name))
                    if table.n_ready and time.monotonic() >= due:
                        self._look()
                        yield from self._count(table.take())
                        due = time.monotonic() + self._hand_out_s
        except CaptureError as error:
            damage = error
        yield from self._count(table.finish())
        self._update_stats()
        if damage is not None:
            raise damage

    def _learn(self, headers: HeaderBatch) -> None:
        if self._watch is not None:
            self._watch(headers)
        if self._observer is not None and self._read_answers is not None:
            answers = self._read_answers(headers)
            if len(answers):
                self._observer.learn(answers)

    def _look(self) -> None:
        """Passes open flows to the observer: immediately if the source is growing, otherwise after many."""
        if self._observer is None or (
            self._hand_out_s and self.stats.flows - self._looked_at < LOOK_FLOWS
        ):
            return
        self._looked_at = self.stats.flows
        table = self._assembly.table
        for flows in table.take_decided():
            self._observer.observe(flows, self._looked_until)
        self._looked_until = table.place_ns
        self._observer.observe(None, self._looked_until)

    def _count(self, batches: Iterator[FlowBatch]) -> Iterator[FlowBatch]:
        for batch in batches:
            self.stats.flows += len(batch)
            self._update_stats()
            yield batch

    def _update_stats(self) -> None:
        stats, tally, table = self.stats, self._assembly.tally, self._assembly.table
        stats.capture = self._reader.stats
        stats.packets, stats.status, stats.protocols = tally.packets, tally.status, tally.protocols
        stats.fragments, stats.tunnelled = tally.fragments, tally.tunnelled
        stats.reassembled = self._assembly.n_reassembled
        stats.in_flows = table.n_flow_packets
        stats.not_asked = table.n_not_asked
        stats.after_close = table.n_after_close
        stats.evicted = table.n_evicted

    def to_arrow(self) -> pa.Table:
        """All flows as one Arrow table.

        Raises:
            CaptureError: the capture is damaged; iterate instead to get what precedes the damage.
        """
        batches = [batch.to_arrow() for batch in self]
        return pa.Table.from_batches(batches) if batches else SCHEMA.empty_table()

    def to_flows(self) -> FlowBatch:
        """All flows as one batch; raises as ``to_arrow`` does."""
        return FlowBatch.concat(list(self))

    def to_pandas(self) -> Any:
        """All flows as a pandas table; needs pandas (``pip install 'apptell[pandas]'``)."""
        return self.to_arrow().to_pandas()
