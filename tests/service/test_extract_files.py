"""Files of extracted packets: rotated, bounded in number, and whole after an error."""

import errno
import os
from pathlib import Path

import pytest

from apptell.capture import PacketBatch, open_capture
from apptell.service import extract_files
from apptell.service.extract_files import ExtractFiles
from apptell.testing import app_capture, write_pcap


@pytest.fixture
def packets(tmp_path: Path) -> PacketBatch:
    with open_capture(write_pcap(tmp_path / "in.pcap", app_capture(["signal"], 3))) as reader:
        return next(iter(reader)).copy()


def packets_in(path: Path) -> int:
    with open_capture(path) as reader:
        return sum(map(len, reader))


class Disk:
    """``os.write`` to a disk that may be full: it takes some bytes of the data, then no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self._write = os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, handle: int, data: memoryview) -> int:
        if not self.is_full or handle < 3:
            return self._write(handle, data)
        if len(data) <= 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(handle, data[: len(data) - 100])


def test_a_full_disk_costs_what_does_not_fit_and_no_older_file(
    tmp_path: Path, packets: PacketBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(extract_files, "_RETRY_S", 0.0)
    disk = Disk(monkeypatch)
    files = ExtractFiles(tmp_path / "x.pcapng", 1 << 20, 1, said.append)

    def write(rows: range) -> None:
        for row in rows:
            files.write(packets, row, "in", "about it", None)
        files.flush()

    write(range(5))
    disk.is_full = True
    for _ in range(3):
        write(range(5, 8))
    (first,) = tmp_path.glob("x_*")
    assert packets_in(first) == 5  # it ends with a whole packet
    assert (files.written, files.failed, files.n_files) == (5, 9, 1)
    disk.is_full = False
    write(range(8, 10))
    files.close()
    (second,) = tmp_path.glob("x_*")  # the oldest goes when the next one has something
    assert second != first
    assert packets_in(second) == 2
    assert (files.written, files.failed, files.n_files) == (7, 9, 2)
    assert len(said) == 1
    assert os.strerror(errno.ENOSPC) in said[0]


def test_after_a_failure_nothing_is_tried_for_a_while(
    tmp_path: Path, packets: PacketBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract_files, "_RETRY_S", 1e9)
    disk = Disk(monkeypatch)
    disk.is_full = True
    files = ExtractFiles(tmp_path / "x.pcapng", 1 << 20, 1, lambda _: None)
    assert files.write(packets, 0, "in", "", None) is not None
    files.flush()
    disk.is_full = False
    assert files.write(packets, 1, "in", "", None) is None
    files.close()
    assert files.failed == 2
    assert not list(tmp_path.glob("x_*"))


def test_a_file_that_another_one_replaced_is_not_deleted(
    tmp_path: Path, packets: PacketBatch
) -> None:
    files = ExtractFiles(tmp_path / "x.pcapng", 1000, 1, lambda _: None)
    files.write(packets, 0, "in", "", None)
    files.flush()
    (first,) = tmp_path.glob("x_*")
    other = tmp_path / "other"
    other.write_text("the user's")
    other.replace(first)
    for row in range(1, 4):
        files.write(packets, row, "in", "", None)
    files.close()
    assert first.read_text() == "the user's"
    assert len(list(tmp_path.glob("x_*"))) == 2
