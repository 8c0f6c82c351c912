"""Runs a command or calls a URL for each named flow, so that other programs can limit or alert.

Like every output it is behind a queue. Calls are made one at a time, each for at most ``CALL_S``. A call that
fails is counted and not repeated, and calls beyond the rate are counted and skipped.
"""

from __future__ import annotations

import http.client
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from apptell.capture.network import check_host
from apptell.errors import UsageError
from apptell.kernels.notice import VARIABLE as COMPILING
from apptell.records.forms.jsonl import json_lines
from apptell.records.schema import VERDICT
from apptell.service.outputs.queued import QueuedOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

CALL_S: Final = 5.0
"""How long a call may take."""
RATE: Final = 10.0
"""Calls a second (default)."""
_URL_CHARACTERS: Final = "%/:=&?~#+!$,;'@()*[]"
"""Those that a URL has as they are; other ones are escaped."""
PRINTED_BYTES: Final = 4096
"""Number of bytes at the end of a command's output that are shown."""


class OnVerdict:
    """Makes a call for each verdict that names an app.

    Args:
        call: takes one record as JSON; raises CallError.
        apps: only these apps; empty for all.
        rate: maximum number of calls a second, which is also the maximum burst.
        clock: monotonic, s.
    """

    def __init__(
        self,
        call: Callable[[bytes], None],
        apps: Collection[str] = (),
        rate: float = RATE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.extra = {"called": 0, "failed": 0, "limited": 0}
        self.fault = ""
        """The last error."""
        self._call, self._rate, self._clock = call, rate, clock
        self._apps = pa.array(sorted(apps), pa.string()) if apps else None
        self._burst = max(rate, 1.0)
        self._left = self._burst
        self._since_s = clock()

    def write(self, batch: pa.RecordBatch) -> None:
        """Makes the calls of some records."""
        chosen = batch.filter(self._is_wanted(batch))
        for line in json_lines(chosen):
            if not self._has_room():
                self.extra["limited"] += 1
                continue
            self.extra["called"] += 1
            try:
                self._call(line.encode() + b"\n")
            except CallError as error:
                self.extra["failed"] += 1
                self.fault = str(error)

    def tick(self) -> None:
        """Does nothing, because no records are held back."""

    def close(self) -> None:
        """Does nothing, because nothing is open."""

    def _is_wanted(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        app = batch.column("app")
        named = app.is_valid() if self._apps is None else pc.is_in(app, value_set=self._apps)
        return pc.and_(pc.equal(batch.column("event"), VERDICT), named)

    def _has_room(self) -> bool:
        now_s = self._clock()
        self._left = min(self._burst, self._left + (now_s - self._since_s) * self._rate)
        self._since_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class CallError(Exception):
    """A call failed; the message gives the reason."""


class Command:
    """Runs a command with the record on its stdin; the end of what it prints goes to stderr.

    Args:
        text: the command and its arguments as a shell would split them; no shell runs it.

    Raises:
        UsageError: there is no such command.
    """

    def __init__(self, text: str) -> None:
        try:
            self._words = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"command {text!r}: {error}") from error
        if not self._words or shutil.which(self._words[0]) is None:
            raise UsageError(f"command {text!r}: no such command")

    def __call__(self, record: bytes) -> None:
        """Runs the command and waits for its end.

        Raises:
            CallError: it could not be run, took too long or ended with a status other than 0; with the last
                line that it printed.
        """
        try:
            # a file and not a pipe, which a process that the command leaves behind would keep open
            with tempfile.TemporaryFile() as output:
                status = self._run(record, output)
                printed = _end_of(output)
        except OSError as error:
            raise CallError(f"{self._words[0]}: {error.strerror}") from error
        sys.stderr.write(printed)
        if status != 0:
            how = f"not finished after {CALL_S:g} s" if status is None else f"status {status}"
            raise CallError(": ".join([self._words[0], how, *printed.splitlines()[-1:]]))

    def _run(self, record: bytes, output: IO[bytes]) -> int | None:
        """Its exit status; None if it did not finish in time."""
        # a separate command, which may announce its own compilation
        environment = {k: v for k, v in os.environ.items() if k != COMPILING}
        with subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        ) as running:
            try:
                running.communicate(record, timeout=CALL_S)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                return None
        return running.returncode


def _end_of(output: IO[bytes]) -> str:
    """The end of a command's output, in whole lines."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(size - PRINTED_BYTES, 0))
    text = output.read().decode(errors="replace")
    return text if not text or text.endswith("\n") else text + "\n"


class Webhook:
    """Sends the record as the body of a POST; redirections are not followed.

    Args:
        url: ``http://`` or ``https://``.

    Raises:
        UsageError: it is not such a URL.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            is_web = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError as error:
            raise UsageError(f"URL {url!r}: {error}") from error
        if not is_web:
            raise UsageError(f"URL {url!r} is neither http:// nor https:// with a host")
        check_host(parts.hostname or "", url)
        self._url = quote(url, safe=_URL_CHARACTERS, errors="replace")
        self._connections: list[http.client.HTTPConnection] = []
        handlers = (_NoRedirection, _Http(self._connections), _Https(self._connections))
        self._open = urllib.request.build_opener(*handlers).open

    def __call__(self, record: bytes) -> None:
        """Sends the record.

        Raises:
            CallError: there was no answer in time, or another than 2xx.
        """
        request = urllib.request.Request(
            self._url, record, {"Content-Type": "application/json"}, method="POST"
        )
        is_late = threading.Event()
        limit = threading.Timer(
            CALL_S, self._cut, (is_late,)
        )  # an answer may come a byte at a time
        limit.daemon = True
        limit.start()
        try:
            self._open(request, timeout=CALL_S).close()
            if is_late.is_set():  # headers that were cut short can look whole
                raise TimeoutError("timed out")
        except urllib.error.HTTPError as error:
            error.close()
            raise CallError(f"{self._url}: status {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = "timed out" if is_late.is_set() else error
            raise CallError(f"{self._url}: {reason}") from error
        finally:
            limit.cancel()
            self._connections.clear()

    def _cut(self, is_late: threading.Event) -> None:
        is_late.set()
        for connection in list(self._connections):
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)


class _NotesConnections(urllib.request.AbstractHTTPHandler):
    """Keeps the connections that it makes in a list."""

    def __init__(self, connections: list[http.client.HTTPConnection]) -> None:
        super().__init__()
        self._connections = connections

    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        """Opens a connection for a request."""

        def connect(*arguments: Any, **more: Any) -> http.client.HTTPConnection:
            connection: http.client.HTTPConnection = http_class(*arguments, **more)
            self._connections.append(connection)
            return connection

        return super().do_open(connect, req, **options)


class _Http(_NotesConnections, urllib.request.HTTPHandler):
    pass


class _Https(_NotesConnections, urllib.request.HTTPSHandler):
    pass


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Refuses redirections, because a POST would become a GET."""


def open_on_verdict(what: str, apps: Collection[str] = (), rate: float = RATE) -> QueuedOutput:
    """Opens a command or URL as an output with its own queue and thread.

    Raises:
        UsageError: it is neither an existing command nor a URL.
    """
    call = Webhook(what) if "://" in what.split(" ", 1)[0] else Command(what)
    return QueuedOutput("on-verdict", OnVerdict(call, apps, rate))
