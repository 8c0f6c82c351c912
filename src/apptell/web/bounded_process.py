"""Runs a job in a process of its own, with bounds on its memory, its time and its files.

The process runs a module of this package. It takes the job as a line of JSON on standard input and writes lines
of JSON to standard output: any number of reports, then its answer or its fault. It ends when standard input
ends, so that it never outlives the server. ``run_bounded`` is the server's side, and ``answer_job``
that of the process.
"""

from __future__ import annotations

import errno
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, Final, Literal, cast

from apptell.errors import ApptellError
from apptell.kernels.notice import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Reports = Callable[[dict[str, Any]], None]
    """Takes one report: a message that is neither the answer nor a fault."""

_LOOK_S: Final = 0.2
_DIE_S: Final = 2.0
_MESSAGE_BYTES: Final = 64 << 20
_PRINTED_BYTES: Final = 4096
_ENVIRONMENT: Final = {
    "PYTHONUNBUFFERED": "1",
    VARIABLE: "",  # does not announce its compilation
}


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Bounds of a process."""

    seconds: float
    """Seconds that it may take."""
    memory_bytes: int
    """Memory that it may use: its address space, or what it allocates (``is_strict``)."""
    file_bytes: int
    """Size of one file that it writes."""
    niceness: int = 5
    is_strict: bool = True
    """For data of strangers: bounds the whole address space and the processor time, and what the process writes
    is for its own user alone.

    Otherwise only allocated memory is bounded, because training libraries reserve address space that they never
    use, and several threads use more than a second of processor time in a second.
    """

    @property
    def cpu_s(self) -> int:
        """Processor time in seconds, after which a strictly bounded process is killed."""
        return math.ceil(self.seconds) + 1

    def apply(self) -> None:
        """Bounds this process, from now on."""
        import resource

        bounds = {resource.RLIMIT_FSIZE: self.file_bytes, resource.RLIMIT_CORE: 0}
        if self.is_strict:
            bounds |= {resource.RLIMIT_AS: self.memory_bytes, resource.RLIMIT_CPU: self.cpu_s + 1}
            os.umask(0o077)
        else:
            bounds[resource.RLIMIT_DATA] = self.memory_bytes
        for kind, most in bounds.items():
            hard = resource.getrlimit(kind)[1]
            least = most if hard == resource.RLIM_INFINITY else min(most, hard)
            # the soft limit sends SIGXCPU, which tells an end from others, and the hard one SIGKILL
            soft = least - 1 if kind == resource.RLIMIT_CPU else least
            resource.setrlimit(kind, (soft, least))
        sys.dont_write_bytecode = True  # importlib keeps what a limit on a file's size cuts off
        os.nice(self.niceness)


@dataclass(frozen=True, slots=True)
class ProcessEnding:
    """How a process ended."""

    kind: Literal["answer", "fault", "unwanted", "late", "busy", "died"]
    """It answered; it said what is wrong with the job; nobody wanted its answer any more; it took too long; it
    used too much processor time; or it died.
    """
    status: int
    """Exit status; negative: the signal that killed it."""
    answer: Any = None
    fault: str = ""
    printed: str = ""
    """The end of what it printed, where it died."""


def run_bounded(
    module: str,
    job: Mapping[str, Any],
    limits: ProcessLimits,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    is_unwanted: Callable[[], bool] = lambda: False,
    report: Reports = lambda _: None,
) -> ProcessEnding:
    """Runs a job in a process of its own and waits for its end. The process has ended, with all that it began.

    Args:
        module: the module that the process runs; its main function calls ``answer_job``.
        job: values that JSON can hold.
        limits: of the process.
        folder: in which it runs (default: that of this process).
        environment: variables besides those of this process.
        is_unwanted: asked several times a second; the process is killed when it returns true.
        report: called with each report.

    Raises:
        OSError: no process can be started.
    """
    order = json.dumps({"limits": asdict(limits), "job": job}).encode() + b"\n"
    watch = _Watch(limits.seconds, is_unwanted)
    with tempfile.TemporaryFile() as printed:
        with subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            cwd=folder,
            env={**os.environ, **_ENVIRONMENT, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for the server
            bufsize=0,
        ) as process:
            try:
                with suppress(BrokenPipeError):  # it died at once
                    # stays open: its end ends the process
                    cast("IO[bytes]", process.stdin).write(order)
                last = _last_message(cast("IO[bytes]", process.stdout), watch, report)
                if last is None and watch.kind is None:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_DIE_S)
            finally:
                with suppress(ProcessLookupError, PermissionError):  # nothing is left to be killed
                    os.killpg(process.pid, signal.SIGKILL)
            with suppress(BrokenPipeError):
                process.communicate()
        status = process.returncode
        if last is not None and "fault" in last:
            return ProcessEnding("fault", status, fault=str(last["fault"]))
        if last is not None:
            return ProcessEnding("answer", status, last["answer"])
        if watch.kind is not None:
            return ProcessEnding(watch.kind, status)
        is_busy = -status == signal.SIGXCPU
        return ProcessEnding("busy" if is_busy else "died", status, printed=_end_of(printed))


class _Watch:
    """Decides whether a process has to end before it has answered."""

    def __init__(self, seconds: float, is_unwanted: Callable[[], bool]) -> None:
        self._is_unwanted = is_unwanted
        self._until_s = time.monotonic() + seconds
        self.kind: Literal["unwanted", "late"] | None = None

    def is_over(self) -> bool:
        if self._is_unwanted():
            self.kind = "unwanted"
        elif time.monotonic() > self._until_s:
            self.kind = "late"
        return self.kind is not None


def _last_message(lines: IO[bytes], watch: _Watch, report: Reports) -> dict[str, Any] | None:
    """The answer or fault in the lines of a process; None where they end, or where it has to end."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(lines, selectors.EVENT_READ)
        while not watch.is_over() and len(rest) < _MESSAGE_BYTES:
            if not selector.select(_LOOK_S):
                continue
            data = os.read(lines.fileno(), 1 << 20)
            if not data:
                return None
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                found: dict[str, Any] = json.loads(line)
                if "answer" in found or "fault" in found:
                    return found
                report(found)
    return None


def _end_of(printed: IO[bytes]) -> str:
    """The end of what a process printed."""
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(size - _PRINTED_BYTES, 0))
    return printed.read().decode(errors="backslashreplace").strip()


def answer_job(
    do: Callable[[dict[str, Any], Reports], Any],
    fault_of: Callable[[dict[str, Any], ApptellError | MemoryError], str],
) -> None:
    """Does the job of this process, which ``run_bounded`` started.

    Args:
        do: does a job and returns its answer; may send reports.
        fault_of: what is wrong with a job that raised an exception.
    """
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no message
    order = json.loads(sys.stdin.buffer.readline())
    ProcessLimits(**order["limits"]).apply()
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    job = order["job"]

    def send(message: dict[str, Any]) -> None:
        lines.write(json.dumps(message, separators=(",", ":")) + "\n")
        lines.flush()

    try:
        send({"answer": do(job, send)})
    except (ApptellError, MemoryError) as error:
        send({"fault": fault_of(job, error)})
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        send({"fault": fault_of(job, MemoryError())})


def _end_with_the_server() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)
