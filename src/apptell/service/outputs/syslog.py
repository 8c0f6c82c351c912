"""Sends syslog messages (RFC 5424), each with one record; ``?bom=no`` omits the UTF-8 byte order mark.

``syslog:`` sends to this machine's /dev/log, ``syslog:HOST[:PORT]`` over UDP (RFC 5426),
``syslog:tcp://HOST[:PORT]`` over TCP with counted octets (RFC 6587, Section 3.4.1).
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from apptell.capture.network import check_host
from apptell.errors import OutputError, UsageError
from apptell.records.values import plain_values
from apptell.service.outputs.unix import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from apptell.records.forms import LineForm

PORT: Final = 514
_LOCAL: Final = "/dev/log"
_MARK: Final = b"\xef\xbb\xbf"
_PRIORITY: Final = 16 * 8 + 6  # local0, informational


def message(line: str, time: str, event: str, *, has_mark: bool = True) -> bytes:
    """One syslog message; the time is RFC 3339 text.

    Args:
        line: the text, which follows a byte order mark for UTF-8 (RFC 5424, Section 6.4).
        time: of the record.
        event: the message's id.
        has_mark: whether to write the mark; some readers take it for a part of the text.
    """
    host = socket.gethostname() or "-"
    head = f"<{_PRIORITY}>1 {time} {host} apptell {os.getpid()} {event} - "
    return head.encode() + (_MARK if has_mark else b"") + line.encode("utf-8", "backslashreplace")


class Syslog:
    """Syslog messages: one a datagram, or each after its length through a connection.

    Args:
        connect: returns a connected socket.
        form: converts a record to the text of a message.
        is_stream: whether it is a connection.
        has_mark: whether the text begins with the byte order mark of UTF-8.
        name: for messages.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        form: LineForm,
        name: str,
        *,
        is_stream: bool = False,
        has_mark: bool = True,
    ) -> None:
        self.extra: dict[str, int] = {}
        self._connect, self._form, self._name = connect, form, name
        self._is_stream, self._has_mark = is_stream, has_mark
        self._socket: socket.socket | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Sends the records; after a failure all of them are sent again.

        Raises:
            OutputError: there is no listener.
        """
        try:
            if self._socket is None:
                self._socket = self._connect()
            for data in self._messages(batch):
                if self._is_stream:
                    self._socket.sendall(b"%d %b" % (len(data), data))
                else:
                    self._socket.send(data)
        except OSError as error:
            self.close()
            raise OutputError(f"{self._name}: {error.strerror or error}") from error

    def tick(self) -> None:
        """Does nothing, because no records are held back."""

    def close(self) -> None:
        """Closes the socket; may be called again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _messages(self, batch: pa.RecordBatch) -> list[bytes]:
        times = plain_values(batch.column("end_time"))
        events = batch.column("event").to_pylist()
        return [
            message(line, time, event, has_mark=self._has_mark)
            for line, time, event in zip(self._form.lines(batch), times, events, strict=True)
        ]


def open_syslog(place: str, form: LineForm) -> Syslog:
    """Opens what ``syslog:`` names; connects on the first record.

    Raises:
        UsageError: the place is not an address.
    """
    place, _, query = place.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    bom = options.pop("bom", "yes")
    if options or bom not in ("yes", "no"):
        raise UsageError(f"syslog:{place}?{query}: the option is bom=yes or bom=no")
    has_mark = bom == "yes"
    if not place:
        local = (socket.AF_UNIX, socket.SOCK_DGRAM, _LOCAL)
        return Syslog(lambda: _connected(*local), form, _LOCAL, has_mark=has_mark)
    try:
        parts = urlsplit(place if "://" in place else f"udp://{place}")
        host, port = parts.hostname, parts.port or PORT
    except ValueError as error:
        raise UsageError(f"syslog:{place}: {error}") from error
    if not host or parts.scheme not in ("udp", "tcp"):
        raise UsageError(
            f"syslog:{place} does not have the form syslog:HOST[:PORT] or syslog:tcp://HOST[:PORT]"
        )
    check_host(host, f"syslog:{place}")
    is_stream = parts.scheme == "tcp"
    kind = socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM

    def connect() -> socket.socket:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
        return _connected(family, kind, address)

    return Syslog(connect, form, place, is_stream=is_stream, has_mark=has_mark)


def _connected(family: int, kind: int, address: Any) -> socket.socket:
    client = socket.socket(family, kind)
    try:
        client.settimeout(TIMEOUT_S)
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client
