"""The process that reads a stranger's capture, with bounds on its memory, its time and its files.

It takes one job as a line of JSON on standard input, writes lines of JSON with its progress and one with its
answer to standard output, and ends when standard input ends, so that it never outlives the server.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import ApptellError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    Answers = Callable[[dict[str, Any]], None]

_EVERY_S: Final = 0.2
_NICE: Final = 5


def main() -> None:
    """Does one job."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    job = json.loads(sys.stdin.buffer.readline())
    limit_process(job["memory_bytes"], job["cpu_s"], job["file_bytes"])
    threading.Thread(target=_end_with_the_server, daemon=True).start()

    def send(values: dict[str, Any]) -> None:
        lines.write(json.dumps(values, separators=(",", ":")) + "\n")
        lines.flush()

    too_much = f"{job['name']}: needs more memory than the server allows"
    try:
        send({"answer": _do(job, send)})
    except OutputError as error:
        reason = str(error).rpartition(": ")[2]
        send({"fault": f"{job['name']}: what is found in it cannot be stored: {reason}"})
    except ApptellError as error:
        send({"fault": str(error)})
    except MemoryError:
        send({"fault": too_much})
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        send({"fault": too_much})


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


def limit_process(memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    """Bounds this process, from now on.

    Args:
        memory_bytes: address space.
        cpu_s: processor time, after which it is killed.
        file_bytes: size of a file that it writes.
    """
    import resource

    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    os.umask(0o077)
    os.nice(_NICE)


def _end_with_the_server() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
