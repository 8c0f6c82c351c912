import http.server
import socket
import threading
import time

import pytest

from apptell.capture import Owner, network, open_capture
from apptell.capture.byte_streams import Stop
from apptell.errors import CaptureError, UsageError
from tests.capture import crafted
from tests.capture.crafted import FRAMES
from tests.capture.test_pcap import frames_of


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def in_background(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def send_slowly(connection, data):
    with connection:
        for at in range(0, len(data), 50):
            connection.sendall(data[at : at + 50])
            time.sleep(0.0005)


def frames(reader):
    return [batch.frame(row) for batch in reader for row in range(len(batch))]


def test_a_sender_is_connected_to():
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = in_background(lambda: send_slowly(server.accept()[0], crafted.rich_pcapng()))
        with open_capture(f"pcap+tcp://127.0.0.1:{server.getsockname()[1]}") as reader:
            assert frames(reader) == FRAMES[:5]
        sender.join()


def test_one_sender_is_accepted():
    port = free_port()

    def send():
        for _ in range(100):
            try:
                connection = socket.create_connection(("127.0.0.1", port))
            except OSError:
                time.sleep(0.02)
                continue
            send_slowly(connection, crafted.pcap())
            return

    sender = in_background(send)
    with open_capture(f"pcap+listen://127.0.0.1:{port}") as reader:
        assert frames(reader) == FRAMES
    sender.join()


def datagrams(parts, n_packets):
    """What a reader makes of datagrams that are sent until it has so many packets."""
    port, stop = free_port(socket.SOCK_DGRAM), threading.Event()
    reader = open_capture(f"pcapdroid+udp://127.0.0.1:{port}", stop=stop)
    got, owners = [], []

    def receive():
        for batch in reader:
            got.extend(frames_of([batch]))
            owners.extend(
                batch.owners[index] if index >= 0 else None for index in batch.owner.tolist()
            )

    receiver = in_background(receive)
    time.sleep(0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for part in parts:
            sender.sendto(part, ("127.0.0.1", port))
    deadline = time.monotonic() + 60
    while len(got) < n_packets and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    receiver.join()
    return got, owners, reader.stats


RECORDS = [crafted.pcap_record(frame) for frame in FRAMES]


def test_datagrams_of_pcap_are_read():
    got, _, stats = datagrams([crafted.pcap_header(), *RECORDS], len(FRAMES))
    assert got == FRAMES
    assert stats.link_types == {"ETHERNET": len(FRAMES)}


def test_a_late_receiver_makes_up_the_header_and_junk_does_no_harm():
    late = [RECORDS[0], b"junk", b"", crafted.pcap_header(link_type=101), *RECORDS[1:]]
    got, _, stats = datagrams(late, len(FRAMES))
    assert got == FRAMES
    assert stats.link_types == {"RAW": len(FRAMES)}
    assert stats.skipped_blocks == {"datagram": 2}


def test_a_late_receiver_knows_frames_with_the_exporter_s_trailer():
    frame = bytes(12) + b"\x08\x00" + bytes([0x45]) + bytes(60)
    _, _, stats = datagrams([crafted.pcap_record(frame)] * 2, 2)
    assert stats.link_types == {"ETHERNET": 2}


@pytest.mark.parametrize("late", [False, True])
def test_datagrams_of_pcapng_are_read(late):
    start = [] if late else [crafted.section() + crafted.interface(link_type=101)]
    blocks = [
        crafted.pcapdroid_owner(10123, "org.example.chat", "Chat"),
        *(crafted.enhanced(frame, options=crafted.comment("u-10123")) for frame in FRAMES),
    ]
    got, owners, stats = datagrams(start + blocks, len(FRAMES))
    assert got == FRAMES
    assert set(owners) == {Owner(10123, "org.example.chat", "Chat")}
    assert stats.link_types == {"RAW": len(FRAMES)}


class Chunks(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        data = crafted.pcap()
        pieces = [data[at : at + 90] for at in range(0, len(data), 90)]
        if self.path == "/cut":
            pieces = pieces[:3]
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if self.path == "/cut":
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chunks) as server:
        thread = in_background(lambda: server.serve_forever(0.02))
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_http_server_s_chunks_are_read(server):
    for address in (server, f"{server}/", f"{server}/any.pcap"):
        with open_capture(address) as reader:
            assert frames(reader) == FRAMES


def test_an_answer_that_is_cut_short_is_damage_after_its_packets(server):
    got = []
    with open_capture(f"{server}/cut") as reader, pytest.raises(CaptureError, match="cut short"):
        got.extend(frame for batch in reader for frame in frames_of([batch]))
    assert got == FRAMES[: len(got)] != []


@pytest.mark.parametrize(
    "address",
    ["pcap+tcp://127.0.0.1", "pcap+tcp://:5", "pcap+listen://:99999", "pcapdroid+udp://"],
)
def test_an_address_without_its_parts_is_wrong_usage(address):
    with pytest.raises(UsageError), open_capture(address) as reader:
        next(reader)


@pytest.mark.parametrize(
    "host", ["a" * 64, "a..example", "\u2100.example\0", "a\0b", "a\nb", "a b", "\ud800"]
)
@pytest.mark.parametrize("scheme", ["pcap+tcp", "pcap+listen", "pcapdroid+udp", "http"])
def test_a_host_that_cannot_be_one_is_wrong_usage(scheme, host):
    with pytest.raises(UsageError), open_capture(f"{scheme}://{host}:5") as reader:
        next(reader)


def test_a_chunk_of_negative_size_is_damage():
    """Its data may be longer than what was asked for."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n" + bytes(99))
        stream = network.HttpStream(ours, "phone", "/", Stop(None))
        with pytest.raises(OSError, match="not valid HTTP"):
            stream.readinto(memoryview(bytearray(10)))
        stream.close()


def test_nobody_there_is_an_error():
    with pytest.raises(CaptureError, match="refused"):
        frames(open_capture(f"pcap+tcp://127.0.0.1:{free_port()}"))
    with pytest.raises(CaptureError, match="nobody connected"):
        frames(open_capture(f"pcap+listen://127.0.0.1:{free_port()}", stop=lambda: True))


def test_headers_that_come_byte_by_byte_have_a_time_limit_in_all(monkeypatch):
    monkeypatch.setattr(network, "ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def drip():
            connection = server.accept()[0]
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000:
                    if done.wait(0.05):
                        return
                    try:
                        connection.sendall(bytes([byte]))
                    except OSError:
                        return

        sender = in_background(drip)
        begin = time.monotonic()
        with (
            pytest.raises(CaptureError, match=r"no answer within 0\.5 s"),
            open_capture(f"http://127.0.0.1:{server.getsockname()[1]}/") as reader,
        ):
            list(reader)
        assert time.monotonic() - begin < 100
        done.set()
        sender.join()


def test_an_answer_that_has_begun_may_be_silent_for_long(monkeypatch):
    monkeypatch.setattr(network, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection = server.accept()[0]
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + crafted.pcap()[:60])
                time.sleep(0.8)
                connection.sendall(crafted.pcap()[60:])

        sender = in_background(answer)
        with open_capture(f"http://127.0.0.1:{server.getsockname()[1]}/") as reader:
            assert frames(reader) == FRAMES
        sender.join()


def test_who_connects_and_sends_nothing_does_not_keep_the_sender_out(monkeypatch):
    monkeypatch.setattr(network, "ANSWER_S", 0.3)
    port = free_port()

    def send():
        for _ in range(200):
            try:
                scan = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                time.sleep(0.02)
        with scan, socket.create_connection(("127.0.0.1", port)) as hurried:
            hurried.close()
            send_slowly(socket.create_connection(("127.0.0.1", port)), crafted.pcap())

    sender = in_background(send)
    with open_capture(f"pcap+listen://127.0.0.1:{port}") as reader:
        assert frames(reader) == FRAMES
    sender.join()
