"""Takes records from a running ``live`` over a Unix socket, so that pages can show what another process reads.

The server listens, and ``live --out jsonl:unix:PATH`` connects, again whenever either of the two has been
restarted. Only its owner and group can connect. Counters come from the ``/metrics`` of the same ``live``.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Self

from apptell.errors import OutputError
from apptell.records.record_lines import records_of_lines
from apptell.web.now_board import NowBoard
from apptell.web.now_views import NowViews

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from apptell.web.live_metrics import LiveMetrics

MOST_LINE: Final = 1 << 20
"""Bytes of a line; the rest of a longer one is left out."""
_PIECE: Final = 1 << 18
_LOOK_S: Final = 0.5
_MODE: Final = 0o660
_EMPTY: Final[dict[str, Any]] = {
    "packets_per_s": 0.0, "bytes_per_s": 0.0, "packets": 0, "bytes": 0, "open_flows": 0, "ended_flows": 0,
    "waiting_flows": 0, "kernel_drops": 0, "overloaded": 0, "evicted": 0, "delay_p50_s": None,
    "delay_p99_s": None, "drift": None,
}  # fmt: skip


class LiveLink:
    """The records of a running ``live``; a context manager.

    Args:
        path: of the Unix socket that it is to listen on.
        metrics: reads the counters of the same ``live``; None for no counters.
        board: of the last minutes; default: a new one.

    Raises:
        OutputError: another program listens there, or the socket cannot be made.
    """

    def __init__(
        self, path: Path, metrics: LiveMetrics | None = None, board: NowBoard | None = None
    ) -> None:
        self.name = "apptell live"
        self.unreadable = 0
        """Lines that were no records."""
        self.records = 0
        self.connections = 0
        """Times that a ``live`` has connected."""
        self._path, self._metrics = path, metrics
        self._board = board or NowBoard()
        self._views = NowViews(self._board)
        self._is_connected = False
        self._stop = threading.Event()
        self._socket = _listening(path)
        self._made = path.lstat()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_LOOK_S * 4)
        self._socket.close()
        with suppress(OSError):
            if os.path.samestat(self._path.lstat(), self._made):
                self._path.unlink()

    @property
    def is_ready(self) -> bool:
        """Whether a ``live`` is connected, and reads packets as far as is known."""
        return self._is_connected and (self._metrics is None or self._metrics.is_ready)

    def text(self, wanted: Mapping[str, str]) -> str:
        """A view as JSON in one line, at most a second old."""
        return self._views.text(wanted, self.counts)

    def metrics_text(self) -> str:
        """Counters of the connection in Prometheus' text form; those of ``live`` are at its own address."""
        lines = []
        for name, kind, words, value in (
            ("connected", "gauge", "Whether a live is connected.", int(self._is_connected)),
            ("connections_total", "counter", "Times that a live has connected.", self.connections),
            ("records_total", "counter", "Records that came from it.", self.records),
            ("unreadable_total", "counter", "Lines that were no records.", self.unreadable),
        ):
            full = f"apptell_link_{name}"
            lines.append(f"# HELP {full} {words}\n# TYPE {full} {kind}\n{full} {value}\n")
        return "".join(lines)

    def counts(self) -> dict[str, Any]:
        """The counters as the page shows them."""
        metrics = self._metrics
        fault = "" if metrics is None else metrics.fault
        if self.unreadable:
            fault = f"{self.unreadable:,} lines of apptell live were no records. {fault}".strip()
        return {
            **_EMPTY,
            **({} if metrics is None else metrics.counts()),
            "source": self.name,
            "state": "reading" if self._is_connected else "waiting",
            "has_counters": metrics is not None and not metrics.fault,
            "fault": fault if self._is_connected else "",
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:  # nobody yet
                continue
            with connection:
                connection.settimeout(_LOOK_S)
                self._board.forget_open()  # another live has other numbers for its connections
                self.connections += 1
                self._is_connected = True
                try:
                    self._take(connection)
                finally:
                    self._is_connected = False

    def _take(self, connection: socket.socket) -> None:
        """Takes records until the other side closes the connection."""
        rest, skips = b"", False
        while not self._stop.is_set():
            try:
                data = connection.recv(_PIECE)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            if skips and lines:
                lines, skips = lines[1:], False
            if len(rest) > MOST_LINE:
                self.unreadable += not skips
                rest, skips = b"", True
            if lines:
                self._add(lines)

    def _add(self, lines: list[bytes]) -> None:
        records, n = records_of_lines(lines)
        self.unreadable += n
        self.records += records.num_rows
        at = 0
        for _, run in groupby(records.column("event").to_pylist()):
            n = len(list(run))
            self._board.write(records.slice(at, n))
            at += n


def _listening(path: Path) -> socket.socket:
    """A Unix socket that listens; one that a server left behind is replaced.

    Raises:
        OutputError: something else is in its place, or it cannot be made.
    """
    try:
        _remove_old(path)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o777 & ~_MODE)
            try:
                made.bind(str(path))
            finally:
                os.umask(before)
            made.listen(1)
            made.settimeout(_LOOK_S)
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error
    return made


def _remove_old(path: Path) -> None:
    """Removes a socket on which nobody listens.

    Raises:
        OutputError: somebody does, or it is no socket.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OutputError(f"{path}: exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(_LOOK_S)
        try:
            other.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror or error}") from error
    raise OutputError(f"{path}: another program listens on it")
