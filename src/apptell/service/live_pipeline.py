"""The live pipeline: packet paths, identification and outputs in their threads.

For each source, one thread reads packets, decodes them and keeps a flow table; it never waits for a model or
an output. Another thread identifies the flows of all sources in micro-batches. Each output has its own thread
and queue. The thread that runs the pipeline only monitors.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import ModelError
from apptell.flows import FlowOptions
from apptell.records.stage import RecordStage
from apptell.service.decisions import Decisions
from apptell.service.ending import Ending
from apptell.service.metrics import Metrics
from apptell.service.packet_path import PacketPath
from apptell.service.work import DECIDED, ENDED, WorkQueue
from apptell.verdicts.novelty import check_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.models import Model
    from apptell.records.schema import Records
    from apptell.service.live_extraction import LiveExtraction
    from apptell.service.outputs import QueuedOutput
    from apptell.service.shadow import Shadow
    from apptell.service.sources import PacketSource
    from apptell.service.work import Work
    from apptell.verdicts import ContextOptions, Evidence

_WATCH_S: Final = 0.1
_METER_S: Final = 1.0
_LATE_FLOWS: Final = 4096
"""Flows that are reported in one batch if there is no time to identify them."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """Options of a live pipeline."""

    flows: FlowOptions = field(
        default_factory=lambda: FlowOptions(
            groups=("core", "segments", "names"), lists_decided=True
        )
    )
    """How packets become flows; ``lists_decided`` must be on. With ``lists_early`` verdicts may come early."""
    threshold: float | None = None
    """Smallest accepted confidence; default: the model's own, else 0.85."""
    decide_after_s: float | None = None
    """Age at which a flow with at least two payload packets is decided; None waits for packets or the end."""
    context: ContextOptions | None = None
    """How a client's flows are re-weighted by those decided before; None to decide each flow
    independently.
    """
    evidence: Evidence | None = None
    """Names, DNS answers, addresses and ranges, which precede the model; None for only the model."""
    unknown: float | None = None
    """Share of flows of the model's apps that may be called unknown; None calls none so."""
    all_flows: bool = False
    """Whether flows with too few payload packets are reported, too; needs the group *link* in ``flows``."""
    stage: RecordStage = field(default_factory=RecordStage)
    """What happens to records before the outputs get them; metrics count all records."""
    extraction: LiveExtraction | None = None
    """Extracts the packets of the flows that ``stage`` selects; the pipeline ends it. None extracts nothing."""
    max_waiting: int = 8192
    """Flows that may wait for identification."""
    batch_flows: int = 256
    """Most flows identified at once."""
    delay_s: float = 0.0
    """Maximum time that a flow waits for others to form a batch. Flows come in batches (``PacketPath``), and
    further ones gather while others are identified."""


