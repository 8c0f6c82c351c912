"""The packet path of one capturing thread: decoder, reassembly and flow table.

It never waits for a model or an output, except if its source is lossless.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from apptell.flows import Assembly
from apptell.names import add_names
from apptell.names.dns import DnsReader
from apptell.service.work import DECIDED, EARLY, ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from apptell.capture import PacketBatch
    from apptell.flows import FlowBatch, FlowOptions
    from apptell.packets import HeaderBatch
    from apptell.service.ending import Ending
    from apptell.service.sources import PacketSource
    from apptell.service.work import WorkQueue
    from apptell.verdicts import Evidence
    from apptell.verdicts.identity import Found

_DECIDE_NS: Final = 250_000_000
_SWEEP_NS: Final = 1_000_000_000
_CLOSE_NS: Final = 100_000_000
"""How often ended flows of a live source are passed on, ns: each batch costs more than its flows, and nobody
waits for them. The names of flows without a verdict count for others much later (``flows.schema.ORDER``)."""
_INTERVAL: Final = 12.0
"""Time between the beginnings of two batches of packets, as a multiple of the processor time that the first one
took. A batch costs more than its flows. Batches therefore grow with the load, and packets take a twelfth of a
core until they fill a batch."""
_LONGEST_INTERVAL_S: Final = 0.05
_MANY_READY: Final = 256
"""Number of ended flows that are passed on in one batch, before the table would return them ahead of due
verdicts.
"""


class PacketPath:
    """Processes a source's packets until it ends.

    Args:
        source: where packets come from.
        options: how they become flows.
        decide_after_s: age at which a flow with at least two payload packets is decided, s; None for never.
        work: the queue that gets the flows.
        evidence: learns from the packets and is asked about each flow as it is handed out, by the thread that
            read its packets: what it says depends on the packets alone.
        evidence_lock: held while it is used, where several threads share it.
        watch: also called with the decoded packets before they become part of flows.
        keep: called with the packets and the source's name before anything else; it must not keep them.
    """

    def __init__(
        self,
        source: PacketSource,
        options: FlowOptions,
        decide_after_s: float | None,
        work: WorkQueue,
        *,
        evidence: Evidence | None = None,
        evidence_lock: threading.Lock | None = None,
        watch: Callable[[HeaderBatch], None] | None = None,
        keep: Callable[[PacketBatch, str], None] | None = None,
    ) -> None:
        self.source = source
        self.packets = 0
        """Packets read."""
        self.bytes = 0
        """Their bytes on the wire."""
        self.flows = 0
        """Flows that ended."""
        self.unreported = 0
        """Open flows that could not be reported in time."""
        self.ending: Ending | None = None
        """The deadlines, once the end has been requested."""
        self._decide_after_s = decide_after_s
        self._work = work
        self._evidence = evidence
        self._evidence_lock = evidence_lock or threading.Lock()
        self._read_answers = DnsReader(with_aliases=False)
        self._also_watch = watch
        self._keep = keep
        self._assembly = Assembly(
            replace(options, reports_once=True, lists_order=evidence is not None),
            add_names=add_names,
            watch=None if evidence is None and watch is None else self._watch,
        )
        self._table = self._assembly.table
        self.open_totals = self._table.open_totals()
        """The totals of open flows when they were last requested."""
        self._is_asked = False
        self._decided_ns = 0
        self._swept_ns = 0
        self._closed_ns = 0

    @property
    def evicted(self) -> int:
        """Flows that ended early because the table was full."""
        return self._table.n_evicted

    @property
    def active(self) -> int:
        """Open flows."""
        return self._table.n_active

    def ask_open_totals(self) -> None:
        """Requests new ``open_totals`` from the thread that keeps the table."""
        self._is_asked = True

    def decide_at(self, packets: int) -> None:
        """Sets the number of payload packets after which verdicts are due."""
        self._table.options = replace(self._table.options, decision_packets=packets)

    def run(self, stop: threading.Event) -> None:
        """Works until the source ends or ``stop`` is set; then passes on the open flows.

        Raises:
            CaptureError: the source is damaged or gone; raised after everything before it was passed on.
        """
        try:
            for batch in self.source.batches():
                if batch is not None and len(batch):
                    self._add(batch)
                self._run_timers()
                if stop.is_set():
                    break
        finally:
            self._bring(self._open_ones())
            for flows in self._table.finish(is_shutdown=self.ending is not None):
                self._bring([(flows, ENDED)])
                if self.ending is not None and time.monotonic() > self.ending.tell_s:
                    self.unreported = self._table.n_ready
                    break

    def _add(self, packets: PacketBatch) -> None:
        begin_s = time.thread_time()
        self.packets += len(packets)
        self.bytes += int(packets.wire.sum())
        if self._keep is not None:
            self._keep(packets, self.source.name)
        # what these packets tell is known before any of their flows is asked about
        batches = _ended(self._assembly.add(packets, self.source.name))
        if self._evidence is not None:
            self._table.end_silent()
        batches += self._open_ones()
        is_asked_at_once = self._evidence is not None and not self.source.is_live
        if is_asked_at_once or self._table.n_ready >= _MANY_READY:
            batches += _ended(self._table.take())
        self._bring(batches)
        used_s = time.thread_time() - begin_s
        self.source.interval_s = min(_INTERVAL * used_s, _LONGEST_INTERVAL_S)

    def _watch(self, headers: HeaderBatch) -> None:
        """Learns from the DNS answers of packets before these become part of flows."""
        if self._also_watch is not None:
            self._also_watch(headers)
        if self._evidence is None:
            return
        answers = self._read_answers(headers)
        if len(answers):
            with self._evidence_lock:
                self._evidence.learn(answers)

    def _run_timers(self) -> None:
        if self._is_asked:
            self._is_asked = False
            self.open_totals = self._table.open_totals()
        source_ns = self.source.now_ns()
        now_ns = self._table.clock_ns if source_ns is None else source_ns
        if self._decide_after_s is not None and now_ns - self._decided_ns >= _DECIDE_NS:
            self._decided_ns = now_ns
            self._table.decide_after(self._decide_after_s, now_ns)
            self._bring(self._open_ones())
        if source_ns is None:
            return
        if now_ns - self._swept_ns >= _SWEEP_NS:
            self._swept_ns = self._closed_ns = now_ns
            self._bring(_ended(self._table.advance(now_ns)))
        elif now_ns - self._closed_ns >= _CLOSE_NS:
            self._closed_ns = now_ns
            self._bring(_ended(self._table.end_closed(now_ns)))

    def _open_ones(self) -> list[tuple[FlowBatch, str]]:
        """Open flows whose verdict is due, or may be clear."""
        return [
            *((flows, DECIDED) for flows in self._table.take_decided()),
            *((flows, EARLY) for flows in self._table.take_early()),
        ]

    def _bring(self, batches: Sequence[tuple[FlowBatch, str]]) -> None:
        """Hands flows over: first all that they teach is remembered, then each is asked about."""
        if not batches:
            return
        found: list[Found | None] = [None] * len(batches)
        if self._evidence is not None:
            with self._evidence_lock:
                for place, (flows, kind) in enumerate(batches):
                    if "server_name" in flows.columns:  # else it was asked about while it was open
                        found[place] = self._evidence.begin(flows, is_remembered=kind != EARLY)
                for one in found:
                    if one is not None:
                        self._evidence.finish(one)
        self.flows += sum(len(flows) for flows, kind in batches if kind == ENDED)
        self._work.put(
            [
                (flows if said is None else said.flows, kind, said)
                for (flows, kind), said in zip(batches, found, strict=True)
            ]
        )


def _ended(batches: Iterable[FlowBatch]) -> list[tuple[FlowBatch, str]]:
    return [(flows, ENDED) for flows in batches]
