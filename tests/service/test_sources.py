"""Every stream that is named gives the records of the file: real sockets, real senders."""

import http.server
import socket
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from apptell.errors import CaptureError
from apptell.models import load_model
from apptell.service import LivePipeline, QueuedOutput, ReplaySource, StreamSource, sources
from apptell.testing import app_capture, pcap_bytes, write_pcap
from tests.service.test_same_records import Kept, from_disk, no_evidence
from tests.whole_folders import table_of

PACKETS = app_capture(["signal", "zoom"], 4)


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def expected(model, tmp_path_factory):
    records, _ = from_disk(
        write_pcap(tmp_path_factory.mktemp("capture") / "a.pcap", PACKETS), model, no_evidence
    )
    assert len(records) == 16
    return without_capture(records.to_batches())


def without_capture(batches):
    return table_of(batches, without=frozenset({"capture"})).to_pylist()


class Ring:
    """An interface on which packets wait; with more than one batch takes, it is behind."""

    name = "wire"

    def __init__(self, *, is_behind=False):
        self.is_behind = is_behind

    def read(self, timeout_s):
        return PACKETS


class Clock:
    """A clock that goes on only while somebody sleeps or works."""

    def __init__(self):
        self.now_s, self.slept = 100.0, []

    def monotonic(self):
        return self.now_s

    def sleep(self, seconds):
        self.slept.append(round(seconds, 6))
        self.now_s += seconds


@pytest.mark.parametrize(("is_behind", "slept"), [(False, [0.03, 0.0, 0.05]), (True, [])])
def test_batches_of_an_interface_begin_at_intervals_unless_it_is_behind(
    monkeypatch, is_behind, slept
):
    clock = Clock()
    monkeypatch.setattr(sources, "time", clock)
    source = sources.InterfaceSource(Ring(is_behind=is_behind))
    batches = source.batches()
    next(batches)
    for worked_s, source.interval_s in ((0.01, 0.04), (0.05, 0.04), (0.0, 0.05)):
        clock.now_s += worked_s
        assert next(batches) is PACKETS
    assert clock.slept == slept


def n_verdicts(batches):
    return sum(batch["event"].to_pylist().count("verdict") for batch in list(batches))


def read(address, model, *, stop_after=None):
    """What comes of a source; one that never ends is stopped after so many verdicts."""
    kept, stop = Kept(), threading.Event()
    output = QueuedOutput("kept", kept, is_lossless=True)

    def watch():
        until = time.monotonic() + 120
        while n_verdicts(kept.batches) < stop_after and time.monotonic() < until:
            time.sleep(0.02)
        stop.set()

    if stop_after is not None:
        threading.Thread(target=watch, daemon=True).start()
    LivePipeline([StreamSource(address)], model, [output]).run(stop)
    return without_capture(kept.batches)


def in_the_background(work, *arguments):
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def until_bound(port):
    """Waits until a UDP socket is bound to a port; a datagram sent before would be lost."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        tables = "".join(Path(f"/proc/net/{name}").read_text() for name in ("udp", "udp6"))
        if f":{port:04X} " in tables:
            return
        time.sleep(0.05)


def test_a_sender_that_listens_is_connected_to(model, expected):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(pcap_bytes(PACKETS))

        server = in_the_background(serve)
        address = f"pcap+tcp://127.0.0.1:{listener.getsockname()[1]}"
        assert read(address, model) == expected
        server.join(60)


def test_a_sender_that_connects_is_listened_to(model, expected):
    port = free_port()

    def send():
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    data = pcap_bytes(PACKETS)
                    for start in range(0, len(data), 999):  # packets cut anywhere
                        connection.sendall(data[start : start + 999])
                    return
            except ConnectionRefusedError:
                time.sleep(0.02)

    sender = in_the_background(send)
    assert read(f"pcap+listen://127.0.0.1:{port}", model) == expected
    sender.join(60)


def test_pcapdroid_sends_a_datagram_a_record(model, expected):
    port = free_port(socket.SOCK_DGRAM)

    def send():
        until_bound(port)
        data = pcap_bytes(PACKETS)
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as out:
            out.sendto(data[:24], ("127.0.0.1", port))
            at = 24
            for _, frame in PACKETS:
                out.sendto(data[at : at + 16 + len(frame)], ("127.0.0.1", port))
                at += 16 + len(frame)
                time.sleep(0.002)

    sender = in_the_background(send)
    verdicts = [line for line in expected if '"event": "verdict"' in line]
    records = read(f"pcapdroid+udp://127.0.0.1:{port}", model, stop_after=len(verdicts))
    assert [line for line in records if '"event": "verdict"' in line] == verdicts
    sender.join(60)


def test_pcapdroid_s_server_answers_with_a_capture(model, expected):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/capture.pcap"
            self.send_response(200)
            self.send_header("Content-Type", "application/cap")
            self.end_headers()
            self.wfile.write(pcap_bytes(PACKETS))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        in_the_background(server.serve_forever)
        assert read(f"http://127.0.0.1:{server.server_address[1]}", model) == expected
        server.shutdown()


def test_when_a_sender_hangs_up_in_mid_packet_what_came_before_is_kept(model):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(pcap_bytes(PACKETS)[:-7])

        in_the_background(serve)
        kept = Kept()
        source = StreamSource(f"pcap+tcp://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(CaptureError):
            LivePipeline([source], model, [QueuedOutput("kept", kept, is_lossless=True)]).run(
                threading.Event()
            )
        assert sum(map(len, kept.batches)) == 16


def test_nobody_there_is_said(model):
    with pytest.raises(CaptureError, match=r"Connection refused"):
        read(f"pcap+tcp://127.0.0.1:{free_port()}", model)


def test_a_replay_does_not_wait_for_hours_and_says_what_it_passed_over(tmp_path):
    times_s = [0, 0.01, 50_000, 50_000.01, 3, 60_030]
    first_ns = PACKETS[0][0]
    packets = [
        (first_ns + int(at * 1e9), frame) for at, (_, frame) in zip(times_s, PACKETS, strict=False)
    ]
    said = []
    source = ReplaySource(write_pcap(tmp_path / "gap.pcap", packets), 1.0, said.append)
    begin_s = time.monotonic()
    assert sum(len(batch) for batch in source.batches() if batch is not None) == 6
    assert time.monotonic() - begin_s < 60
    assert said == [
        "gap.pcap: no packet for 50,000 s of the capture; skipped",
        "gap.pcap: no packet for 10,030 s of the capture; skipped",
    ]
    assert source.now_ns() >= packets[-1][0]
