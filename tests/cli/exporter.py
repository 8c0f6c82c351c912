"""A phone in small: PCAPdroid's three exporters as its sources have them, over loopback.

A dump is a header and records. The HTTP server sends the header and each buffer of records as a chunk of its
own; the UDP exporter one datagram for the header and one for each record; the TCP exporter connects to the
collector and writes all of it.
"""

import socket
import struct
import threading
import time
import zlib
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from apptell.testing import START_NS, conversation

TALK = [(True, b"hello there"), (False, b"general"), (True, b"more")]
SERVER = ("192.0.2.1", 443)


class OwnedPacket(NamedTuple):
    """An IP packet and the app that owns it."""

    time_us: int
    ip: bytes
    uid: int
    title: str
    package: str


class Dump(Protocol):
    """What an exporter writes: a header and a record per packet, or several."""

    mime: bytes
    header: bytes

    def records(self, found: Iterable[OwnedPacket]) -> Iterator[bytes]: ...


def _padded(data: bytes, size: int = 4) -> bytes:
    return data + bytes(-len(data) % size)


def packets(n_flows: int) -> list[OwnedPacket]:
    """Packets of ``n_flows`` flows of two apps, the last flow still open."""
    found = []
    for i in range(n_flows):
        uid, title = (10_123, "Chat") if i % 2 == 0 else (10_124, "Mail & Söhne, Inc.")
        close = i < n_flows - 1
        for time_ns, frame in conversation(
            ("10.215.173.1", 40_001 + i), SERVER, TALK, start_ns=START_NS + i * 10**9, close=close
        ):
            package = f"org.example.{title[:4].lower()}"
            found.append(OwnedPacket(time_ns // 1000, frame[14:], uid, title, package))
    return sorted(found, key=lambda packet: packet.time_us)


class PcapDump:
    """Classic pcap with extensions: link type Ethernet, 32 bytes behind each packet."""

    mime = b"application/vnd.tcpdump.pcap"
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)

    def records(self, found: Iterable[OwnedPacket]) -> Iterator[bytes]:
        for time_us, ip, uid, title, _ in found:
            frame = bytes(12) + (b"\x08\x00" if ip[0] >> 4 == 4 else b"\x86\xdd") + ip
            frame = _padded(frame) + struct.pack(">Ii20s", 0x01072021, uid, title.encode()[:19])
            frame += struct.pack("<I", zlib.crc32(frame))
            yield struct.pack("<IIII", *divmod(time_us, 10**6), len(frame), len(frame)) + frame


class PcapngDump:
    """pcapng with metadata: a custom block before the first packet of a uid, ``u-<uid>`` on each packet."""

    mime = b"application/x-pcapng"

    def __init__(self) -> None:
        words = ((2, b"Pixel 6"), (3, b"Android 14"), (4, b"PCAPdroid v1.8.6"))
        options = b"".join(struct.pack("<HH", code, len(w)) + _padded(w) for code, w in words)
        section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + options
        interface = struct.pack("<HHI", 101, 0, 65_535)
        self.header = self._block(0x0A0D0D0A, section) + self._block(1, interface)

    def records(self, found: Iterable[OwnedPacket]) -> Iterator[bytes]:
        seen: set[int] = set()
        yield self._block(0x0A, struct.pack("<II", 0x544C534B, 5) + _padded(b"CLIENT_RANDOM"[:5]))
        for time_us, ip, uid, title, package in found:
            if uid not in seen:
                seen.add(uid)
                names = package.encode(), title.encode()
                body = struct.pack("<IHBBi", 62_652, 1, 1, 0, uid) + bytes(map(len, names))
                yield self._block(0x0BAD, _padded(body + b"".join(names)))
            comment = f"u-{uid}".encode()
            body = struct.pack("<IIIII", 0, time_us >> 32, time_us & 0xFFFFFFFF, len(ip), len(ip))
            body += _padded(ip) + struct.pack("<HH", 1, len(comment)) + _padded(comment)
            yield self._block(6, body + bytes(4))

    @staticmethod
    def _block(kind: int, body: bytes) -> bytes:
        size = struct.pack("<I", len(body) + 12)
        return struct.pack("<I", kind) + size + body + size


class Phone:
    """Sends a dump in one of the three ways, then waits until it is told to hang up."""

    def __init__(self, dump: Dump, found: Iterable[OwnedPacket]) -> None:
        self.dump, self.found = dump, list(found)
        self.over = threading.Event()
        self.requests: list[bytes] = []

    def serve_http(self) -> int:
        """Starts the HTTP server; gives its port."""
        server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._http, args=(server,), daemon=True).start()
        port: int = server.getsockname()[1]
        return port

    def _http(self, server: socket.socket) -> None:
        connection, _ = server.accept()
        with server, connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(1024)
            self.requests.append(request)
            if request.split()[1] == b"/":
                connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /PCAPdroid_1.pcap\r\n\r\n")
                return
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: " + self.dump.mime
                + b"\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            )  # fmt: skip
            records = list(self.dump.records(self.found))
            middle = len(records) // 2
            chunks = self.dump.header, b"".join(records[:middle]), b"".join(records[middle:])
            for chunk in chunks:
                connection.sendall(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
            self.over.wait(60)
            connection.sendall(b"0\r\n\r\n")

    def send_udp(self, port: int, *, with_header: bool = True, lose: Container[int] = ()) -> None:
        """Sends datagrams; without the header for a receiver that came late, without those lost."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            if with_header:
                out.sendto(self.dump.header, ("127.0.0.1", port))
            for number, record in enumerate(self.dump.records(self.found)):
                if number not in lose:
                    out.sendto(record, ("127.0.0.1", port))

    def send_tcp(self, port: int) -> None:
        """Connects to the collector and writes; hangs up when told."""
        connection = socket.create_connection(("127.0.0.1", port), 10)
        connection.sendall(self.dump.header)
        for record in self.dump.records(self.found):
            connection.sendall(record)

        def hang_up() -> None:
            self.over.wait(60)
            connection.close()

        threading.Thread(target=hang_up, daemon=True).start()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_taken(port: int, protocol: str) -> None:
    """Waits until no byte for that local port waits in the kernel."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = [line.split() for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]]
        queues = [row[4] for row in rows if f":{port:04X}" in (row[1][-5:], row[2][-5:])]
        if queues and all(set(queue) <= set("0:") for queue in queues):
            return
        time.sleep(0.02)
    raise TimeoutError(port)
