"""Reads the counters of a running ``live`` from its ``/metrics``, for the page Now."""

from __future__ import annotations

import http.client
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, Self

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Mapping

EVERY_S: Final = 2.0
_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 16 << 20
_MOST_ALARMS: Final = 100
_LONGEST: Final = 256
Samples = dict[str, list[tuple[dict[str, str], float]]]
"""Name of a sample to its labels and values."""


class LiveMetrics:
    """The newest counters of a running ``live``; a context manager.

    Args:
        address: host and port of its ``--metrics``.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.fault = ""
        """Why there are no new counters; empty while there are."""
        self.is_ready = False
        self._address = address
        self._counts: dict[str, Any] = {}
        self._before = (0.0, 0.0, 0.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics of live", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_TIMEOUT_S)

    def counts(self) -> Mapping[str, Any]:
        """The counters as the page shows them; empty while there are none."""
        return self._counts

    def read(self) -> None:
        """Reads the counters once."""
        try:
            samples = _samples(_fetch(self._address))
        except (OSError, http.client.HTTPException, ValueError) as error:
            host, port = self._address
            self.fault = f"no counters of apptell live at {host}:{port}: {error}"
            self._counts, self.is_ready = {}, False
            return
        now, packets, n_bytes = (
            time.monotonic(), _sum(samples, "packets_total"), _sum(samples, "bytes_total")
        )  # fmt: skip
        passed = now - self._before[0]
        is_first = not self._before[0] or packets < self._before[1]  # or another live
        rates = (0.0, 0.0) if is_first else (
            (packets - self._before[1]) / passed, (n_bytes - self._before[2]) / passed
        )  # fmt: skip
        self._before = (now, packets, n_bytes)
        self.fault, self.is_ready = "", _sum(samples, "ready") > 0
        self._counts = {
            "packets_per_s": round(rates[0], 1),
            "bytes_per_s": round(rates[1], 1),
            **{
                name: int(_sum(samples, metric))
                for name, metric in (
                    ("packets", "packets_total"),
                    ("bytes", "bytes_total"),
                    ("open_flows", "active_flows"),
                    ("ended_flows", "flows_total"),
                    ("waiting_flows", "waiting_flows"),
                    ("kernel_drops", "kernel_drops_total"),
                    ("overloaded", "flows_overloaded_total"),
                    ("evicted", "flows_evicted_total"),
                )
            },
            "delay_p50_s": _quantile(samples, 0.5),
            "delay_p99_s": _quantile(samples, 0.99),
            "drift": _drift(samples),
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            self.read()
            self._stop.wait(EVERY_S)


def _fetch(address: tuple[str, int]) -> str:
    """The text of ``/metrics``.

    Raises:
        OSError: nobody answers.
        HTTPException: the answer is not HTTP.
        ValueError: the answer is not that of ``/metrics``.
    """
    connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        content = answer.read(_MOST_BYTES + 1)
    finally:
        connection.close()
    if answer.status != 200 or len(content) > _MOST_BYTES:
        raise ValueError(f"the answer has status {answer.status} and {len(content):,} bytes")
    return content.decode("utf-8", "replace")


def _samples(text: str) -> Samples:
    found: Samples = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append((sample.labels, float(sample.value)))
    return found


def _sum(samples: Samples, name: str) -> float:
    return sum(value for _, value in samples.get(f"apptell_{name}", []))


def _quantile(samples: Samples, share: float) -> float | None:
    """The upper bound of the bucket of delays in which a share is reached; None without delays."""
    buckets = samples.get("apptell_decision_delay_seconds_bucket", [])
    bounds = sorted((float(labels["le"]), value) for labels, value in buckets if "le" in labels)
    if not bounds or not bounds[-1][1]:
        return None
    finite = [bound for bound, _ in bounds if bound != float("inf")]
    return next(
        (bound for bound, value in bounds if value >= share * bounds[-1][1] and bound in finite),
        finite[-1] if finite else None,
    )


def _drift(samples: Samples) -> dict[str, Any] | None:
    """The drift as the page shows it; None where it was not measured."""
    if "apptell_drift_flows" not in samples:
        return None
    rises = {
        labels.get("app", ""): value for labels, value in samples.get("apptell_drift_rise", [])
    }
    alarms = samples.get("apptell_drift_alarm", [])
    return {
        "flows": int(_sum(samples, "drift_flows")),
        "apps": len(alarms),
        "alarms": [
            {"app": labels.get("app", "")[:_LONGEST], "rise": rises.get(labels.get("app", ""), 0.0)}
            for labels, value in alarms
            if value
        ][:_MOST_ALARMS],
    }
