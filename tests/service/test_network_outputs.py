"""IPFIX read by nfdump's collector, and HTTP and MQTT outputs with servers that speak these protocols."""

import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from apptell.errors import MissingError, OutputError, UsageError
from apptell.records.values import event_rows
from apptell.service import open_outputs
from apptell.service.outputs.ipfix import TEMPLATES_S, Exporter
from apptell.testing import flow_batch
from tests.ended import ended

N = 3
NEEDS_NFDUMP = pytest.mark.skipif(
    shutil.which("nfcapd") is None or shutil.which("nfdump") is None, reason="needs nfdump"
)


@pytest.fixture(scope="module")
def batches() -> list[pa.RecordBatch]:
    """Verdicts on and ends of three flows, one over IPv6."""
    flows = flow_batch(["signal", "zoom", "skype"]).with_columns(
        client_address=["10.0.0.1", "10.0.0.2", "2001:db8::1"],
        server_address=["203.0.113.1", "203.0.113.2", "2001:db8::2"],
        packets_to_server=[5, 6, 7],
        bytes_to_server=[500, 600, 700],
        packets_to_client=[50, 60, 70],
        bytes_to_client=[5000, 6000, 7000],
    )
    return list(ended(flows, threshold=0.0))


def _through(text: str, batches: list[pa.RecordBatch]) -> dict[str, int]:
    (output,) = open_outputs([text], is_lossless=True)
    for batch in batches:
        output.put(batch)
    _until(lambda: output.counts()["written"] == 2 * N)
    output.close()
    return output.counts()


def _until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.02)


# --- IPFIX


