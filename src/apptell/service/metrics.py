"""Counters of the live pipeline, and an HTTP server for Prometheus and health checks.

Text form: prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from apptell.capture.network import check_host
from apptell.errors import OutputError, UsageError
from apptell.records.schema import VERDICT
from apptell.records.summary import FlowCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from apptell.records.schema import Records
    from apptell.service.drift_watch import DriftWatch
    from apptell.service.live_extraction import LiveExtraction
    from apptell.service.shadow import Shadow

_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_SHARES: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)


class Histogram:
    """A Prometheus histogram: cumulative counts of values for each bound, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self.sum = 0.0

    def add(self, values: ArrayLike) -> None:
        """Adds values, shape (n,)."""
        array = np.asarray(values, dtype=np.float64)
        at = np.searchsorted(self.bounds, array, side="left")
        self.counts += np.bincount(at, minlength=len(self.counts))
        self.sum += float(array.sum())

    def lines(self, name: str) -> list[str]:
        """Its samples."""
        running = np.cumsum(self.counts)
        bounds = [*map(str, self.bounds), "+Inf"]
        return [
            *(
                f'{name}_bucket{{le="{bound}"}} {total}'
                for bound, total in zip(bounds, running.tolist(), strict=True)
            ),
            f"{name}_sum {self.sum}",
            f"{name}_count {running[-1]}",
        ]


