"""A process that reads a stranger's capture is bounded, and its end is always told."""

from __future__ import annotations

import gzip
import os
import signal
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apptell.errors import CaptureError
from apptell.testing import app_capture, write_pcap
from apptell.web.capture_jobs import CaptureSettings
from apptell.web.worker_process import CaptureJob, CaptureLimits, run_job
from tests.web.conftest import patient_limits


def job(name: str, **settings: Any) -> CaptureJob:
    return CaptureJob("identify", name, [name], CaptureSettings(**settings), "records")


def folder_with(tmp_path: Path, name: str, data: bytes) -> Path:
    (tmp_path / "records").mkdir()
    (tmp_path / name).write_bytes(data)
    return tmp_path


def endless() -> bytes:
    """Some 300 kB that unpack to a thousand million empty packets."""
    head = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65_535, 1)
    return gzip.compress(head) + gzip.compress(bytes(16 << 20)) * 1000


def content(path: Path) -> bytes:
    """A file below /proc; nothing where its thread or process has just ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def children() -> list[int]:
    """The processes of this one that read captures, whichever thread began them."""
    begun = (content(task / "children") for task in Path("/proc/self/task").iterdir())
    return [
        int(number)
        for number in b" ".join(begun).split()
        if b"capture_worker" in content(Path("/proc", number.decode(), "cmdline"))
    ]


def test_a_bomb_ends_with_its_time(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "bomb.pcap.gz", endless())
    with pytest.raises(CaptureError, match=r"^bomb.pcap.gz: reading it takes longer than 4 s$"):
        run_job(job("bomb.pcap.gz"), CaptureLimits(seconds=4.0), folder)
    assert not children()


def test_memory_is_bounded_and_the_lack_of_it_is_said(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "a.pcap", b"x")
    said: list[str] = []
    with pytest.raises(CaptureError, match=r"^a.pcap: .*memory"):
        run_job(
            job("a.pcap"),
            replace(patient_limits(), memory_bytes=100 << 20),
            folder,
            say=said.append,
        )
    assert len("".join(said)) < 5000


def test_records_are_bounded_and_the_lack_of_room_is_said(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    write_pcap(tmp_path / "a.pcap", app_capture(["signal"], 1))
    said = "^a.pcap: what is found in it cannot be stored: File too large$"
    with pytest.raises(CaptureError, match=said):
        run_job(job("a.pcap"), replace(patient_limits(), file_bytes=1000), tmp_path)


def test_a_process_that_is_killed_is_said(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "bomb.pcap.gz", endless())

    def kill() -> bool:
        for child in children():
            os.kill(child, signal.SIGSEGV)
        return False

    with pytest.raises(CaptureError, match=r"the process that read it died .status -11., perhaps"):
        run_job(job("bomb.pcap.gz"), patient_limits(), folder, kill)


def test_what_is_not_wanted_any_more_is_ended(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "bomb.pcap.gz", endless())
    with pytest.raises(CaptureError, match="is not read any further"):
        run_job(job("bomb.pcap.gz"), patient_limits(), folder, lambda: True)
    assert not children()


def test_faults_of_settings_are_said_by_the_process(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    write_pcap(tmp_path / "a.pcap", app_capture(["signal"], 1))
    with pytest.raises(CaptureError, match="no such model folder"):
        run_job(job("a.pcap", model="/nowhere"), patient_limits(), tmp_path)
