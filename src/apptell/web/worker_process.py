"""Runs ``capture_worker`` for one job, and ends it when it takes too long or is not wanted any more."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import CaptureError
from apptell.web.bounded_process import ProcessEnding, ProcessLimits, run_bounded

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
_ENVIRONMENT: Final = {
    "MALLOC_ARENA_MAX": "2",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
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
class CaptureLimits(ProcessLimits):
    """Bounds of a process that reads a capture."""

    seconds: float = READ_CAPTURE_S
    memory_bytes: int = MEMORY_BYTES
    file_bytes: int = FILE_BYTES


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
    try:
        ending = run_bounded(
            "apptell.web.capture_worker",
            asdict(job),
            limits,
            folder=folder,
            environment=_ENVIRONMENT,
            is_unwanted=is_cancelled,
            report=lambda message: report(message["progress"]),
        )
    except OSError as error:
        raise CaptureError(f"{job.name}: no process to read it: {error.strerror}") from error
    if ending.printed:
        say(ending.printed)
    if ending.kind == "answer":
        found: dict[str, Any] = ending.answer
        return found
    if ending.kind == "fault":
        raise CaptureError(ending.fault)
    raise CaptureError(f"{job.name}: {_reason(ending, limits)}")


def _reason(ending: ProcessEnding, limits: CaptureLimits) -> str:
    """Why there is no answer."""
    return {
        "unwanted": "is not read any further: its result was removed, or the server ends",
        "late": f"reading it takes longer than {limits.seconds:g} s",
        "busy": f"reading it takes more than {limits.seconds:g} s of processor time",
    }.get(
        ending.kind,
        f"the process that read it died (status {ending.status}), perhaps for lack of memory",
    )
