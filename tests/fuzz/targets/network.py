"""What the network sends: streams of captures, datagrams, HTTP answers and requests, and addresses of senders.

No socket is opened to the outside: a scripted connection gives bytes in pieces of any size, with silence
between them, and may break off at the end.
"""

from __future__ import annotations

import io
import json
import socket
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import mock

from apptell.capture import network
from apptell.capture.byte_streams import Stop
from apptell.capture.capture_reader import CaptureReader, Part
from apptell.capture.source import BATCH_PACKETS
from apptell.errors import ApptellError
from apptell.flows import FlowOptions, FlowReader
from apptell.labels.formats.pcapdroid import TrailerReader
from apptell.names import add_names
from apptell.service.metrics import Metrics, MetricsServer
from apptell.service.on_verdict import CallError, Webhook
from apptell.testing import Packet, client_hello, conversation, pcap_bytes
from tests.capture import crafted
from tests.fuzz.mutators import spoil
from tests.fuzz.target import Files, Target
from tests.labels.formats import test_pcapdroid

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

OPTIONS = FlowOptions(transports=(6, 17), max_flows=64, segment_memory=1 << 16)
LARGEST_ANSWER = 1 << 18
"""Bytes that a metrics server may answer with."""
HEADERS = (
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Content-Length: 0",
    b"Content-Length: -5", b"Content-Length: 99999999999999999999", b"Content-Length: x",
    b"Connection: close", b"Content-Encoding: gzip", b"X: " + b"y" * 70_000, b"\xff\xfe: \x00", b" folded",
    b":", b"A" * 200, b"Location: http://127.0.0.1/",
)  # fmt: skip
STATUSES = (
    b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.0 200",
    b"HTTP/9.9 200 OK", b"HTTP/1.1 999", b"HTTP/1.1 -1 x", b"HTTP/1.1 404 \x1b[2J", b"HTTP/1.1",
    b"ICY 200 OK", b"", b"HTTP/1.1 304 x", b"HTTP/1.1 204 x", b"HTTP/1.1 302 x",
)  # fmt: skip
SIZES = (
    b"0",
    b"1",
    b"-5",
    b"-1",
    b"ffffffffffffffff",
    b"1;x=y",
    b"0x10",
    b"+5",
    b"1_0",
    b" 5 ",
    b"",
    b"z",
    b"7" * 5000,
)
TARGETS = (
    b"GET /metrics HTTP/1.1", b"GET /metrics", b"HEAD /readyz HTTP/1.1", b"POST /metrics HTTP/1.1",
    b"GET / HTTP/2.0", b"\x16\x03\x01", b"GET  HTTP/1.1", b"GET http://x/metrics HTTP/1.1",
    b"GET /%00 HTTP/1.1", b"GET /\x1b[2J HTTP/1.1", b"GET /metrics?x HTTP/1.1", b"<script> /x HTTP/1.1",
    b"GET /" + b"a" * 70_000, b"GET /metrics HTTP/1.x", b"GET /metrics HTTP/11111111111.1", b"",
)  # fmt: skip
ADDRESSES = (
    "pcap+tcp://127.0.0.1:9", "pcap+tcp://[::1]:9", "pcap+listen://:0", "pcapdroid+udp://127.0.0.1:0",
    "http://127.0.0.1:9/x?y", "http://phone.example/capture.pcap",
)  # fmt: skip
PARTS = (
    "", ":", "/", "@", "[", "]", "%", "\0", "\n", " ", "\u00e9", "\u2100", "\ud800", "a" * 64, "a..b",
    "..", "-1", "65536", "99999999999", "\u0661", "fe80::1%25eth0", "0x7f.1", "xn--a", "user:pass@",
    "\r\nX: y", "?", "#",
)  # fmt: skip


