"""Captures in object stores: read with ranged requests from a server that speaks S3, and by ``file://``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import apptell
from apptell.capture import open_capture
from apptell.capture.byte_streams import Stop
from apptell.capture.object_store import StoredStream, is_stored_object, shown_uri
from apptell.errors import CaptureError, UsageError
from tests.capture.gcs_server import gcs_server
from tests.service.s3_server import s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.service.s3_server import Bucket

SAMPLE = Path(apptell.__file__).parent / "samples" / "named" / "named.pcap.xz"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as made:
        made.put("day/named.pcap.xz", (SAMPLE).read_bytes())
        made.put("day/notes.txt", b"nothing to see")
        made.put("none/notes.txt", b"nothing to see")
        yield made


def test_an_object_gives_the_flows_of_the_file(bucket: Bucket) -> None:
    stored = apptell.read_flows(bucket.uri("day/named.pcap.xz")).to_arrow()
    assert len(stored) > 20
    assert stored.equals(apptell.read_flows(SAMPLE).to_arrow())


def test_an_object_of_google_s_protocol_gives_the_flows_of_the_file() -> None:
    with gcs_server() as google:
        google.put("day/named.pcap.xz", SAMPLE.read_bytes())
        stored = apptell.read_flows(google.uri("day/named.pcap.xz")).to_arrow()
        assert stored.equals(apptell.read_flows(SAMPLE).to_arrow())
        with open_capture(google.uri("day")) as reader:
            assert sum(len(batch) for batch in reader) == 762
        with pytest.raises(CaptureError, match=r"^gs://archive/absent\.pcap: no such file$"):
            open_capture(google.uri("absent.pcap"))


def test_a_folder_of_objects_gives_its_captures(bucket: Bucket) -> None:
    with open_capture(bucket.uri("day")) as reader:
        packets = sum(len(batch) for batch in reader)
    with open_capture(SAMPLE) as reader:
        assert packets == sum(len(batch) for batch in reader)
    assert reader.stats.files_skipped == 0
    with open_capture([bucket.uri("day"), SAMPLE]) as reader:
        assert sum(len(batch) for batch in reader) == 2 * packets
    assert reader.stats.files_skipped == 1


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("absent.pcap", r"s3://archive/absent\.pcap: no such file"),
        ("none", r"none: no capture in this folder, 1 other file$"),
    ],
)
def test_what_is_not_there_is_one_line(bucket: Bucket, key: str, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        open_capture(bucket.uri(key))


def test_messages_hold_no_password() -> None:
    uri = "s3://KEY:VERYSECRET@archive/a.pcap?endpoint_override=127.0.0.1:9&scheme=http&region=x"
    with pytest.raises(CaptureError) as raised:
        open_capture(uri)
    assert "VERYSECRET" not in str(raised.value)
    assert str(raised.value).startswith("s3://archive/a.pcap: ")


@pytest.mark.parametrize("uri", ["s3://", "s3://archive/a.pcap?colour=blue", "file://elsewhere/a"])
def test_an_invalid_uri_is_wrong_usage(uri: str) -> None:
    with pytest.raises(UsageError):
        open_capture(uri)


def test_a_stored_object_is_not_followed(bucket: Bucket) -> None:
    with pytest.raises(UsageError, match="only a local file can be followed"):
        open_capture(bucket.uri("day/named.pcap.xz"), follow=True)


def test_file_uris_are_local_paths(tmp_path: Path) -> None:
    path = tmp_path / "a b%c.pcap.xz"
    path.write_bytes((SAMPLE).read_bytes())
    with open_capture(path.as_uri()) as reader:
        assert sum(len(batch) for batch in reader) > 100
    assert reader.name == "a b%c.pcap.xz"


def test_only_known_schemes_are_stores() -> None:
    assert is_stored_object("S3://bucket/a")
    assert not is_stored_object("s3/bucket/a")
    assert not is_stored_object("pcap+tcp://host:1")
    assert shown_uri("s3://a:b@bucket/x?y=z") == "s3://bucket/x"


class _Blocks:
    """A file that gives its bytes and then breaks, or goes on for ever."""

    def __init__(self, n_blocks: int, error: OSError | None) -> None:
        self.n_blocks, self.error = n_blocks, error
        self.asked: list[int] = []
        self.closed = False

    def read(self, size: int) -> bytes:
        self.asked.append(size)
        if len(self.asked) > self.n_blocks:
            if self.error is not None:
                raise self.error
            return b""
        return bytes([len(self.asked)]) * size

    def close(self) -> None:
        self.closed = True


def test_bytes_before_a_broken_connection_are_kept() -> None:
    file = _Blocks(3, OSError("connection reset"))
    stream = StoredStream(file, Stop(None))
    view = memoryview(bytearray(1 << 20))
    counts: list[int] = []
    with pytest.raises(OSError, match="connection reset"):
        counts.extend(iter(lambda: stream.readinto(view), 0))
    assert sum(counts) == sum(file.asked[:3])
    stream.close()
    assert file.closed


def test_reading_ahead_is_bounded_and_ends_with_the_stream() -> None:
    file = _Blocks(10**9, None)
    stream = StoredStream(file, Stop(None))
    view = memoryview(bytearray(1000))
    assert stream.readinto(view) == 1000
    assert file.asked == [1000], "looking at the head of an object reads no more than that"
    for _ in range(3):
        stream.readinto(view)
    deadline = time.monotonic() + 30
    while len(file.asked) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(file.asked) <= 6
    stream.close()
    assert file.closed


def test_a_stopped_stream_ends() -> None:
    stream = StoredStream(_Blocks(5, None), Stop(lambda: True))
    assert stream.readinto(memoryview(bytearray(10))) == 0
    assert stream.stopped
    stream.close()
