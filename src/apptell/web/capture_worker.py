"""The process that reads a stranger's capture, with bounds on its memory, its time and its files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import OutputError
from apptell.web.bounded_process import answer_job

if TYPE_CHECKING:
    from collections.abc import Callable

    Answers = Callable[[dict[str, Any]], None]

_EVERY_S: Final = 0.2


def main() -> None:
    """Does one job."""
    answer_job(_do, _fault)


def _fault(job: dict[str, Any], error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"{job['name']}: needs more memory than the server allows"
    if isinstance(error, OutputError):
        reason = str(error).rpartition(": ")[2]
        return f"{job['name']}: what is found in it cannot be stored: {reason}"
    return str(error)


def _do(job: dict[str, Any], send: Answers) -> dict[str, Any]:
    from apptell.web.capture_folder import find_captures
    from apptell.web.capture_jobs import (
        CaptureSettings,
        extract_flow,
        identify_capture,
        look_at_flow,
    )

    settings = CaptureSettings(**job["settings"])
    if job.get("folder"):
        job["captures"] = find_captures(Path(job["folder"]), job["record"])
    if job["kind"] == "look":
        return look_at_flow(job["captures"], job["record"], settings)
    if job["kind"] == "extract":
        return extract_flow(job["captures"], job["record"], Path(job["output"]))
    (capture,) = job["captures"]
    return identify_capture(Path(capture), Path(job["output"]), settings, _seldom(send))


def _seldom(send: Answers) -> Answers:
    """Passes on some of the reports of progress, not more often than every ``_EVERY_S``."""
    last_s = 0.0

    def report(values: dict[str, Any]) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= _EVERY_S:
            last_s = time.monotonic()
            send({"progress": values})

    return report


if __name__ == "__main__":
    main()
