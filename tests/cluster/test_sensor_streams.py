"""The streams that sources name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from apptell.cluster import find_streams
from apptell.errors import CaptureError, UsageError
from tests.service.s3_server import s3_server

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for sensor in ("east", "west"):
        (tmp_path / "archive" / sensor).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "archive" / sensor / f"{number}.pcap").write_bytes(b"x" * (number + 1))
    return tmp_path / "archive"


def test_each_source_is_a_stream(archive: Path) -> None:
    streams = find_streams([str(archive / "west"), str(archive / "east" / "0.pcap")])
    assert [stream.sensor for stream in streams] == ["west", "0.pcap"]
    assert [size for _, size, _ in streams[0].files] == [1, 2]


def test_a_star_stands_for_each_entry(archive: Path) -> None:
    assert [stream.sensor for stream in find_streams([f"{archive}/*"])] == ["east", "west"]
    assert [s.sensor for s in find_streams([f"{archive.as_uri()}/*"])] == ["east", "west"]


def test_a_file_uri_is_the_path_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "east 1%").mkdir()
    (tmp_path / "east 1%" / "a.pcap").write_bytes(b"x")
    (stream,) = find_streams([(tmp_path / "east 1%").as_uri()])
    assert stream.sensor == "east 1%"
    assert stream.source == str(tmp_path / "east 1%")


def test_entries_of_a_store_are_streams() -> None:
    with s3_server() as bucket:
        bucket.put("all/east/0.pcap", b"x")
        bucket.put("all/east/1.pcap", b"xx")
        bucket.put("all/west/0.pcap", b"x")
        streams = find_streams([bucket.uri("all/*")])
        assert [stream.sensor for stream in streams] == ["east", "west"]
        assert [(name, size) for name, size, _ in streams[0].files] == [
            ("0.pcap", 1),
            ("1.pcap", 2),
        ]
        assert streams[0].source == bucket.uri("all/east")


def test_two_streams_of_one_name_are_refused(archive: Path) -> None:
    with pytest.raises(UsageError, match="two streams are called east"):
        find_streams([str(archive / "east"), str(archive / "east") + "/"])


@pytest.mark.parametrize("source", ["nowhere", "nowhere/*"])
def test_a_source_that_is_not_there_is_named(tmp_path: Path, source: str) -> None:
    with pytest.raises(CaptureError, match="nowhere: No such file"):
        find_streams([str(tmp_path / source)])


def test_a_pipe_cannot_be_shared(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: only files and folders"):
        find_streams([str(tmp_path / "pipe")])


def test_the_key_changes_with_files_and_settings(archive: Path) -> None:
    (stream,) = find_streams([str(archive / "east")])
    key = stream.key("settings")
    assert key == find_streams([str(archive / "east")])[0].key("settings")
    assert key != stream.key("others")
    (archive / "east" / "2.pcap").write_bytes(b"new")
    assert key != find_streams([str(archive / "east")])[0].key("settings")
