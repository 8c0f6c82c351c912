"""Keeps what the last minutes transferred, from live records and open flows, for a page that moves.

It is an output of the live pipeline like any other: it has its own queue and thread, so pages never
slow the path of packets. The sums of the window are in arrays (``window_sums``).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from apptell.records.forms.jsonl import json_lines
from apptell.records.schema import END, VERDICT
from apptell.verdicts.schema import OTHER
from apptell.web.window_sums import Traits, WindowSums

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

STEP_S: Final = 2
N_STEPS: Final = 150
"""Steps that are kept: five minutes."""
_MOST_OPEN: Final = 300_000
_LATEST: Final = 200
"""Verdicts that are remembered, so that a narrowed view has some as well."""
_LISTED: Final = 20
_TOP: Final = 8
_COLUMNS: Final = (
    "event", "connection_id", "part", "client_address", "app", "app_name", "category", "service",
    "outcome", "bytes_to_server", "bytes_to_client",
)  # fmt: skip


@dataclass(slots=True)
class _Young:
    """An open flow, and how many of its bytes are counted."""

    traits: Traits
    bytes: int


class NowBoard:
    """Bytes and flows of the last minutes.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.extra: dict[str, int] = {}
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int], _Young] = {}
        self._sums = WindowSums(N_STEPS)
        self._latest: deque[tuple[Traits, str]] = deque(maxlen=_LATEST)

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds records."""
        columns = (batch.column(name).to_pylist() for name in _COLUMNS)
        with self._lock:
            self._sums.move_to(self._now())
            for event, connection, part, *names, sent, received in zip(*columns, strict=True):
                traits, n_bytes = Traits(*names), sent + received
                flow = self._open.get((connection, part))
                if event == END:
                    self._open.pop((connection, part), None)
                self._sums.add(traits, n_bytes - (flow.bytes if flow else 0), int(flow is None))
                if event == END:
                    continue
                if flow is not None or len(self._open) < _MOST_OPEN:
                    self._open[connection, part] = _Young(traits, n_bytes)
            if batch.num_rows and batch.column("event")[0].as_py() == VERDICT:
                last = batch.slice(max(batch.num_rows - _LATEST, 0))
                names = [last.column(name).to_pylist() for name in _COLUMNS[3:9]]
                for line, *values in zip(json_lines(last), *names, strict=True):
                    self._latest.appendleft((Traits(*values), line))

    def forget_open(self) -> None:
        """Forgets which flows are open, because the numbers of connections begin anew."""
        with self._lock:
            self._open.clear()

    def tick(self) -> None:
        """Does nothing, because no records are held back."""

    def close(self) -> None:
        """Does nothing, because nothing is open."""

    def meter(self, totals: NDArray[Any]) -> None:
        """Takes the totals of open flows so far, as ``FlowTable.open_totals`` returns them."""
        columns = (totals[name].tolist() for name in totals.dtype.names or ())
        with self._lock:
            self._sums.move_to(self._now())
            for connection, part, _, n_bytes in zip(*columns, strict=True):
                flow = self._open.get((connection, part))
                if flow is not None and n_bytes > flow.bytes:
                    self._sums.add(flow.traits, n_bytes - flow.bytes, 0)
                    flow.bytes = n_bytes

    def view(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        """The last minutes of the flows with these values.

        Args:
            wanted: value for each of some names of ``NARROWED``.
        """
        with self._lock:
            now = self._now()
            self._sums.move_to(now)
            window = self._sums.of(wanted)
            latest = [line for traits, line in self._latest if traits.fits(wanted)]
        first = now - N_STEPS + 1
        over_time, labels = window.over_time, window.labels
        ranked = sorted(over_time, key=lambda key: (-sum(over_time[key]), key))
        flows = window.flows_over_time
        series = [
            {"key": key, "label": labels[key], "bytes": over_time[key], "flows": flows[key]}
            for key in ranked[:_TOP]
        ]
        return {
            "step_s": STEP_S,
            "start_s": first * STEP_S,
            "n_steps": N_STEPS,
            "series": series,
            "rest": _sum_of([over_time[key] for key in ranked[_TOP:]]),
            "rest_flows": _sum_of([flows[key] for key in ranked[_TOP:]]),
            "top": {
                name: _top(found, labels if name == "app" else {})
                for name, found in window.by.items()
            },
            "bytes": sum(map(sum, over_time.values())),
            "flows": sum(n for _, n in window.by["outcome"].values()),
            "named": sum(n for app, (_, n) in window.by["app"].items() if app not in ("", OTHER)),
            "background": window.by["app"].get(OTHER, [0, 0])[1],
            "latest": latest[:_LISTED],
        }

    def end(self) -> None:
        """Stops the time of the board: the last minutes of a source that has ended stay."""
        at = self._clock()
        self._clock = lambda: at

    def _now(self) -> int:
        """The number of the present step."""
        return int(self._clock()) // STEP_S


def _sum_of(series: Sequence[list[int]]) -> list[int]:
    """The sum of some series, step by step."""
    return [sum(column) for column in zip(*series, strict=True)] or [0] * N_STEPS


def _top(found: Mapping[str, list[int]], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The values with the most bytes."""
    ranked = sorted(found.items(), key=lambda entry: (-entry[1][0], entry[0]))
    return [
        {"key": key, "label": labels.get(key) or key, "bytes": n_bytes, "flows": flows}
        for key, (n_bytes, flows) in ranked[:_TOP]
    ]
