"""Phones recorded live: PCAPdroid's exporters over loopback, ended by phone, user and clock."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

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

    def __init__(self, source, folder, *options):
        command = [sys.executable, "-m", "apptell.cli", "dataset", "record", source, "-o", folder]
        self.child = subprocess.Popen(
            [*map(str, command), *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.first = self.child.stderr.readline()

    def end(self, number=None):
        if number is not None:
            self.child.send_signal(number)
        out, err = self.child.communicate(timeout=120)
        assert self.child.returncode == 0, err
        return json.loads(out)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("dump", [PcapDump, PcapngDump])
def test_the_udp_exporter_is_recorded_until_the_user_stops(tmp_path, dump, ending):
    port = free_port(socket.SOCK_DGRAM)
    recorder = Recorder(f"pcapdroid+udp://127.0.0.1:{port}", tmp_path / "d", "--group", "network=x")
    assert recorder.first.startswith(f"Recording pcapdroid+udp://127.0.0.1:{port}.")
    Phone(dump(), packets(3)).send_udp(port)
    wait_until_taken(port, "udp")
    found = recorder.end(ending)
    assert (found["flows"], found["packets"]) == (3, len(packets(3)))
    data = Dataset.open(tmp_path / "d")
    assert data.info["apps"] == APPS[dump]
    assert data.info["groups"]["network"] == {"x": 3}
    assert len(data.info["groups"]["session"]) == 1


@pytest.mark.parametrize("dump", [PcapDump, PcapngDump])
def test_a_receiver_that_came_late_makes_up_the_header_and_bears_loss(tmp_path, dump):
    port = free_port(socket.SOCK_DGRAM)
    recorder = Recorder(f"pcapdroid+udp://127.0.0.1:{port}", tmp_path / "d")
    # Lost are the first packets of the first flow, and a datagram of somebody else's comes between.
    found = packets(5)
    Phone(dump(), found[2:]).send_udp(port, with_header=False, lose={5})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"hello", ("127.0.0.1", port))
    wait_until_taken(port, "udp")
    report = recorder.end(signal.SIGINT)
    assert report["flows"] + sum(report["dropped"].values()) == 5
    assert set(Dataset.open(tmp_path / "d").info["apps"]) == set(APPS[dump])


@pytest.mark.parametrize(
    ("dump", "path"), [(PcapDump, ""), (PcapngDump, "/"), (PcapDump, "/any.pcap")]
)
def test_the_http_server_is_asked_for_its_capture_and_recorded_to_its_end(tmp_path, dump, path):
    phone = Phone(dump(), packets(3))
    port = phone.serve_http()
    recorder = Recorder(f"http://127.0.0.1:{port}{path}", tmp_path / "d")
    wait_until_taken(port, "tcp")
    phone.over.set()
    assert recorder.end()["flows"] == 3
    assert phone.requests[0].startswith(b"GET /")
    assert not phone.requests[0].startswith(b"GET / ")
    assert Dataset.open(tmp_path / "d").info["apps"] == APPS[dump]


@pytest.mark.parametrize(("dump", "ending"), [(PcapDump, None), (PcapngDump, signal.SIGINT)])
def test_the_tcp_exporter_connects_and_is_recorded(tmp_path, dump, ending):
    port = free_port()
    recorder = Recorder(f"pcap+listen://127.0.0.1:{port}", tmp_path / "d")
    phone = Phone(dump(), packets(3))
    phone.send_tcp(port)
    wait_until_taken(port, "tcp")
    if ending is None:
        phone.over.set()
    assert recorder.end(ending)["flows"] == 3
    assert Dataset.open(tmp_path / "d").info["apps"] == APPS[dump]


def test_two_recordings_are_two_sessions_and_a_table_renames_titles(tmp_path):
    (tmp_path / "names").write_text("mail & söhne, inc.,mail\n", encoding="utf-8")
    for _ in range(2):
        port = free_port(socket.SOCK_DGRAM)
        recorder = Recorder(
            f"pcapdroid+udp://127.0.0.1:{port}", tmp_path / "d", "--rename", tmp_path / "names"
        )
        Phone(PcapDump(), packets(3)).send_udp(port)
        wait_until_taken(port, "udp")
        recorder.end(signal.SIGINT)
    data = Dataset.open(tmp_path / "d")
    assert data.info["apps"] == {"chat": 4, "mail": 2}
    assert len(data.info["sources"]) == 2


def test_the_clock_ends_a_recording_and_silence_is_said(tmp_path):
    port = free_port(socket.SOCK_DGRAM)
    recorder = Recorder(f"pcapdroid+udp://127.0.0.1:{port}", tmp_path / "d", "--seconds", "0.5")
    out, err = recorder.child.communicate(timeout=120)
    assert recorder.child.returncode == 0, err
    assert "No packet arrived" in err
    assert json.loads(out)["flows"] == 0


def test_nobody_there_is_said_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "apptell.cli", "dataset", "record",
         f"pcap+tcp://127.0.0.1:{free_port()}", "-o", tmp_path / "d"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "refused" in done.stderr
    assert not (Path(tmp_path) / "d" / "dataset.json").exists()
