"""Runs the live pipeline beside the pages, and turns its board and counters into what the pages show."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from apptell.errors import ApptellError
from apptell.records.forms import form_of_name
from apptell.service import LivePipeline, QueuedOutput
from apptell.service.drift_watch import DriftWatch
from apptell.service.metrics import Metrics
from apptell.service.outputs.folder import Folder
from apptell.web.now_board import NowBoard
from apptell.web.now_views import EVERY_S, NowViews

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from apptell.models import Model
    from apptell.service import LiveOptions, PacketSource
    from apptell.service.metrics import Histogram

RECORDS_S: Final = 20.0
"""Age at which a file of records is written."""
_END_S: Final = 8.0
_MOST_ALARMS: Final = 100


class NowFeed:
    """The live pipeline of a server; a context manager.

    Args:
        name: of the source, for people.
        pipeline: whose output is the board.
        board: of the last minutes.
        metrics: of the pipeline.
        say: called with one line when the source fails.
    """

    def __init__(
        self,
        name: str,
        pipeline: LivePipeline,
        board: NowBoard,
        metrics: Metrics,
        say: Callable[[str], None],
    ) -> None:
        self.name = name
        self.metrics = metrics
        self.fault = ""
        """Why the source ended, if it failed."""
        self.has_ended = False
        self._pipeline, self._board, self._say = pipeline, board, say
        self._stop = threading.Event()
        self._views = NowViews(board)
        self._before = (time.monotonic(), 0, 0)
        self._rates = (0.0, 0.0)
        self._threads = [
            threading.Thread(target=self._run, name="pipeline", daemon=True),
            threading.Thread(target=self._watch, name="meter", daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        if self.metrics.drift is not None:
            self.metrics.drift.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_END_S)
        if self.metrics.drift is not None:
            self.metrics.drift.close()

    def _run(self) -> None:
        try:
            self._pipeline.run(self._stop)
        except (ApptellError, OSError) as error:
            self.fault = str(error)
            self._say(self.fault)
        self._board.end()
        self.has_ended = True

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_S) and not self.has_ended:
            self._board.meter(self._pipeline.open_totals())
            now, packets, n_bytes = time.monotonic(), self.metrics.packets, self.metrics.bytes
            passed = max(now - self._before[0], 1e-3)
            self._rates = (packets - self._before[1]) / passed, (n_bytes - self._before[2]) / passed
            self._before = (now, packets, n_bytes)
        self._rates = (0.0, 0.0)

    @property
    def is_ready(self) -> bool:
        """Whether packets are being read."""
        return self.metrics.is_ready

    def text(self, wanted: Mapping[str, str]) -> str:
        """A view as JSON in one line, at most a second old.

        Args:
            wanted: as in ``NowBoard.view``.
        """
        return self._views.text(wanted, self.counts)

    def metrics_text(self) -> str:
        """The counters of the pipeline in Prometheus' text form."""
        return self.metrics.text()

    def counts(self) -> dict[str, Any]:
        """The counters of the pipeline."""
        metrics = self.metrics
        return {
            "source": self.name,
            "state": "ended" if self.has_ended else "reading" if metrics.is_ready else "starting",
            "fault": self.fault,
            "packets_per_s": round(self._rates[0], 1),
            "bytes_per_s": round(self._rates[1], 1),
            "packets": metrics.packets,
            "bytes": metrics.bytes,
            "open_flows": metrics.active,
            "ended_flows": metrics.flows,
            "waiting_flows": metrics.waiting,
            "kernel_drops": metrics.kernel_drops,
            "overloaded": metrics.overloaded,
            "evicted": metrics.evicted,
            "delay_p50_s": quantile(metrics.delay, 0.5),
            "delay_p99_s": quantile(metrics.delay, 0.99),
            "has_counters": True,
            "drift": _drift(metrics.drift),
        }


def _drift(watch: DriftWatch | None) -> dict[str, Any] | None:
    """The last measurement of drift; None where there is none."""
    found = None if watch is None else watch.report
    if found is None:
        return None
    alarms = [{"app": each.app, "rise": round(each.rise, 4)} for each in found.alarms]
    return {"flows": found.flows, "apps": len(found.apps), "alarms": alarms[:_MOST_ALARMS]}


def quantile(histogram: Histogram, share: float) -> float | None:
    """The upper bound of the bucket in which a share of the values is reached; None without values.

    Values beyond the last bound give the last bound.
    """
    running = np.cumsum(histogram.counts)
    if not running[-1]:
        return None
    at = int(np.searchsorted(running, share * running[-1]))
    return float(histogram.bounds[min(at, len(histogram.bounds) - 1)])


def open_feed(
    name: str,
    sources: Sequence[PacketSource],
    model: Model | None,
    options: LiveOptions,
    records: Path | None,
    say: Callable[[str], None],
) -> NowFeed:
    """The live pipeline with a board as its output, and with a folder of records where one is named.

    Args:
        name: of the source, for people.
        sources: of packets.
        model: decides the flows that evidence does not.
        options: of the pipeline.
        records: folder that Parquet files are written to; None for none.
        say: called with one line when the source fails.

    Raises:
        OutputError: the folder cannot be made.
    """
    is_lossless = all(source.is_lossless for source in sources)
    board, metrics = NowBoard(), Metrics()
    if model is not None:
        metrics.drift = DriftWatch(say)
    outputs = [QueuedOutput("page", board, is_lossless=is_lossless)]
    if records is not None:
        folder = Folder(records, form_of_name("parquet"), seconds=RECORDS_S)
        outputs.append(QueuedOutput(f"parquet:{records}", folder, is_lossless=is_lossless))
    pipeline = LivePipeline(sources, model, outputs, options, metrics)
    return NowFeed(name, pipeline, board, metrics, say)
