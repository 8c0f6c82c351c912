"""A source in, flows for identification out: decoder, reassembly and flow table of one capturing thread.

It never waits for a model or an output, unless its source waits for it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from apptell.flows import Assembly
from apptell.names import add_names
from apptell.names.dns import DnsReader
from apptell.service.work import DECIDED, EARLY, ENDED

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

    from apptell.capture import PacketBatch
    from apptell.flows import FlowBatch, FlowOptions
    from apptell.packets import HeaderBatch
    from apptell.service.ending import Ending
    from apptell.service.sources import PacketSource
    from apptell.service.work import WorkQueue

_DECIDE_NS: Final = 250_000_000
_SWEEP_NS: Final = 1_000_000_000
_CLOSE_NS: Final = 100_000_000
_MANY_READY: Final = 256
"""Ended flows that are brought at once: before the table hands them out ahead of verdicts that are due."""


class PacketPath:
    """Takes a source's packets until it ends.

    Args:
        source: where packets come from.
        options: how they become flows.
        decide_after_s: age at which a flow with at least two payload packets is decided, s; None for never.
        work: gets the flows.
        reads_answers: whether it gets DNS answers too.
    """

    def __init__(
        self,
        source: PacketSource,
        options: FlowOptions,
        decide_after_s: float | None,
        work: WorkQueue,
        *,
        reads_answers: bool = False,
    ) -> None:
        self.source = source
        self.packets = 0
        """Packets read."""
        self.bytes = 0
        """Their bytes on the wire."""
        self.flows = 0
        """Flows that ended."""
        self.unreported = 0
        """Open flows that were left when there was no more time."""
        self.ending: Ending | None = None
        """By when to be done, once the end was asked for."""
        self._decide_after_s = decide_after_s
        self._work = work
        self._read_answers = DnsReader() if reads_answers else None
        self._assembly = Assembly(
            replace(options, reports_once=True), add_names=add_names, watch=self._watch
        )
        self._table = self._assembly.table
        self.open_totals = self._table.open_totals()
        """What open flows had moved when they were last asked for."""
        self._is_asked = False
        self._decided_ns = 0
        self._swept_ns = 0
        self._closed_ns = 0

    @property
    def evicted(self) -> int:
        """Flows that were ended for want of room."""
        return self._table.n_evicted

    @property
    def active(self) -> int:
        """Open flows."""
        return self._table.n_active

    def ask_open_totals(self) -> None:
        """Has ``open_totals`` made anew, by the thread that keeps the table."""
        self._is_asked = True

    def decide_at(self, packets: int) -> None:
        """From now on verdicts are due after so many payload packets."""
        self._table.options = replace(self._table.options, decision_packets=packets)

    def run(self, stop: threading.Event) -> None:
        """Works until the source ends or ``stop`` is set; then hands out what is open.

        Raises:
            CaptureError: the source is damaged or gone; after everything before it was handed out.
        """
        try:
            for batch in self.source.batches():
                if batch is not None and len(batch):
                    self._add(batch)
                self._run_timers()
                if stop.is_set():
                    break
        finally:
            self._bring_open()
            for flows in self._table.finish(is_shutdown=self.ending is not None):
                self._bring([flows], ENDED)
                if self.ending is not None and time.monotonic() > self.ending.tell_s:
                    self.unreported = self._table.n_ready
                    break

    def _add(self, packets: PacketBatch) -> None:
        self.packets += len(packets)
        self.bytes += int(packets.wire.sum())
        ended = self._assembly.add(packets, self.source.name)
        self._bring(ended, ENDED)
        self._bring_open()
        if self._table.n_ready >= _MANY_READY:
            self._bring(self._table.take(), ENDED)

    def _watch(self, headers: HeaderBatch) -> None:
        """Brings the DNS answers of packets before the flows that they become part of."""
        if self._read_answers is not None:
            answers = self._read_answers(headers)
            if len(answers):
                self._work.put_answers(answers)

    def _run_timers(self) -> None:
        if self._is_asked:
            self._is_asked = False
            self.open_totals = self._table.open_totals()
        source_ns = self.source.now_ns()
        now_ns = self._table.clock_ns if source_ns is None else source_ns
        if self._decide_after_s is not None and now_ns - self._decided_ns >= _DECIDE_NS:
            self._decided_ns = now_ns
            self._table.decide_after(self._decide_after_s, now_ns)
            self._bring_open()
        if source_ns is None:
            return
        if now_ns - self._swept_ns >= _SWEEP_NS:
            self._swept_ns = now_ns
            self._bring(self._table.advance(now_ns), ENDED)
        elif now_ns - self._closed_ns >= _CLOSE_NS:
            self._closed_ns = now_ns
            self._bring(self._table.end_closed(now_ns), ENDED)

    def _bring_open(self) -> None:
        self._bring(self._table.take_decided(), DECIDED)
        self._bring(self._table.take_early(), EARLY)

    def _bring(self, batches: Iterable[FlowBatch], kind: str) -> None:
        for flows in batches:
            if kind == ENDED:
                self.flows += len(flows)
            self._work.put(flows, kind)