class Metrics:
    """The counters of a live pipeline; each is changed by only one thread."""

    def __init__(self) -> None:
        self.is_ready = False
        self.packets = 0
        self.bytes = 0
        self.kernel_drops = 0
        self.flows = 0
        """Flows that ended."""
        self.active = 0
        """Open flows."""
        self.open_flows = 0
        """Flows that were decided and have not ended."""
        self.evicted = 0
        self.waiting = 0
        """Flows that wait for identification."""
        self.unreported = 0
        """Flows that were open when the end was requested, and that could not be reported in time."""
        self.outputs: dict[str, dict[str, int]] = {}
        self.delay = Histogram(_BUCKETS_S)
        self.confidence = Histogram(_SHARES)
        self.verdicts: Counter[tuple[str, str]] = Counter()
        self.kinds = FlowCounts()
        """Ended flows by what their traffic is, as a summary of files counts them."""
        self.shadow: Shadow | None = None
        """What compares a challenger with the model; None for no challenger."""
        self.drift: DriftWatch | None = None
        """What compares verdicts with those on held-out flows; None where nobody asks."""
        self.extraction: LiveExtraction | None = None
        """What extracts packets of chosen flows; None where nobody asks."""
        self._model = ""

    def set_model(self, name: str) -> None:
        """The model in use, ``name@hash``."""
        self._model = name

    def delays(self, seconds: ArrayLike) -> None:
        """Adds decision delays, s, shape (n,)."""
        self.delay.add(seconds)

    def count(self, records: Records) -> None:
        """Counts some live records, which are either all verdicts or all ends of flows."""
        if not records.num_rows:
            return
        if records.values("event")[0] != VERDICT:
            self.kinds.add(records)
            return
        self.verdicts.update(
            (app or "", outcome)
            for app, outcome in zip(records.values("app"), records.values("outcome"), strict=True)
        )
        shares = [share for share in records.values("confidence") if share is not None]
        if shares:
            self.confidence.add(shares)

    @property
    def overloaded(self) -> int:
        """Flows declined because there was no time."""
        return sum(n for (_, outcome), n in list(self.verdicts.items()) if outcome == "overloaded")

    def text(self) -> str:
        """All counters in Prometheus' text format."""
        lines: list[str] = []

        def metric(name: str, kind: str, words: str, *samples: str) -> None:
            lines.extend((f"# HELP {name} {words}", f"# TYPE {name} {kind}", *samples))

        for name, kind, words, value in (
            ("packets_total", "counter", "Packets read.", self.packets),
            ("bytes_total", "counter", "Bytes of packets on the wire.", self.bytes),
            ("kernel_drops_total", "counter", "Packets the kernel dropped.", self.kernel_drops),
            ("flows_total", "counter", "Flows that ended.", self.flows),
            (
                "flows_overloaded_total",
                "counter",
                "Flows that there was no time to identify.",
                self.overloaded,
            ),
            (
                "flows_evicted_total",
                "counter",
                "Flows ended because the table was full.",
                self.evicted,
            ),
            ("active_flows", "gauge", "Open flows.", self.active),
            ("decided_flows", "gauge", "Open flows with a verdict.", self.open_flows),
            ("waiting_flows", "gauge", "Flows that wait for identification.", self.waiting),
            ("ready", "gauge", "Whether packets are being read.", int(self.is_ready)),
        ):
            metric(f"apptell_{name}", kind, words, f"apptell_{name} {value}")
        verdicts = (
            f'apptell_verdicts_total{{app="{_escaped(app)}",outcome="{outcome}"}} {n}'
            for (app, outcome), n in sorted(self.verdicts.copy().items())
        )
        metric("apptell_verdicts_total", "counter", "Verdicts by app and outcome.", *verdicts)
        for name, words, histogram in (
            ("decision_delay_seconds", "From the deciding packet to the verdict.", self.delay),
            ("confidence", "Confidence of verdicts.", self.confidence),
        ):
            full = f"apptell_{name}"
            metric(full, "histogram", words, *histogram.lines(full))
        states = (
            f'apptell_output_records_total{{output="{_escaped(output)}",state="{state}"}} {n}'
            for output, counts in self.outputs.items()
            for state, n in counts.items()
            if state != "queued"
        )
        metric("apptell_output_records_total", "counter", "Records by output and fate.", *states)
        queued = (
            f'apptell_output_queued{{output="{_escaped(output)}"}} {counts["queued"]}'
            for output, counts in self.outputs.items()
        )
        metric("apptell_output_queued", "gauge", "Records that wait for an output.", *queued)
        name, _, digest = self._model.rpartition("@")
        sample = f'apptell_model_info{{name="{_escaped(name)}",hash="{_escaped(digest)}"}} 1'
        metric("apptell_model_info", "gauge", "The model in use.", sample)
        self._shadow_text(metric)
        self._extraction_text(metric)
        for name, words, samples in [] if self.drift is None else self.drift.metric_lines(_escaped):
            metric(name, "gauge", words, *samples)
        return "\n".join(lines) + "\n"

    def _extraction_text(self, metric: Callable[..., None]) -> None:
        """The counters of packets that are extracted."""
        if self.extraction is None:
            return
        full = "apptell_extracted_packets_total"
        samples = (
            f'{full}{{state="{state}"}} {n}' for state, n in self.extraction.counts().items()
        )
        metric(full, "counter", "Packets to extract, by fate.", *samples)
        for name, kind, words, value in (
            ("flows_total", "counter", "Flows whose packets are extracted.", self.extraction.flows),
            (
                "flows_lost_total",
                "counter",
                "Chosen flows without room.",
                self.extraction.lost_flows,
            ),
            ("files_total", "counter", "Files of packets begun.", self.extraction.files.n_files),
            ("ring_bytes", "gauge", "Memory of the newest packets.", self.extraction.ring_bytes),
        ):
            full = f"apptell_extracted_{name}"
            metric(full, kind, words, f"{full} {value}")

    def _shadow_text(self, metric: Callable[..., None]) -> None:
        """The counters of a challenger."""
        if self.shadow is None:
            return
        name, _, digest = self.shadow.name.rpartition("@")
        sample = f'apptell_challenger_info{{name="{_escaped(name)}",hash="{_escaped(digest)}"}} 1'
        metric("apptell_challenger_info", "gauge", "The model in the shadow.", sample)
        counts = self.shadow.counts
        full = "apptell_shadow_flows_total"
        fates = (
            ("same", counts.agreed),
            ("other", counts.flows - counts.agreed),
            ("skipped", counts.skipped),
        )
        samples = (f'{full}{{verdict="{fate}"}} {n}' for fate, n in fates)
        metric(full, "counter", "Flows that both models were asked about.", *samples)
        full = "apptell_shadow_named_total"
        metric(
            full, "counter", "Of these, flows that their names identify.", f"{full} {counts.named}"
        )
        full = "apptell_shadow_right_total"
        rights = (("champion", counts.champion_right), ("challenger", counts.challenger_right))
        samples = (f'{full}{{model="{which}"}} {n}' for which, n in rights)
        metric(full, "counter", "Named flows that a model gives to the named app.", *samples)


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def parse_address(text: str) -> tuple[str, int]:
    """Parses ``[HOST:]PORT``; default for the host: loopback.

    Raises:
        UsageError: there is no port, or the host cannot be one.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise UsageError(f"{text!r} does not have the form [HOST:]PORT")
    check_host(host.strip("[]"), text)
    return host.strip("[]") or "127.0.0.1", int(port)


_POLL_S: Final = 0.05
"""Interval at which the server checks whether it has to end."""
CONNECTION_LIMIT_S: Final = 10.0
"""Seconds after which a connection is closed, whatever the client does."""
MOST_CONNECTIONS: Final = 32
"""Maximum number of concurrent connections; further ones are closed immediately."""


class _Server(ThreadingHTTPServer):
    """A server that slow, broken or numerous clients cannot block."""

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves the connection in a thread, unless there are too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves one connection, within its time."""
        limit = threading.Timer(CONNECTION_LIMIT_S, _cut, (request,))
        limit.daemon = True
        limit.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            limit.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores errors of clients that disconnect."""


def _cut(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class MetricsServer:
    """``/metrics``, ``/healthz`` and ``/readyz`` over HTTP; a context manager.

    Args:
        address: host and port; port 0 takes a free one.
        metrics: what to show.

    Raises:
        OutputError: the port is not available.
    """

    def __init__(self, address: tuple[str, int], metrics: Metrics) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = CONNECTION_LIMIT_S

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def _answer(self, *, with_body: bool) -> None:
                status, kind, body = _answer(self.path, metrics)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def version_string(self) -> str:
                return "apptell"

            def log_message(self, *_: Any) -> None:
                """Scrapes are not logged."""

        try:
            self._server = _Server(address, Handler)
        except OSError as error:
            raise OutputError(f"{address[0]}:{address[1]}: {error.strerror or error}") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(path: str, metrics: Metrics) -> tuple[int, str, bytes]:
    plain = "text/plain; charset=utf-8"
    if path == "/metrics":
        return 200, "text/plain; version=0.0.4; charset=utf-8", metrics.text().encode()
    if path == "/healthz":
        return 200, plain, b"ok\n"
    if path == "/readyz":
        return (200, plain, b"ready\n") if metrics.is_ready else (503, plain, b"not ready\n")
    return 404, plain, b"not found\n"
