"""Phones recorded live: PCAPdroid's exporters over loopback, ended by phone, user and clock."""

import json
import os
import signal
import socket
import sys

import pytest

from apptell.dataset import Dataset

from .exporter import PcapDump, PcapngDump, Phone, free_port, packets, wait_until_taken

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's queues")
APPS = {
    PcapDump: {"chat": 2, "mail & söhne, inc.": 1},
    PcapngDump: {"org.example.chat": 2, "org.example.mail": 1},
}


class Recorder:
    """``apptell dataset record`` as a process that says when it is ready."""

    def __init__(self, server, folder, words):
        self._server, self._out, said = server, folder / "stdout", folder / "stderr"
        self._out.write_bytes(b"")
        said.unlink(missing_ok=True)
        os.mkfifo(said)
        streams = {"in": os.devnull, "out": str(self._out), "err": str(said)}
        self._number = server.begin(
            ["dataset", "record", *words], None, dict(os.environ), **streams
        )
        self._said = said.open(encoding="utf-8")
        self.first = self._said.readline()

    def end(self, number=None):
        """The report, and what it said after the first line."""
        if number is not None:
            os.kill(self._number, number)
        with self._said:
            said = self._said.read()
        assert self._server.wait() == 0, said
        return json.loads(self._out.read_text()), said


@pytest.fixture
def record(fork_server, tmp_path):
    """Begins to record a source into a dataset."""

    def begin(source, folder, *options):
        return Recorder(fork_server, tmp_path, [source, "-o", str(folder), *map(str, options)])

    return begin


@pytest.mark.parametrize(
    ("dump", "ending"), [(PcapDump, signal.SIGINT), (PcapngDump, signal.SIGTERM)]
)
def test_the_udp_exporter_is_recorded_until_the_user_stops(record, tmp_path, dump, ending):
    port = free_port(socket.SOCK_DGRAM)
    recorder = record(f"pcapdroid+udp://127.0.0.1:{port}", tmp_path / "d", "--group", "network=x")
    assert recorder.first.startswith(f"Recording pcapdroid+udp://127.0.0.1:{port}.")
    Phone(dump(), packets(3)).send_udp(port)
    wait_until_taken(port, "udp")
    found, _ = recorder.end(ending)
    assert (found["flows"], found["packets"]) == (3, len(packets(3)))
    data = Dataset.open(tmp_path / "d")
    assert data.info["apps"] == APPS[dump]
    assert data.info["groups"]["network"] == {"x": 3}
    assert len(data.info["groups"]["session"]) == 1


@pytest.mark.parametrize("dump", [PcapDump, PcapngDump])
def test_a_receiver_that_came_late_makes_up_the_header_and_bears_loss(record, tmp_path, dump):
    port = free_port(socket.SOCK_DGRAM)
    recorder = record(f"pcapdroid+udp://127.0.0.1:{port}", tmp_path / "d")
    # Lost are the first packets of the first flow, and a datagram of somebody else's comes between.
    found = packets(5)
    Phone(dump(), found[2:]).send_udp(port, with_header=False, lose={5})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"hello", ("127.0.0.1", port))
    wait_until_taken(port, "udp")
    report, _ = recorder.end(signal.SIGINT)
    assert report["flows"] + sum(report["dropped"].values()) == 5
    assert set(Dataset.open(tmp_path / "d").info["apps"]) == set(APPS[dump])


@pytest.mark.parametrize(
    ("dump", "path"), [(PcapDump, ""), (PcapngDump, "/"), (PcapDump, "/any.pcap")]
)
def test_the_http_server_is_asked_for_its_capture_and_recorded_to_its_end(
    record, tmp_path, dump, path
):
    phone = Phone(dump(), packets(3))
    port = phone.serve_http()
    recorder = record(f"http://127.0.0.1:{port}{path}", tmp_path / "d")
    wait_until_taken(port, "tcp")
    phone.over.set()
    assert recorder.end()[0]["flows"] == 3
    assert phone.requests[0].startswith(b"GET /")
    assert not phone.requests[0].startswith(b"GET / ")
    assert Dataset.open(tmp_path / "d").info["apps"] == APPS[dump]


@pytest.mark.parametrize(("dump", "ending"), [(PcapDump, None), (PcapngDump, signal.SIGINT)])
def test_the_tcp_exporter_connects_and_is_recorded(record, tmp_path, dump, ending):
    port = free_port()
    recorder = record(f"pcap+listen://127.0.0.1:{port}", tmp_path / "d")
    phone = Phone(dump(), packets(3))
    phone.send_tcp(port)
    wait_until_taken(port, "tcp")
    if ending is None:
        phone.over.set()
    assert recorder.end(ending)[0]["flows"] == 3
    assert Dataset.open(tmp_path / "d").info["apps"] == APPS[dump]


def test_two_recordings_are_two_sessions_and_a_table_renames_titles(record, tmp_path):
    (tmp_path / "names").write_text("mail & söhne, inc.,mail\n", encoding="utf-8")
    for _ in range(2):
        port = free_port(socket.SOCK_DGRAM)
        recorder = record(
            f"pcapdroid+udp://127.0.0.1:{port}", tmp_path / "d", "--rename", tmp_path / "names"
        )
        Phone(PcapDump(), packets(3)).send_udp(port)
        wait_until_taken(port, "udp")
        recorder.end(signal.SIGINT)
    data = Dataset.open(tmp_path / "d")
    assert data.info["apps"] == {"chat": 4, "mail": 2}
    assert len(data.info["sources"]) == 2


def test_the_clock_ends_a_recording_and_silence_is_said(record, tmp_path):
    port = free_port(socket.SOCK_DGRAM)
    recorder = record(f"pcapdroid+udp://127.0.0.1:{port}", tmp_path / "d", "--seconds", "0.5")
    report, said = recorder.end()
    assert "No packet arrived" in said
    assert report["flows"] == 0


def test_nobody_there_is_said_in_one_line(run, tmp_path):
    done = run("dataset", "record", f"pcap+tcp://127.0.0.1:{free_port()}", "-o", tmp_path / "d")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "refused" in done.stderr
    assert not (tmp_path / "d" / "dataset.json").exists()