def _free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@NEEDS_NFDUMP
def test_nfdump_reads_the_flows(batches: list[pa.RecordBatch], tmp_path: Path) -> None:
    port = _free_port(socket.SOCK_DGRAM)
    words = ["nfcapd", "-w", str(tmp_path), "-p", str(port), "-b", "127.0.0.1", "-t", "3600"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as collector:
        try:
            open_sockets = Path("/proc/net/udp")
            _until(lambda: f":{port:04X} " in open_sockets.read_text())
            counts = _through(f"ipfix:127.0.0.1:{port}", batches)
            assert counts["exported"] == N
            # the kernel has the datagrams; the collector writes them when it ends
            _until(lambda: not _waits(open_sockets, port))
        finally:
            collector.terminate()
            collector.wait(120)
    (file,) = tmp_path.glob("nfcapd.*")
    words = ["nfdump", "-r", str(file), "-o", "json", "-q"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = _objects(said)
    clients = {row.get("src4_addr") or row.get("src6_addr"): row for row in found}
    assert set(clients) == {"10.0.0.1", "10.0.0.2", "2001:db8::1"}
    first = clients["10.0.0.1"]
    assert (first["in_packets"], first["in_bytes"]) == (5, 500)
    assert (first["out_packets"], first["out_bytes"]) == (50, 5000)
    assert first["proto"] == 6
    assert first["dst4_addr"] == "203.0.113.1"


def _objects(text: str) -> list[dict[str, Any]]:
    """JSON objects one after the other, with or without commas and brackets."""
    decoder, found = json.JSONDecoder(), []
    while "{" in text:
        text = text[text.index("{") :]
        one, end = decoder.raw_decode(text)
        found.append(one)
        text = text[end:]
    return found


def _waits(table: Path, port: int) -> bool:
    """Whether datagrams wait in the socket of a port."""
    for line in table.read_text().splitlines():
        words = line.split()
        if len(words) > 4 and words[1].endswith(f":{port:04X}"):
            return not words[4].endswith(":00000000")
    return False


def _fields(data: bytes, count: int) -> list[tuple[int, int, int]]:
    found, at = [], 0
    for _ in range(count):
        element, length = struct.unpack_from(">HH", data, at)
        at += 4
        number = 0
        if element & 0x8000:
            (number,) = struct.unpack_from(">I", data, at)
            at += 4
        found.append((element & 0x7FFF, length, number))
    return found


def _read(stream: bytes) -> list[dict[tuple[int, int], bytes]]:
    """The data records of IPFIX messages by element and enterprise; reads as RFC 7011 says, by templates."""
    templates: dict[int, list[tuple[int, int, int]]] = {}
    records: list[dict[tuple[int, int], bytes]] = []
    at = 0
    while at < len(stream):
        version, size, _, sequence, domain = struct.unpack_from(">HHIII", stream, at)
        assert (version, domain, sequence) == (10, 1, len(records))
        number, length = struct.unpack_from(">HH", stream, at + 16)
        assert length == size - 16
        body = stream[at + 20 : at + size]
        at += size
        if number == 2:
            while body:
                template, count = struct.unpack_from(">HH", body)
                templates[template] = _fields(body[4:], count)
                body = body[4 + sum(8 if field[2] else 4 for field in templates[template]) :]
        elif number == 3:
            template, count, scope = struct.unpack_from(">HHH", body)
            assert scope == 1
            templates[template] = _fields(body[6:], count)
        else:
            place = 0
            while place < len(body):
                record = {}
                for element, width, enterprise in templates[number]:
                    if width == 0xFFFF:
                        width = body[place]
                        place += 1
                    record[element, enterprise] = body[place : place + width]
                    place += width
                records.append(record)
    return records


def _collect(server: socket.socket, received: bytearray) -> None:
    connection, _ = server.accept()
    with connection:
        while data := connection.recv(65536):
            received += data


@pytest.mark.parametrize("secure", [False, True])
def test_apps_and_community_ids_are_elements_of_each_flow(
    batches: list[pa.RecordBatch], tmp_path: Path, secure: bool
) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    place = f"tcp://127.0.0.1:{port}?pen=99999"
    if secure:
        certificate = _certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server = context.wrap_socket(server, server_side=True)
        place = f"tls://localhost:{port}?pen=99999&ca={certificate}"
    received = bytearray()
    collector = threading.Thread(target=_collect, args=(server, received), daemon=True)
    collector.start()
    _through(f"ipfix:{place}", batches)
    collector.join(60)
    server.close()
    records = _read(bytes(received))
    flows = [record for record in records if (152, 0) in record]
    apps = {r[95, 0]: r[96, 0].decode() for r in records if (94, 0) in r}
    assert len(flows) == N
    expected = event_rows(batches[1])
    by_id = {flow[1, 99999].decode(): flow for flow in flows}
    for row in expected:
        flow = by_id[row["community_id"]]
        assert flow[96, 0].decode() == apps[flow[95, 0]] == row["app"]
        assert flow[95, 0][0] == 6  # classification engine: user-defined
        assert flow[2, 99999].decode() == row["outcome"]
        assert int.from_bytes(flow[2, 29305], "big") == row["packets_to_client"]
        assert int.from_bytes(flow[152, 0], "big") == row["time"] // 10**6


def _certificate(folder: Path) -> Path:
    """A certificate of localhost and its key in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    path = folder / "localhost.pem"
    words = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    words += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext"]
    words += ["subjectAltName=DNS:localhost", "-keyout", str(path), "-out", str(folder / "c")]
    subprocess.run(words, check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "c").read_text())
    return path


def test_templates_are_repeated_over_udp_alone(batches: list[pa.RecordBatch]) -> None:
    for is_stream, repeated in ((False, 2), (True, 1)):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        now_s = [0.0]
        exporter = Exporter(lambda s=ours: s, "x", is_stream=is_stream, clock=lambda n=now_s: n[0])
        exporter.write(batches[1])
        now_s[0] = TEMPLATES_S + 1
        exporter.write(batches[1])
        exporter.close()
        theirs.setblocking(False)
        sets = []
        while True:
            try:
                sets.append(struct.unpack_from(">H", theirs.recv(65536), 16)[0])
            except BlockingIOError:
                break
            if not sets[-1]:
                break
        theirs.close()
        assert (sets.count(2), sets.count(3)) == (repeated, repeated)


# --- HTTP


class _Server(ThreadingHTTPServer):
    """Keeps requests, and answers them with what ``answer`` returns."""

    def __init__(self, answer: Callable[[int, str, bytes], tuple[int, bytes]]) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer = answer
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.requests.append((self.path, dict(self.headers), body))
        status, said = server.answer(len(server.requests), self.path, body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., _Server]]:
    servers: list[_Server] = []

    def start(answer: Callable[[int, str, bytes], tuple[int, bytes]]) -> _Server:
        servers.append(_Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_http_batches_are_sent_again_while_the_server_is_busy(
    batches: list[pa.RecordBatch], serve: Callable[..., _Server]
) -> None:
    server = serve(lambda n, path, body: (503 if n == 1 else 429 if n == 2 else 200, b"ok"))
    counts = _through(f"http://user:pass%20word@{server.address}/in?x=1", batches)
    assert counts["errors"] == 2
    assert counts["refused"] == 0
    assert [path for path, *_ in server.requests] == ["/in?x=1"] * 4
    headers = server.requests[0][1]
    assert headers["Authorization"] == "Basic dXNlcjpwYXNzIHdvcmQ="
    assert headers["Content-Type"] == "application/x-ndjson"
    rows = [json.loads(line) for _, _, body in server.requests[2:] for line in body.splitlines()]
    assert [row["event"] for row in rows] == ["verdict"] * N + ["end"] * N


def test_what_a_server_refuses_is_counted_and_not_sent_again(
    batches: list[pa.RecordBatch], serve: Callable[..., _Server]
) -> None:
    server = serve(lambda n, path, body: (400, b""))
    counts = _through(f"eve:http://bearer:secret@{server.address}/in", batches)
    assert (counts["refused"], len(server.requests)) == (2 * N, 2)
    assert server.requests[0][1]["Authorization"] == "Bearer secret"
    assert json.loads(server.requests[0][2].splitlines()[0])["event_type"] == "app_id"


def test_passwords_are_not_in_an_output_s_name(serve: Callable[..., _Server]) -> None:
    (output,) = open_outputs(["http://user:secret@127.0.0.1:1/in"], is_lossless=True)
    output.close()
    assert output.name == "http://127.0.0.1:1/in"


def test_opensearch_gets_ecs_documents_once_each(
    batches: list[pa.RecordBatch], serve: Callable[..., _Server]
) -> None:
    documents: dict[str, dict[str, Any]] = {}

    def bulk(n: int, path: str, body: bytes) -> tuple[int, bytes]:
        """As OpenSearch answers; the first time, the second document finds no room."""
        assert path == "/flows-apptell/_bulk"
        assert body.endswith(b"\n")
        lines = [json.loads(line) for line in body.splitlines()]
        items = []
        for place, (action, document) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
            key = action["create"]["_id"]
            status = 409 if key in documents else 429 if n == 1 and place == 1 else 201
            if status == 201:
                documents[key] = document
            items.append({"create": {"status": status}})
        return 200, json.dumps({"errors": True, "items": items}).encode()

    server = serve(bulk)
    counts = _through(f"opensearch:http://{server.address}/flows-apptell", batches)
    assert (counts["errors"], counts["refused"]) == (1, 0)
    assert len(documents) == 2 * N
    assert {each["ecs"]["version"] for each in documents.values()} == {"8.11.0"}


def test_documents_that_opensearch_refuses_are_counted(
    batches: list[pa.RecordBatch], serve: Callable[..., _Server]
) -> None:
    item = {"create": {"status": 400, "error": {"reason": "no such field"}}}
    said = json.dumps({"items": [item] * N}).encode()
    server = serve(lambda n, path, body: (200, said))
    assert _through(f"opensearch:http://{server.address}/i", batches)["refused"] == 2 * N


def test_loki_gets_streams_by_event_with_times_in_ns(
    batches: list[pa.RecordBatch], serve: Callable[..., _Server]
) -> None:
    server = serve(lambda n, path, body: (204, b""))
    assert _through(f"loki:http://{server.address}", batches)["refused"] == 0
    path, headers, body = server.requests[1]
    assert (path, headers["Content-Type"]) == ("/loki/api/v1/push", "application/json")
    (stream,) = json.loads(body)["streams"]
    assert stream["stream"] == {"job": "apptell", "event": "end"}
    first = event_rows(batches[1])[0]
    time_ns, line = stream["values"][0]
    assert int(time_ns) == first["end_time"]
    assert json.loads(line)["app"] == first["app"]


def test_a_server_that_is_not_there_is_reported(batches: list[pa.RecordBatch]) -> None:
    port = _free_port(socket.SOCK_STREAM)
    (output,) = open_outputs([f"http://127.0.0.1:{port}/in"], is_lossless=True)
    output.put(batches[0])
    output.close()
    assert output.counts()["dropped"] == N
    assert "Connection refused" in output.fault


# --- MQTT


def _packet(kind: int, body: bytes) -> bytes:
    return bytes((kind, len(body))) + body


def _broker(server: socket.socket, messages: list[tuple[str, bytes]]) -> None:
    """A broker of MQTT 3.1.1: accepts one client, and confirms what it publishes with QoS 1."""
    connection, _ = server.accept()
    with connection, connection.makefile("rb") as stream:
        while head := stream.read(1):
            size, shift = 0, 0
            while True:
                byte = stream.read(1)[0]
                size |= (byte & 127) << shift
                shift += 7
                if not byte & 128:
                    break
            body = stream.read(size)
            kind = head[0] >> 4
            if kind == 1:
                assert body[2:6] == b"MQTT"
                connection.sendall(_packet(0x20, b"\0\0"))
            elif kind == 3:
                assert head[0] & 6 == 2  # QoS 1
                (n,) = struct.unpack_from(">H", body)
                messages.append((body[2 : 2 + n].decode(), body[4 + n :]))
                connection.sendall(_packet(0x40, body[2 + n : 4 + n]))
            elif kind == 14:
                return


def test_mqtt_messages_are_confirmed_by_the_broker(batches: list[pa.RecordBatch]) -> None:
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    messages: list[tuple[str, bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = threading.Thread(target=_broker, args=(server, messages), daemon=True)
        broker.start()
        counts = _through(f"mqtt://127.0.0.1:{server.getsockname()[1]}/home/apps", batches)
        broker.join(60)
    assert (counts["delivered"], counts["undelivered"]) == (2 * N, 0)
    assert {topic for topic, _ in messages} == {"home/apps"}
    rows = [json.loads(message) for _, message in messages]
    # the client sends what it got before it was connected after what it gets meanwhile
    assert sorted(row["event"] for row in rows) == ["end"] * N + ["verdict"] * N
    assert len({(row["event"], row["community_id"]) for row in rows}) == 2 * N


def test_without_the_mqtt_client_the_command_that_installs_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "paho.mqtt.client", None)
    with pytest.raises(MissingError, match=r"pip install 'apptell\[mqtt\]'"):
        open_outputs(["mqtt://localhost/apps"], is_lossless=True)


@pytest.mark.parametrize(
    "text",
    [
        "ipfix:",
        "ipfix:sctp://host",
        "ipfix:host?colour=red",
        "ipfix:host?pen=0",
        "ipfix:host?ca=x",
        "eve:ipfix:host",
        "mqtt://host",
        "mqtt://host/a/#",
        "opensearch:http://host:9200",
        "opensearch:ftp://host/index",
        "loki:host:3100",
        "csv:http://host/in",
    ],
)
def test_what_is_no_output_is_refused(text: str) -> None:
    with pytest.raises((UsageError, OutputError)):
        open_outputs([text], is_lossless=True)
