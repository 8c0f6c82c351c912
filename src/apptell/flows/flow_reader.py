"""Reads the finished flows of a source, and accounts for every packet.

The work is done in three stages, ``flows.stages``: packets are read and decoded, assembled into flows, and the
flows get their names. Each stage is a generator that takes the steps of the one before. With two jobs they run
in a process of their own (``flows.apart``), with three reading and decoding also have a thread there. All that
depends on the order of packets beyond the flow table (what an observer learns, and what the caller does with
flows) is done by the caller, in the order of the steps. The steps are the same for any number of jobs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import pyarrow as pa

from apptell.capture import CaptureReader, CaptureStats
from apptell.flows.ahead import LIVE_ITEMS, Ahead
from apptell.flows.apart import CAN_FORK, Apart
from apptell.flows.assembly import Assembly
from apptell.flows.schema import SCHEMA, FlowBatch
from apptell.flows.stages import (
    HAND_OUT_S,
    Answers,
    Block,
    End,
    Ended,
    Finished,
    Looked,
    Opened,
    StageCounts,
    Step,
    Told,
    assembled,
    decoded,
    named,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from apptell.capture import PacketBatch
    from apptell.errors import CaptureError
    from apptell.flows.options import FlowOptions
    from apptell.packets import HeaderBatch


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


class Watcher(Protocol):
    """Learns from packets something else than flows, in two steps: the second one needs no packets."""

    def read(self, headers: HeaderBatch) -> Any:
        """What decoded packets tell, before they become part of flows: nothing (false), or what pickles."""

    def remember(self, told: Any) -> None:
        """Takes it, before flows that end with these packets are handed out."""


@dataclass(slots=True)
class FlowStats:
    """What became of every packet of a source: correct whenever flows are returned, final at the end.

    They are of the packets up to the block in which the last returned flows ended.
    """

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
        hand_out_s: float | None = HAND_OUT_S,
        add_names: Callable[[FlowBatch], FlowBatch] | None = None,
        read_answers: Callable[[HeaderBatch], pa.RecordBatch] | None = None,
        observer: Observer | None = None,
        watcher: Watcher | None = None,
        *,
        jobs: int = 1,
    ) -> None:
        self._reader = reader
        self._annotate = annotate
        self._hand_out_s = hand_out_s
        self._add_names = add_names
        self._read_answers = read_answers
        self._observer = observer
        self._jobs = jobs
        self._watcher = watcher
        self._running: list[Ahead[Any] | Apart] = []
        if observer is not None:
            options = replace(options, lists_decided=True, lists_order=True)
            observer.observe(None, 0)
        self._reads_ahead = jobs > (2 if CAN_FORK else 1)
        n_kept = LIVE_ITEMS if self._reads_ahead else 1
        reader.keep(n_kept)
        self._assembly = Assembly(options, n_kept=n_kept)
        self.options = options
        self.stats = FlowStats(capture=reader.stats)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends its threads or its process and closes the source."""
        self._end_jobs()
        self._reader.close()

    def _end_jobs(self) -> None:
        for job in self._running:
            job.stop()
        for job in self._running:
            job.join()

    def __iter__(self) -> Iterator[FlowBatch]:
        try:
            yield from self._read()
        finally:  # who handles what was raised, or keeps the reader for its counters, keeps no table
            self._end_jobs()
            self._assembly.release()

    def _read(self) -> Iterator[FlowBatch]:
        observer, watcher = self._observer, self._watcher
        damage: CaptureError | None = None
        for step in self._steps():
            match step:
                case Told(told) if watcher is not None:
                    watcher.remember(told)
                case Answers(answers) if observer is not None:
                    observer.learn(answers)
                case Opened(flows, until) if observer is not None:
                    observer.observe(flows, until)
                case Looked(until) if observer is not None:
                    observer.observe(None, until)
                case Ended(flows, counts):
                    self.stats.flows += len(flows)
                    self._update_stats(counts)
                    yield flows
                case Finished(counts, error):
                    self._update_stats(counts)
                    damage = error
        if damage is not None:
            raise damage

    def _steps(self) -> Iterable[Step]:
        """The steps, made here or by other jobs."""
        made = self._make_steps()
        if self._jobs == 1:
            return made
        job: Ahead[Step] | Apart = Apart(made) if CAN_FORK else Ahead(made, "flows")
        self._running.append(job)
        return job

    def _make_steps(self) -> Generator[Step, None, None]:
        blocks = decoded(
            self._reader,
            self._assembly,
            self._annotate,
            None if self._observer is None else self._read_answers,
            None if self._watcher is None else self._watcher.read,
        )
        ahead: Ahead[Block | End] | None = None
        if self._reads_ahead:
            ahead = Ahead(blocks, "reading")
        try:
            steps = assembled(
                blocks if ahead is None else ahead,
                self._assembly.table,
                self._hand_out_s,
                shows_open=self._observer is not None,
            )
            yield from named(steps, self._add_names, self.options)
        finally:
            if ahead is not None:
                ahead.stop()
                ahead.join()

    def _update_stats(self, counts: StageCounts) -> None:
        stats, tally = self.stats, counts.tally
        stats.capture = counts.capture
        stats.packets, stats.status, stats.protocols = tally.packets, tally.status, tally.protocols
        stats.fragments, stats.tunnelled = tally.fragments, tally.tunnelled
        stats.reassembled = counts.n_reassembled
        stats.in_flows = counts.n_flow_packets
        stats.not_asked = counts.n_not_asked
        stats.after_close = counts.n_after_close
        stats.evicted = counts.n_evicted

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
