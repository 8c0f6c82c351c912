"""Reads captures from senders on the network: PCAP-over-IP and PCAPdroid's exporters.

``pcap+tcp://HOST:PORT`` connects, ``pcap+listen://[HOST]:PORT`` accepts one sender; either carries
a plain pcap or pcapng stream. ``pcapdroid+udp://[HOST]:PORT`` takes one datagram for the file's
header and one for each record. ``http://HOST:PORT/NAME`` reads PCAPdroid's server, which answers
its own page at ``/``.
"""

from __future__ import annotations

import io
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from apptell.capture.byte_streams import POLL_S, Stop
from apptell.capture.pcap import MAGICS
from apptell.capture.pcapng import SECTION_MAGIC
from apptell.errors import CaptureError, UsageError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from apptell.capture.window import ByteStream

SCHEMES: Final = ("pcap+tcp", "pcap+listen", "pcapdroid+udp", "http")
_CONNECT_S: Final = 10.0
ANSWER_S: Final = 10.0
"""Time limit for the complete status and headers of a server's answer, and for the first byte of a sender
that connects.
"""
_KEEP_ALIVE_S: Final = 60
"""Idle time after which the system probes the other end of a connection."""
_DATAGRAM_BYTES: Final = 65_536
_DATAGRAM_BUFFER_BYTES: Final = 8 << 20
_RAW, _ETHERNET = 101, 1
_ENHANCED_PACKET: Final = 6
_MAGIC_US: Final = 0xA1B2C3D4
_HTTP_PORT: Final = 80
_HTTP_PATH: Final = "/capture.pcap"
"""Asked for when an address has no path: PCAPdroid sends its capture for any path but ``/``."""


def is_address(source: str) -> bool:
    """Whether a source is an address rather than a path."""
    return source.partition("://")[0] in SCHEMES and "://" in source


class SocketStream:
    """The bytes of a connection, given as they arrive."""

    def __init__(self, connection: socket.socket, stop: Stop) -> None:
        self._connection = connection
        self._stop = stop
        self.deadline_s: float | None = None
        """When waiting ends in an error, by ``time.monotonic``; None where a stream may be silent."""
        connection.settimeout(POLL_S)

    @property
    def stopped(self) -> bool:
        """Whether the stream ended because it was asked to."""
        return self._stop.asked

    def readinto(self, view: memoryview, /) -> int:
        """Put what has arrived into ``view``; 0 at the end.

        Raises:
            TimeoutError: the deadline passed.
            OSError: the connection broke.
        """
        while not self._stop.wait(0):
            if self.deadline_s is not None and time.monotonic() > self.deadline_s:
                raise TimeoutError(f"no answer within {ANSWER_S:g} s")
            try:
                return self._connection.recv_into(view)
            except TimeoutError:
                continue
            except KeyboardInterrupt:
                self._stop.asked = True
        return 0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class DatagramStream(SocketStream):
    """PCAPdroid's datagrams as the file of these records; a missed header is made up."""

    def __init__(self, connection: socket.socket, stop: Stop) -> None:
        super().__init__(connection, stop)
        self._datagram = memoryview(bytearray(_DATAGRAM_BYTES))
        self._pending = b""
        self._kind = ""
        self.dropped = 0
        """Datagrams that were neither a header nor whole records."""

    def readinto(self, view: memoryview, /) -> int:
        """Put the next datagram's records into ``view``; 0 when it is stopped."""
        while not self._pending:
            size = super().readinto(self._datagram)
            if size == 0 and self._stop.asked:
                return 0
            self._pending = self._take(self._datagram[:size].tobytes())
        count = min(len(view), len(self._pending))
        view[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count

    def _take(self, datagram: bytes) -> bytes:
        """The part of a datagram that belongs in the file; nothing for a repeated header."""
        if datagram[:4] in MAGICS and len(datagram) == 24:
            if self._kind:
                return b""
            self._kind = "pcap"
            return datagram
        if datagram[:4] == SECTION_MAGIC:
            first = not self._kind
            self._kind = self._kind or "pcapng"
            return datagram if first or self._kind == "pcapng" else b""
        if self._kind != "pcapng" and _is_pcap_record(datagram):
            made_up = b"" if self._kind else _pcap_header(datagram)
            self._kind = "pcap"
            return made_up + datagram
        if self._kind != "pcap" and _is_blocks(datagram):
            made_up = b"" if self._kind else _pcapng_header()
            self._kind = "pcapng"
            return made_up + datagram
        self.dropped += 1
        return b""


def _is_pcap_record(datagram: bytes) -> bool:
    return len(datagram) >= 16 and struct.unpack_from("<I", datagram, 8)[0] == len(datagram) - 16


def _is_blocks(datagram: bytes) -> bool:
    """Whether a datagram is whole pcapng blocks, each with the same length at both ends."""
    at = 0
    while len(datagram) - at >= 12:
        (size,) = struct.unpack_from("<I", datagram, at + 4)
        if size < 12 or size % 4 or size > len(datagram) - at:
            return False
        if struct.unpack_from("<I", datagram, at + size - 4)[0] != size:
            return False
        at += size
    return at == len(datagram) and at > 0


def _pcap_header(record: bytes) -> bytes:
    """The header that PCAPdroid would have sent before this record."""
    # With its extensions every frame begins with an Ethernet header whose addresses are zero.
    link_type = _ETHERNET if record[16:28] == bytes(12) else _RAW
    return struct.pack("<IHHiIII", _MAGIC_US, 2, 4, 0, 0, 0xFFFF, link_type)


def _pcapng_header() -> bytes:
    """A section header and one raw IP interface in microseconds, as PCAPdroid's."""
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    return section + struct.pack("<IIHHII", 1, 20, _RAW, 0, 0xFFFF, 20)


class _SocketFile(io.RawIOBase):
    """A SocketStream as ``http.client`` wants a socket: something that makes a file."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, view: Buffer, /) -> int:
        return self._stream.readinto(memoryview(view).cast("B"))

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


class HttpStream:
    """The body of a server's answer, given as it arrives."""

    def __init__(self, connection: socket.socket, host: str, path: str, stop: Stop) -> None:
        """Ask the server for ``path``.

        Raises:
            CaptureError: it answers anything but 200, or no HTTP.
            TimeoutError: its headers take longer than ``ANSWER_S``.
        """
        from http.client import OK, HTTPException, HTTPResponse  # takes long to load

        self._stream = SocketStream(connection, stop)
        self._stream.deadline_s = time.monotonic() + ANSWER_S
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("ascii", "replace"))
        self._response = HTTPResponse(cast("Any", _SocketFile(self._stream)))
        try:
            self._response.begin()
        except HTTPException as error:
            raise CaptureError(f"{host}: the answer is not valid HTTP ({error!r})") from error
        self._stream.deadline_s = None  # what is captured may be silent for long
        if self._response.status != OK:
            status = f"{self._response.status} {self._response.reason}"
            raise CaptureError(f"{host}: the server answers {status}")

    @property
    def stopped(self) -> bool:
        """Whether the stream ended because it was asked to."""
        return self._stream.stopped

    def readinto(self, view: memoryview, /) -> int:
        """Put what has arrived into ``view``; 0 at the end."""
        from http.client import HTTPException

        try:
            data = self._response.read1(len(view))
        except HTTPException as error:
            if self.stopped:
                return 0
            raise OSError("the answer is cut short") from error
        if len(data) > len(view):  # of a chunk whose size is below zero
            raise OSError("the answer is not valid HTTP")
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        self._stream.close()


