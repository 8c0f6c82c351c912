"""Captures wait until what reads them is compiled, and the time that this takes is not theirs."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("duckdb")
from apptell.web import kernel_preparation, upload_desk
from apptell.web.bounded_process import ProcessEnding, ProcessLimits
from apptell.web.capture_jobs import CaptureSettings
from apptell.web.kernel_preparation import KernelPreparation
from apptell.web.upload_desk import FAILED, WAITING, UploadDesk
from apptell.web.worker_process import CaptureLimits

if TYPE_CHECKING:
    from collections.abc import Callable


def until(is_true: Callable[[], bool]) -> None:
    """Waits for something that happens in another thread."""
    end = time.monotonic() + 300
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_process_finds_every_kernel_and_has_nothing_to_say() -> None:
    said: list[str] = []
    with KernelPreparation(said.append) as preparation:
        preparation.wait(lambda: False)
        assert preparation.is_done
    assert not said


def test_a_capture_is_read_when_kernels_are_there_and_its_time_begins_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = threading.Event()
    asked: list[dict[str, Any]] = []

    def compiles(*_: Any, **options: Any) -> ProcessEnding:
        until(lambda: compiled.is_set() or options["is_unwanted"]())
        return ProcessEnding("answer", 0, {})

    def reads(job: Any, limits: CaptureLimits, *_: Any, **_options: Any) -> dict[str, Any]:
        asked.append({"name": job.name, "seconds": limits.seconds, "done": compiled.is_set()})
        raise ZeroDivisionError  # the capture is not what this is about

    monkeypatch.setattr(kernel_preparation, "run_bounded", compiles)
    monkeypatch.setattr(upload_desk, "run_job", reads)
    with (
        KernelPreparation(print) as preparation,
        UploadDesk(
            CaptureSettings(), CaptureLimits(2.0), say=lambda _: None, preparation=preparation
        ) as desk,
    ):
        first, removed = desk.begin("a.pcap"), desk.begin("b.pcap")
        desk.submit(first)
        time.sleep(0.3)
        assert first.state == WAITING
        assert desk.is_preparing
        assert not asked
        compiled.set()
        until(lambda: first.state == FAILED)
        assert asked == [{"name": "a.pcap", "seconds": 2.0, "done": True}]
        assert not desk.is_preparing
        desk.remove(removed)


def test_a_server_that_ends_does_not_wait_for_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiles(*_: Any, **options: Any) -> ProcessEnding:
        until(options["is_unwanted"])
        return ProcessEnding("unwanted", -9)

    said: list[str] = []
    monkeypatch.setattr(kernel_preparation, "run_bounded", compiles)
    with (
        KernelPreparation(said.append) as preparation,
        UploadDesk(CaptureSettings(), preparation=preparation) as desk,
    ):
        waiting = desk.begin("a.pcap")
        desk.submit(waiting)
        desk.remove(waiting)
    assert preparation.is_done
    assert not said


def test_captures_are_read_also_where_compiling_fails() -> None:
    said: list[str] = []
    limits = ProcessLimits(0.05, 1 << 33, 1 << 30, is_strict=False)
    with KernelPreparation(said.append, limits) as preparation:
        preparation.wait(lambda: False)
        assert preparation.is_done
    assert said == ["Kernels are not compiled in advance: it takes longer than 0.05 s"]
