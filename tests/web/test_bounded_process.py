"""A job runs in a process of its own: bounded, followed, and ended with all that it began."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from apptell.errors import ApptellError, UsageError
from apptell.web.bounded_process import ProcessLimits, answer_job, run_bounded

NAME = "tests.web.test_bounded_process"
"""This module is also what the processes run."""
ROOT = Path(__file__).parents[2]
LIMITS = ProcessLimits(seconds=900.0, memory_bytes=4 << 30, file_bytes=1000)


def do(job: dict[str, Any], send: Any) -> Any:
    """The jobs of the tests."""
    match job["do"]:
        case "report":
            print("this is no message")
            send({"share": 0.5})
            send({"share": 1.0})
        case "begin":
            # a child that would live on, and holds none of the streams of this process
            child = subprocess.Popen(["sleep", "600"], stdin=-3, stdout=-3, stderr=-3)
            send({"child": child.pid})
            time.sleep(600)
        case "refuse":
            raise UsageError("no such app")
        case "allocate":
            return len(bytes(8 << 30))
        case "write":
            Path("big").write_bytes(bytes(2000))
        case "spin":
            while True:
                pass
        case "fail":
            raise ValueError("a bug")
    return {"umask": os.umask(0o077), "folder": str(Path.cwd()), "niceness": os.nice(0)}


def fault_of(job: dict[str, Any], error: ApptellError | MemoryError) -> str:
    return f"{job['do']}: {type(error).__name__} {error}".strip()


def ran(what: str, limits: ProcessLimits = LIMITS, **options: Any) -> Any:
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    return run_bounded(NAME, {"do": what}, limits, environment=environment, **options)


def is_alive(process: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_reports_come_before_the_answer_and_what_is_printed_is_neither(tmp_path: Path) -> None:
    reports: list[Any] = []
    ending = ran("report", folder=tmp_path, report=reports.append)
    assert (ending.kind, ending.fault, ending.printed) == ("answer", "", "")
    assert ending.answer["folder"] == str(tmp_path.resolve())
    assert reports == [{"share": 0.5}, {"share": 1.0}]


@pytest.mark.parametrize(("is_strict", "umask"), [(True, 0o077), (False, 0o022)])
def test_only_what_reads_the_data_of_strangers_hides_what_it_writes(
    is_strict: bool, umask: int
) -> None:
    before = os.umask(0o022)
    try:
        limits = ProcessLimits(900.0, 4 << 30, 1000, niceness=7, is_strict=is_strict)
        answer = ran("answer", limits).answer
    finally:
        os.umask(before)
    assert answer["umask"] == umask
    assert answer["niceness"] == os.nice(0) + 7


@pytest.mark.parametrize("is_strict", [True, False])
def test_memory_is_bounded_and_the_lack_of_it_is_a_fault(is_strict: bool) -> None:
    ending = ran("allocate", ProcessLimits(900.0, 4 << 30, 1000, is_strict=is_strict))
    assert (ending.kind, ending.fault) == ("fault", "allocate: MemoryError")


def test_files_are_bounded(tmp_path: Path) -> None:
    ending = ran("write", folder=tmp_path)
    assert ending.kind == "died"
    assert "File too large" in ending.printed
    assert (tmp_path / "big").stat().st_size <= LIMITS.file_bytes


def test_processor_time_is_bounded() -> None:
    order = {
        "limits": {"seconds": 0.5, "memory_bytes": 4 << 30, "file_bytes": 1000},
        "job": {"do": "spin"},
    }
    with _started() as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        assert process.wait(60) == -signal.SIGXCPU
        process.stdin.close()


def test_a_fault_and_a_bug_are_told_apart() -> None:
    assert ran("refuse").fault == "refuse: UsageError no such app"
    ending = ran("fail")
    assert (ending.kind, ending.status) == ("died", 1)
    assert ending.printed.endswith("ValueError: a bug")


@pytest.mark.parametrize("kind", ["late", "unwanted"])
def test_a_process_ends_with_all_that_it_began(kind: str) -> None:
    children: list[int] = []
    for seconds in (4.0, 20.0, 100.0):  # it must have begun a child by then, also on a busy machine
        ending = ran(
            "begin",
            ProcessLimits(seconds if kind == "late" else 900.0, 4 << 30, 1000),
            is_unwanted=lambda: kind == "unwanted" and bool(children),
            report=lambda message: children.append(message["child"]),
        )
        assert ending.kind == kind
        if children:
            break
    (child,) = children
    until = time.monotonic() + 60
    while is_alive(child) and time.monotonic() < until:  # a signal is delivered soon, not at once
        time.sleep(0.01)
    assert not is_alive(child)


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", NAME],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )


def test_it_never_outlives_the_server() -> None:
    order = {
        "limits": {"seconds": 300, "memory_bytes": 4 << 30, "file_bytes": 1000},
        "job": {"do": "spin"},
    }
    with _started() as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.close()  # as the end of its parent does
        assert process.wait(60) == 1


if __name__ == "__main__":
    answer_job(do, fault_of)