def check_host(host: str, address: str) -> None:
    """Refuses a host that the system's resolver cannot be asked for; it raises errors of other kinds then.

    Args:
        host: a name or an address; empty for none.
        address: what it is part of, for messages.

    Raises:
        UsageError: it is no name: a label of more than 63 characters, an empty one, or control characters.
    """
    try:
        host.encode("idna")
        is_right = host.isprintable() and " " not in host
    except UnicodeError:
        is_right = False
    if not is_right:
        raise UsageError(f"{address!r}: {host[:80]!r} is not the name of a host")


def open_address(address: str, stop: Stop) -> ByteStream:
    """Connect to, or wait for, the sender that an address names.

    Raises:
        UsageError: the address has no host or port where it needs one, or the host cannot be one.
        CaptureError: there is no sender.
    """
    # ``urlsplit`` leaves these out without a word.
    if any(character in address for character in "\t\r\n"):
        raise UsageError(f"{address!r} is not an address: it has a tab or a line break")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"{address}: {error}") from error
    check_host(host, address)
    if parts.scheme == "http":
        port = port or _HTTP_PORT
    if port is None or (not host and parts.scheme in ("pcap+tcp", "http")):
        raise UsageError(f"{address}: an address is written {parts.scheme}://HOST:PORT")
    try:
        if parts.scheme == "pcap+tcp":
            return SocketStream(_connect(host, port), stop)
        if parts.scheme == "http":
            path = parts.path if parts.path not in ("", "/") else _HTTP_PATH
            path += f"?{parts.query}" if parts.query else ""
            connection = _connect(host, port)
            try:
                return HttpStream(connection, parts.netloc, path, stop)
            except BaseException:
                connection.close()
                raise
        if parts.scheme == "pcapdroid+udp":
            return DatagramStream(_bound(host, port, socket.SOCK_DGRAM), stop)
        with _bound(host, port, socket.SOCK_STREAM) as listener:
            return SocketStream(_accept(listener, address, stop), stop)
    except OSError as error:
        raise CaptureError(f"{address}: {error.strerror or error}") from error


def _connect(host: str, port: int) -> socket.socket:
    """Connects with keep-alive, so that a lost peer is noticed."""
    connection = socket.create_connection((host, port), _CONNECT_S)
    _keep_alive(connection)
    return connection


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_S)


def _bound(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A socket on a port; of all addresses where none is named: phones connect from outside."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind == socket.SOCK_DGRAM:
            # PCAPdroid sends up to 512 kB at once; the kernel gives as much of this as it allows.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DATAGRAM_BUFFER_BYTES)
        listener.bind((host, port))
        if kind == socket.SOCK_STREAM:
            listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


def _accept(listener: socket.socket, address: str, stop: Stop) -> socket.socket:
    """The first connection on which something is sent; others, such as a port scan's, are closed."""
    listener.settimeout(POLL_S)
    while not stop.wait(0):
        try:
            connection = listener.accept()[0]
        except TimeoutError:
            continue
        except KeyboardInterrupt:
            stop.asked = True
            break
        if _sends(connection, stop):
            _keep_alive(connection)
            return connection
        connection.close()
    raise CaptureError(f"{address}: nobody connected")


def _sends(connection: socket.socket, stop: Stop) -> bool:
    """Whether a first byte comes within ``ANSWER_S``; it stays to be read."""
    connection.settimeout(POLL_S)
    until_s = time.monotonic() + ANSWER_S
    while time.monotonic() < until_s and not stop.wait(0):
        try:
            return bool(connection.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            continue
        except KeyboardInterrupt:
            stop.asked = True
        except OSError:
            break
    return False
