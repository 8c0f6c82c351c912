"""Runs ``capture_worker`` for one job, and ends it when it takes too long or is not wanted any more."""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, Final, cast

from apptell.errors import CaptureError
from apptell.kernels.notice import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apptell.web.capture_jobs import CaptureSettings

MEMORY_BYTES: Final = 4 << 30
"""Address space of a process that reads a capture; what it really uses is far less."""
FILE_BYTES: Final = 1 << 30
"""Size of a file that it writes."""
READ_CAPTURE_S: Final = 120.0
"""Seconds that it may take."""
_LOOK_S: Final = 0.2
_DIE_S: Final = 2.0
_ANSWER_BYTES: Final = 64 << 20
_PRINTED_BYTES: Final = 4096
_ENVIRONMENT: Final = {
    "MALLOC_ARENA_MAX": "2",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    VARIABLE: "",  # does not announce its compilation
}
"""Keeps the address space of the process small."""


@dataclass(frozen=True, slots=True)
class CaptureJob:
    """What a process does with captures."""

    kind: str
    """``identify``, ``look`` or ``extract``."""
    name: str
    """Of the capture, for people."""
    captures: list[str]
    """Files, relative to the folder that the process runs in or absolute."""
    settings: CaptureSettings
    output: str = ""
    """Folder or file that it writes."""
    folder: str = ""
    """Instead of ``captures``: where the process looks for those of the record."""
    record: dict[str, Any] | None = None
    """Of the flow, for ``look`` and ``extract``."""


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """Bounds of a process that reads a capture."""

    seconds: float = READ_CAPTURE_S
    memory_bytes: int = MEMORY_BYTES
    file_bytes: int = FILE_BYTES


class _Watch:
    """Decides whether a process has to end before it has answered."""

    def __init__(self, seconds: float, is_cancelled: Callable[[], bool]) -> None:
        self._seconds, self._is_cancelled = seconds, is_cancelled
        self._until_s = time.monotonic() + seconds
        self.reason = ""

    def is_over(self) -> bool:
        if self._is_cancelled():
            self.reason = "is not read any further: its result was removed, or the server ends"
        elif time.monotonic() > self._until_s:
            self.reason = f"reading it takes longer than {self._seconds:g} s"
        return bool(self.reason)


def run_job(
    job: CaptureJob,
    limits: CaptureLimits,
    folder: Path,
    is_cancelled: Callable[[], bool] = lambda: False,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Runs a job in a process of its own and waits for its answer.

    Args:
        job: what it does.
        limits: of the process.
        folder: in which it runs.
        is_cancelled: asked several times a second; the process is killed when it returns true.
        report: called with the progress of the process.
        say: called with what the process printed before it died.

    Raises:
        CaptureError: what is wrong with the capture; or the process was killed or died.
    """
    watch = _Watch(limits.seconds, is_cancelled)
    with tempfile.TemporaryFile() as printed:
        try:
            answer, status = _run(_values(job, limits), folder, printed, watch, report)
        except OSError as error:
            raise CaptureError(f"{job.name}: no process to read it: {error.strerror}") from error
        if answer is None and not watch.reason:
            say(_end_of(printed))
    if answer is None:
        reason = watch.reason
        if -status in (signal.SIGXCPU, signal.SIGKILL) and not reason:
            reason = f"reading it takes more than {limits.seconds:g} s of processor time"
        if not reason:
            reason = f"the process that read it died (status {status}), perhaps for lack of memory"
        raise CaptureError(f"{job.name}: {reason}")
    if "fault" in answer:
        raise CaptureError(str(answer["fault"]))
    found: dict[str, Any] = answer["answer"]
    return found


def _values(job: CaptureJob, limits: CaptureLimits) -> bytes:
    values = {
        **asdict(job),
        "memory_bytes": limits.memory_bytes,
        "cpu_s": math.ceil(limits.seconds) + 1,
        "file_bytes": limits.file_bytes,
    }
    return json.dumps(values).encode() + b"\n"


def _run(
    values: bytes,
    folder: Path,
    printed: IO[bytes],
    watch: _Watch,
    report: Callable[[dict[str, Any]], None],
) -> tuple[dict[str, Any] | None, int]:
    """The answer of the process, None where it gave none; and its exit status."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "apptell.web.capture_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=printed,
        cwd=folder,
        env={**os.environ, **_ENVIRONMENT},
        start_new_session=True,  # Ctrl-C is for the server
        bufsize=0,
    ) as process:
        answer = None
        try:
            with suppress(BrokenPipeError):  # it died at once
                cast("IO[bytes]", process.stdin).write(
                    values
                )  # stays open: its end ends the process
            answer = _answer(cast("IO[bytes]", process.stdout), watch, report)
            if answer is None and not watch.reason:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_DIE_S)
        finally:
            process.kill()
        with suppress(BrokenPipeError):
            process.communicate()
    return answer, process.returncode


def _answer(
    lines: IO[bytes], watch: _Watch, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any] | None:
    """The answer in the lines of a process; None where they end, or where it has to end."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(lines, selectors.EVENT_READ)
        while not watch.is_over() and len(rest) < _ANSWER_BYTES:
            if not selector.select(_LOOK_S):
                continue
            data = os.read(lines.fileno(), 1 << 20)
            if not data:
                return None
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                found: dict[str, Any] = json.loads(line)
                if "progress" not in found:
                    return found
                report(found["progress"])
    return None


def _end_of(printed: IO[bytes]) -> str:
    """The end of what a process printed."""
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(size - _PRINTED_BYTES, 0))
    return printed.read().decode(errors="backslashreplace").strip()