def good() -> dict[str, Files]:
    """Good inputs by kind and number: the pieces in which a connection gives them."""
    pcap, pcapng = crafted.pcap(), crafted.rich_pcapng()
    hello = client_hello("chat.example.org")
    talk = pcap_bytes(conversation(("10.0.0.3", 40000), ("192.0.2.7", 443), [(True, hello)] * 2))
    with_owner: Callable[..., bytes] = test_pcapdroid.with_trailer
    packets: list[Packet] = list(test_pcapdroid.IP_PACKETS)
    frames = [with_owner(data, 10123 + i % 3, b"Chat") for i, (_, data) in enumerate(packets)]
    records = [pcap_bytes([(10**18, frame)])[24:] for frame in frames]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (talk[:100], talk[100:]))
    streams = {
        "tcp-pcap": (pcap,),
        "tcp-pcapng": (pcapng[:50], pcapng[50:]),
        "tcp-talk": (talk,),
        "udp": (pcap_bytes([])[:24], *records),
        "udp-headless": tuple(records),
        "udp-pcapng": (pcapng,),
        "http": (head + b"Content-Length: %d\r\n\r\n" % len(talk) + talk,),
        "http-chunks": (head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX: y\r\n\r\n",),
        "metrics": (b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",),
        "webhook": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",),
        "address": tuple(address.encode() for address in ADDRESSES),
    }  # fmt: skip
    return {name: _numbered(pieces) for name, pieces in streams.items()}


def _numbered(pieces: Sequence[bytes]) -> Files:
    return {f"{number:04d}": piece for number, piece in enumerate(pieces)}


class Network(Target):
    """The pieces that a peer sends, in the order of their names; a last file says of which kind they are."""

    name: ClassVar[str] = "network"
    together: ClassVar[int] = 16

    def seeds(self) -> dict[str, Files]:
        """Good inputs of every kind."""
        return {name: {"kind": name.encode(), **pieces} for name, pieces in good().items()}

    def mutate(self, files: Files, rng: random.Random) -> Files:
        """A line, a chunk's size, a piece or bytes changed."""
        kind = files["kind"]
        pieces = [files[name] for name in sorted(files) if name != "kind"]
        at = rng.randrange(len(pieces))
        choice = rng.randrange(6)
        if kind == b"address":
            text = pieces[at].decode("utf-8", "surrogatepass")
            place = rng.randrange(len(text) + 1)
            text = text[:place] + rng.choice(PARTS) + text[place + rng.randint(0, 9) :]
            pieces[at] = text.encode("utf-8", "surrogatepass")
        elif choice == 0:
            pieces.insert(at, pieces[rng.randrange(len(pieces))])
        elif choice == 1:
            place = rng.randrange(len(pieces[at]) + 1)
            pieces[at : at + 1] = [pieces[at][:place], b"", pieces[at][place:]]
        elif choice < 5 and kind.startswith((b"http", b"metrics", b"webhook")):
            pieces[at] = _spoil_lines(kind, pieces[at], rng)
        else:
            pieces[at] = spoil(pieces[at], rng)
        return {"kind": kind, **_numbered(pieces[:64])}

    def run(self, inputs: Sequence[Files], scratch: Path) -> None:
        """Reads all; the first refusal is raised when all were read."""
        refusal: Exception | None = None
        with mock.patch.object(socket, "getaddrinfo", _resolve):
            for files in inputs:
                pieces = [files[name] for name in sorted(files) if name != "kind"]
                try:
                    READERS[files["kind"].split(b"-")[0]](pieces)
                except self.refusals as error:
                    refusal = error
        if refusal is not None:
            raise refusal


def _spoil_lines(kind: bytes, data: bytes, rng: random.Random) -> bytes:
    """The first line, a header, or the size of a chunk changed."""
    lines = data.split(b"\r\n")
    at = rng.randrange(len(lines))
    where = rng.randrange(5)
    if where == 0:
        lines[0] = rng.choice(TARGETS if kind == b"metrics" else STATUSES)
    elif where == 1:
        lines.insert(min(at, 3), rng.choice(HEADERS))
    elif where == 2:
        del lines[at]
    elif where == 3:
        lines[min(at, 200):min(at, 200)] = [b"A: b"] * rng.choice((1, 99, 101, 500))  # fmt: skip
    else:
        lines[at] = rng.choice(SIZES)
    return b"\r\n".join(lines)


class Connection:
    """A scripted connection: an empty piece is silence, the last one is followed by the end."""

    def __init__(self, pieces: Sequence[bytes], *, breaks: bool = False) -> None:
        self._pieces = list(pieces)
        self._breaks = breaks

    def settimeout(self, _seconds: float | None) -> None:
        """It never waits."""

    def sendall(self, _data: bytes) -> None:
        """What is sent to the peer is of no interest."""

    def recv_into(self, view: Any) -> int:
        """The next piece, or what of it fits."""
        if not self._pieces:
            if self._breaks:
                raise ConnectionResetError(104, "Connection reset by peer")
            return 0
        piece = self._pieces.pop(0)
        if not piece:
            raise TimeoutError
        view = memoryview(view).cast("B")
        view[: len(piece[: len(view)])] = piece[: len(view)]
        if len(piece) > len(view):
            self._pieces.insert(0, piece[len(view) :])
        return min(len(piece), len(view))

    def close(self) -> None:
        """Nothing is open."""


class Datagrams(Connection):
    """The same of datagrams; then it is asked to stop."""

    def __init__(self, pieces: Sequence[bytes], stop: Stop) -> None:
        super().__init__(pieces)
        self._stop = stop

    def recv_into(self, view: Any) -> int:
        """The next datagram, cut to what fits."""
        if not self._pieces:
            self._stop.asked = True
            raise TimeoutError
        piece = self._pieces.pop(0)[: len(view)]
        view[: len(piece)] = piece
        return len(piece)


def _read(stream: Any) -> None:
    """A stream to its flows, as ``live`` and ``dataset record`` read it."""
    source = CaptureReader([Part("peer", lambda: stream)], "peer", batch_packets=BATCH_PACKETS)
    annotate = TrailerReader()
    with FlowReader(source, OPTIONS, annotate, add_names=add_names) as reader:
        for batch in reader:
            batch.to_arrow().validate(full=True)


def _read_tcp(pieces: list[bytes]) -> None:
    connection: Any = Connection(pieces, breaks=len(pieces) % 2 == 0)
    _read(network.SocketStream(connection, Stop(None)))


def _read_udp(pieces: list[bytes]) -> None:
    stop = Stop(None)
    connection: Any = Datagrams(pieces, stop)
    _read(network.DatagramStream(connection, stop))


def _read_http(pieces: list[bytes]) -> None:
    connection: Any = Connection(pieces, breaks=len(pieces) % 2 == 0)
    try:
        stream = network.HttpStream(connection, "phone", "/x", Stop(None))
    except OSError:  # which ``open_address`` makes an error of the source
        return
    _read(stream)


@cache
def _server() -> Any:
    metrics = Metrics()
    metrics.verdicts["chat", "named"] += 1
    server = MetricsServer(("127.0.0.1", 0), metrics)._server
    server.server_close()  # its handler gets requests without a connection
    return server


class Client:
    """A client of a server: its request, and what it is answered."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.answer = io.BytesIO()

    def makefile(self, _mode: str, _size: int = -1) -> io.BytesIO:
        """The request."""
        return io.BytesIO(self._data)

    def settimeout(self, _seconds: float | None) -> None:
        """It never waits."""

    def sendall(self, data: bytes) -> None:
        """Takes a part of the answer."""
        self.answer.write(data)


def _read_metrics(pieces: list[bytes]) -> None:
    client: Any = Client(b"".join(pieces))
    server = _server()
    server.RequestHandlerClass(client, ("127.0.0.1", 1), server)
    answer = client.answer.getvalue()
    if len(answer) > LARGEST_ANSWER or b"Python" in answer or b"\x1b" in answer:
        raise ValueError("an answer that says too much")


def _read_webhook(pieces: list[bytes]) -> None:
    def connect(*_: Any, **__: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            with suppress(BlockingIOError):
                theirs.sendall(b"".join(pieces))
        return ours

    with mock.patch.object(socket, "create_connection", connect), suppress(CallError):
        Webhook("http://127.0.0.1:9/x")(json.dumps({"app": "chat"}).encode())


def _read_address(pieces: list[bytes]) -> None:
    stop = Stop(lambda: True)
    refusal: Exception | None = None
    for piece in pieces:
        address = piece.decode("utf-8", "surrogatepass")
        if not network.is_address(address):
            continue
        try:
            network.open_address(address, stop).close()
        except ApptellError as error:
            refusal = error
    if refusal is not None:
        raise refusal


def _resolve(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
    """As ``getaddrinfo`` treats a host's name, without asking anybody."""
    if isinstance(host, str):
        host.encode("idna")
        if "\0" in host:
            raise ValueError("embedded null character")
    if not 0 <= int(port or 0) <= 65_535:
        raise OverflowError("getsockaddrarg: port must be 0-65535.")
    raise socket.gaierror(-2, "Name or service not known")


READERS: dict[bytes, Callable[[list[bytes]], None]] = {
    b"tcp": _read_tcp,
    b"udp": _read_udp,
    b"http": _read_http,
    b"metrics": _read_metrics,
    b"webhook": _read_webhook,
    b"address": _read_address,
}
TARGET = Network()