class LivePipeline:
    """Identifies the app of each flow while the flow is open. It can run once.

    Args:
        sources: where packets come from; several share the packets of one interface.
        model: decides the flows that evidence does not; None for only evidence.
        outputs: each gets every record.
        options: options of the pipeline.
        metrics: counters; default: new ones.
    """

    def __init__(
        self,
        sources: Sequence[PacketSource],
        model: Model | None,
        outputs: Sequence[QueuedOutput],
        options: LiveOptions | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.options = options or LiveOptions()
        self.metrics = metrics or Metrics()
        self._outputs = outputs
        evidence = self.options.evidence
        self._decisions = Decisions(
            model,
            self.options.threshold,
            self.options.context,
            evidence,
            self.options.unknown,
            all_flows=self.options.all_flows,
        )
        lossless = all(source.is_lossless for source in sources)
        self._is_live = all(source.is_live for source in sources)
        self._work = WorkQueue(self.options.max_waiting, is_lossless=lossless)
        evidence_lock = threading.Lock()
        self._extraction = extraction = self.options.extraction
        self._paths = [
            PacketPath(
                source,
                self.options.flows,
                self.options.decide_after_s,
                self._work,
                evidence=evidence,
                evidence_lock=evidence_lock,
                watch=self.options.stage.watch,
                keep=None if extraction is None else extraction.keep,
            )
            for source in sources
        ]
        self._ending: Ending | None = None
        self._unreported = 0
        self._shadow: Shadow | None = None
        self._drift = self.metrics.drift
        if model is not None:
            self.replace_model(model)

    def replace_model(self, model: Model) -> None:
        """Replaces the model. No flow is lost, and flows that are already decided keep their app.

        Raises:
            UsageError: unknown apps are to be recognised, and the model was not trained for it.
        """
        check_rate(self.options.unknown, model)
        self._decisions.model = model
        for path in self._paths:
            path.decide_at(model.decision_packets)
        self.metrics.set_model(f"{model.name}@{model.hash}")
        if self._drift is not None:
            self._drift.watch(model)

    def shadow(self, shadow: Shadow | None) -> None:
        """Compares a challenger with the model from now on; None for none. The caller closes the one before."""
        self._shadow = self.metrics.shadow = shadow

    def open_totals(self) -> NDArray[Any]:
        """The totals of open flows at the last call, as ``FlowTable.open_totals`` returns them."""
        for path in self._paths:
            path.ask_open_totals()
        return np.concatenate([path.open_totals for path in self._paths])

    def run(self, stop: threading.Event) -> None:
        """Works until the sources end or ``stop`` is set; then reports open flows and ends the outputs.

        Raises:
            CaptureError: a source is damaged or gone; after everything before it was written.
            BrokenPipeError: the only output was standard output, and its reader has closed it.
        """
        halt = threading.Event()
        with ThreadPoolExecutor(len(self._paths) + 1, "apptell") as pool:
            deciding = pool.submit(self._decide)
            reading = [pool.submit(path.run, halt) for path in self._paths]
            try:
                self.metrics.is_ready = True
                metered_s = 0.0
                while wait(reading, _WATCH_S, FIRST_EXCEPTION).not_done:
                    if time.monotonic() - metered_s >= _METER_S:
                        metered_s = time.monotonic()
                        self._meter()
                    failed = any(read.done() and read.exception() for read in reading)
                    if stop.is_set() or failed or deciding.done() or self._are_outputs_gone():
                        break
            finally:
                self._heed(stop)
                halt.set()
                wait(reading)
                self._meter()
                for path in self._paths:
                    path.source.close()
                self._work.close()
                while wait([deciding], _WATCH_S).not_done:
                    self._heed(stop)
                try:
                    deciding.result()
                    for read in reading:
                        read.result()
                finally:
                    self.metrics.is_ready = False
                    self._end_outputs(stop)
                    self._meter()
        if self._are_outputs_gone():
            raise BrokenPipeError

    def _heed(self, stop: threading.Event) -> None:
        """Sets the deadlines of the remaining work when the end is requested."""
        if stop.is_set() and self._ending is None:
            self._ending = Ending.from_now()
            for path in self._paths:
                path.ending = self._ending
            for output in self._outputs:
                output.end_by(self._ending.write_s)
            if self._extraction is not None:
                self._extraction.end_by(self._ending.write_s)

    def _end_outputs(self, stop: threading.Event) -> None:
        """Ends all outputs concurrently, so that a stalled one takes no time from the others."""
        for output in self._outputs:
            output.end()
        extraction = self._extraction
        if extraction is not None:
            extraction.end()
        pause_s = _WATCH_S / 100
        while any(output.is_busy for output in self._outputs) or (
            extraction is not None and extraction.is_busy
        ):
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _WATCH_S / 5)
            self._heed(stop)
        for output in self._outputs:
            output.close(None if self._ending is None else self._ending.write_s)
        if extraction is not None:
            extraction.close()

    def _are_outputs_gone(self) -> bool:
        return bool(self._outputs) and all(output.is_gone for output in self._outputs)

    def _meter(self) -> None:
        """Sums the counters of the packet paths."""
        metrics, paths = self.metrics, self._paths
        metrics.packets = sum(path.packets for path in paths)
        metrics.bytes = sum(path.bytes for path in paths)
        metrics.flows = sum(path.flows for path in paths)
        metrics.active = sum(path.active for path in paths)
        metrics.evicted = sum(path.evicted for path in paths)
        metrics.kernel_drops = sum(path.source.dropped() for path in paths)
        metrics.waiting = self._work.n_flows
        metrics.unreported = sum(path.unreported for path in paths) + self._unreported
        metrics.extraction = self._extraction
        metrics.outputs = {output.name: output.counts() for output in self._outputs}

    def _decide(self) -> None:
        """Runs in the thread that identifies flows."""
        options, decisions = self.options, self._decisions
        try:
            is_late = False
            while works := self._work.gather(
                _LATE_FLOWS if is_late else options.batch_flows, options.delay_s
            ):
                if self._ending is not None:
                    is_late = time.monotonic() > self._ending.identify_s
                    if time.monotonic() > self._ending.tell_s:
                        self._unreported += sum(len(w.flows) for w in works if w.kind == ENDED)
                        continue
                shadow, model = self._shadow, decisions.model
                if shadow is not None and model is not None and not is_late:
                    shadow.add(works, model)
                if self._drift is not None and not is_late:
                    self._drift.add_named(works)
                for records in self._records(works, is_late=is_late):
                    self.metrics.count(records)
                    if self._drift is not None:
                        self._drift.add(records)
                    if options.extraction is not None:
                        options.extraction.tell(records, options.stage.wanted)
                    selected = options.stage(records)
                    for output in self._outputs:
                        output.put(selected)
                self._time(works)
                self.metrics.open_flows = decisions.n_open
        finally:
            self._work.abandon()

    def _records(self, works: Sequence[Work], *, is_late: bool) -> list[Records]:
        """The records of some flows. A run of the model that the end cut short leaves them overloaded."""
        try:
            return list(self._decisions.records(works, overloaded=is_late))
        except ModelError:
            if self._ending is None:
                raise
            return list(self._decisions.records(works, overloaded=True))

    def _time(self, works: Sequence[Work]) -> None:
        """Records decision delays: since the deciding packet, or without a clock since the flows arrived."""
        for work in works:
            if work.kind != DECIDED:
                continue
            if self._is_live:
                self.metrics.delays((time.time_ns() - work.flows.numpy("decided_ns")) / 1e9)
            else:
                self.metrics.delays([time.monotonic() - work.since_s] * len(work.flows))
