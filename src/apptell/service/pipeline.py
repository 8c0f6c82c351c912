"""A source and a model in, live records to every output out: the packet path and what follows it.

One thread reads packets, decodes them and keeps the flow table; it never waits for a model or an output. A
second one identifies flows, in micro-batches. Each output has a thread and a queue of its own.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from apptell.flows import FlowOptions, FlowTable
from apptell.packets import Decoder, Reassembler
from apptell.service.decisions import Decisions
from apptell.service.metrics import Metrics
from apptell.service.work import WorkQueue

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence

    from apptell.capture import PacketBatch
    from apptell.flows import FlowBatch
    from apptell.models import Model
    from apptell.service.outputs import QueuedOutput
    from apptell.service.sources import Source

STOP_S: Final = 1.5
"""How long ending may take when it was asked for; what is not written by then is counted as dropped."""
_DECIDE_NS: Final = 250_000_000
_SWEEP_NS: Final = 1_000_000_000
_DROPS_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live pipeline works."""

    flows: FlowOptions = field(
        default_factory=lambda: FlowOptions(
            groups=("core", "segments", "names"), lists_decided=True
        )
    )
    """How packets become flows; ``lists_decided`` must be on."""
    threshold: float | None = None
    """Smallest accepted confidence; the model's own, else 0.85, unless given."""
    decide_after_s: float | None = None
    """Age at which a flow with at least two payload packets is decided; None waits for five or its end."""
    max_waiting: int = 8192
    """Flows that may wait for identification."""
    batch_flows: int = 256
    """Most flows identified at once."""
    delay_s: float = 0.005
    """Longest wait for others to be identified with."""


class LivePipeline:
    """Names the app of each flow while it is young; runs once.

    Args:
        source: where packets come from.
        model: decides.
        outputs: get every record.
        options: how it works.
        metrics: counts; made unless given.
    """

    def __init__(
        self,
        source: Source,
        model: Model,
        outputs: Sequence[QueuedOutput],
        options: LiveOptions | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.options = options or LiveOptions()
        self.metrics = metrics or Metrics()
        self._source = source
        self._outputs = outputs
        self._decoder = Decoder(self.options.flows.tunnels)
        clean = self.options.flows.mode == "clean"
        self._reassembler = Reassembler(self._decoder) if clean else None
        self._table = FlowTable(self.options.flows)
        self._decisions = Decisions(model, self.options.threshold)
        self._work = WorkQueue(self.options.max_waiting, is_lossless=source.is_lossless)
        self._deadline_s: float | None = None
        self._decided_ns = 0
        self._swept_ns = 0
        self._metered_s = 0.0
        self.metrics.set_model(f"{model.name}@{model.hash}")

    def replace_model(self, model: Model) -> None:
        """From now on another model decides; no flow is lost, and those decided keep their app."""
        self._decisions.model = model
        self.metrics.set_model(f"{model.name}@{model.hash}")

    def run(self, stop: threading.Event) -> None:
        """Works until the source ends or ``stop`` is set; then hands out what is open and ends the outputs.

        Raises:
            CaptureError: the source is damaged or gone; after everything before it was written.
            BrokenPipeError: every output was standard output, and its reader has gone.
        """
        with ThreadPoolExecutor(1, "identify") as pool:
            deciding = pool.submit(self._decide)
            try:
                self.metrics.is_ready = True
                for batch in self._source.batches():
                    if batch is not None and len(batch):
                        self._add(batch)
                    self._run_timers()
                    if stop.is_set() or deciding.done() or self._are_outputs_gone():
                        break
            finally:
                if stop.is_set():
                    self._deadline_s = time.monotonic() + STOP_S
                self._meter()
                self._source.close()
                self._bring(self._table.take_decided(), has_ended=False)
                self._bring(self._table.finish(), has_ended=True)
                self._work.close()
                try:
                    deciding.result()
                finally:
                    self.metrics.is_ready = False
                    for output in self._outputs:
                        output.close(self._deadline_s)
        if self._are_outputs_gone():
            raise BrokenPipeError

    def _are_outputs_gone(self) -> bool:
        return bool(self._outputs) and all(output.is_gone for output in self._outputs)

    def _add(self, packets: PacketBatch) -> None:
        headers = self._decoder(packets)
        self.metrics.packets += len(packets)
        self.metrics.bytes += int(packets.wire.sum())
        for whole in self._reassembler(headers) if self._reassembler else (headers,):
            ended = self._table.add(whole, self._source.name, packets.owners)
            self._bring(ended, has_ended=True)
        self._bring(self._table.take_decided(), has_ended=False)

    def _run_timers(self) -> None:
        now_s = time.monotonic()
        if now_s - self._metered_s >= _DROPS_S:
            self._metered_s = now_s
            self._meter()
        told = self._source.now_ns()
        now_ns = self._table.clock_ns if told is None else told
        if self.options.decide_after_s is not None and now_ns - self._decided_ns >= _DECIDE_NS:
            self._decided_ns = now_ns
            self._table.decide_after(self.options.decide_after_s, now_ns)
            self._bring(self._table.take_decided(), has_ended=False)
        if told is not None and now_ns - self._swept_ns >= _SWEEP_NS:
            self._swept_ns = now_ns
            self._bring(self._table.advance(now_ns), has_ended=True)

    def _bring(self, batches: Iterable[FlowBatch], *, has_ended: bool) -> None:
        for flows in batches:
            if has_ended:
                self.metrics.flows += len(flows)
            self._work.put(flows, has_ended=has_ended)

    def _meter(self) -> None:
        self.metrics.kernel_drops = self._source.dropped()
        self.metrics.evicted = self._table.n_evicted
        self.metrics.waiting = self._work.n_flows
        self.metrics.outputs = {output.name: output.counts() for output in self._outputs}

    def _decide(self) -> None:
        """The identifying thread."""
        options, decisions = self.options, self._decisions
        try:
            while works := self._work.gather(options.batch_flows, options.delay_s):
                for work in works:
                    late = self._deadline_s is not None and time.monotonic() > self._deadline_s
                    make = decisions.ended if work.has_ended else decisions.young
                    for records in make(work.flows, overloaded=work.is_overloaded or late):
                        for output in self._outputs:
                            output.put(records)
                        self.metrics.count(records)
                    if not work.has_ended:
                        self._time(work.flows, work.since_s)
                self.metrics.open_flows = decisions.n_open
        finally:
            self._work.abandon()

    def _time(self, flows: FlowBatch, since_s: float) -> None:
        """Decision delays: since the deciding packet for interfaces, else since the flows came."""
        if self._source.is_live:
            self.metrics.delays((time.time_ns() - flows.numpy("decided_ns")) / 1e9)
        else:
            self.metrics.delays([time.monotonic() - since_s] * len(flows))
