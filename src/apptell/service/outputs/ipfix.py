"""Exports ended flows as IPFIX over UDP, TCP or TLS.

    ipfix:HOST[:PORT]            UDP; templates are repeated every ``TEMPLATES_S``
    ipfix:tcp://HOST[:PORT]
    ipfix:tls://HOST[:PORT]?ca=FILE

A flow is one biflow record (RFC 5103) with the app as ``applicationId`` and ``applicationName`` (RFC 6759), and
Community ID, outcome and evidence as enterprise-specific elements. Records of open flows are not exported.

Sources: RFC 7011 (messages, templates, transports), IANA's registry of IPFIX elements, RFC 5103 (reverse
elements), RFC 6759 (application elements and their options template), RFC 5612 (number for examples).
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from apptell.capture.network import check_host
from apptell.errors import OutputError, UsageError
from apptell.records.schema import END
from apptell.records.values import event_rows
from apptell.service.outputs.unix import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from apptell.records.forms import LineForm

PORT, TLS_PORT = 4739, 4740
"""Registered ports of IPFIX (RFC 7011, section 13)."""
TEMPLATES_S: Final = 60.0
"""How often templates are sent again over UDP, where they can be lost."""
MAX_MESSAGE: Final = 1400
"""Bytes of a message: it fits into one Ethernet frame with IPv6 and UDP headers (RFC 7011, section 10.3.3)."""
ENTERPRISE: Final = 32473
"""The enterprise number for documentation (RFC 5612), until ``pen=`` names the operator's own."""
COMMUNITY_ID, OUTCOME, EVIDENCE = 1, 2, 3
"""Enterprise-specific elements, all strings."""
_VERSION: Final = 10
_TEMPLATE_SET, _OPTIONS_SET = 2, 3
_IPV4, _IPV6, _APPLICATIONS = 256, 257, 258
_VARIABLE: Final = 0xFFFF
_REVERSE: Final = 29305
_ENGINE: Final = 6
"""RFC 6759, section 4.1: user-defined; the selector ids are the exporter's own."""
_SELECTORS: Final = 1 << 24
_APPLICATION_ID, _APPLICATION_NAME, _APPLICATION_TEXT = 95, 96, 94
_MOST_STRING: Final = 128
_PROTOCOLS: Final = {"tcp": 6, "udp": 17}
_REASONS: Final = {
    "idle": 1,
    "active": 2,
    "closed": 3,
    "reset": 3,
    "handshake": 3,
    "capture": 4,
    "shutdown": 4,
    "evicted": 5,
}
"""``flowEndReason``: idle timeout, active timeout, end of flow detected, forced end, lack of resources."""
_COMMON: Final = (
    (152, 8, 0),  # flowStartMilliseconds
    (153, 8, 0),  # flowEndMilliseconds
    (7, 2, 0),  # sourceTransportPort: the client's
    (11, 2, 0),  # destinationTransportPort
    (4, 1, 0),  # protocolIdentifier
    (136, 1, 0),  # flowEndReason
    (2, 8, 0),  # packetDeltaCount: to the server
    (1, 8, 0),  # octetDeltaCount
    (2, 8, _REVERSE),
    (1, 8, _REVERSE),
    (_APPLICATION_ID, 4, 0),
)
_FIXED: Final = struct.Struct(">QQHHBBQQQQI")


class Exporter:
    """An IPFIX exporting process with one transport session.

    Args:
        connect: returns a connected socket.
        name: for messages.
        is_stream: whether templates are sent once for each connection.
        enterprise: number under which the enterprise-specific elements are.
        domain: observation domain id.
        clock: monotonic, s.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        name: str,
        *,
        is_stream: bool,
        enterprise: int = ENTERPRISE,
        domain: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.extra = {"exported": 0, "messages": 0}
        self._connect, self._name, self._is_stream = connect, name, is_stream
        self._enterprise, self._domain, self._clock = enterprise, domain, clock
        self._socket: socket.socket | None = None
        self._sequence = 0
        self._templates_s: float | None = None
        self._apps: dict[str, tuple[int, str]] = {}
        self._numbers: set[int] = set()

    def write(self, batch: pa.RecordBatch) -> None:
        """Exports the flows among the records that have ended; after a failure all are exported again.

        Raises:
            OutputError: there is no collector.
        """
        rows = [row for row in event_rows(batch) if row["event"] == END]
        if not rows:
            return
        known = len(self._apps)
        records = [self._record(row) for row in rows]
        try:
            if self._socket is None:
                self._socket = self._connect()
                self._templates_s = None
            if self._templates_s is None or (
                not self._is_stream and self._clock() - self._templates_s > TEMPLATES_S
            ):
                self._send_set(_TEMPLATE_SET, [self._template(_IPV4), self._template(_IPV6)], 0)
                self._send_set(_OPTIONS_SET, [_options_template()], 0)
                known = 0
                self._templates_s = self._clock()
            self._send_all(_APPLICATIONS, [_application(each) for each in self._named(known)])
            for template in (_IPV4, _IPV6):
                self._send_all(template, [data for kind, data in records if kind == template])
        except OSError as error:
            self.close()
            raise OutputError(f"{self._name}: {error.strerror or error}") from error
        self.extra["exported"] += len(rows)

    def tick(self) -> None:
        """Does nothing, because no records are held back."""

    def close(self) -> None:
        """Closes the session; may be called again."""
        if self._socket is None:
            return
        with suppress(OSError, ValueError):
            if isinstance(self._socket, ssl.SSLSocket):
                # waits for the collector's end: session tickets that nobody read would reset the connection,
                # and what is under way would be lost
                self._socket.unwrap()
        self._socket.close()
        self._socket = None

    def _named(self, first: int) -> list[tuple[int, str, str]]:
        """Number, id and name of the apps, from the first-th one on."""
        return [(number, app, name) for app, (number, name) in list(self._apps.items())[first:]]

    def _number(self, app: str, name: str | None) -> int:
        """The selector id of an app: made of its id, so that every exporter has the same one."""
        if app not in self._apps:
            number = int.from_bytes(hashlib.sha256(app.encode()).digest()[:3], "big")
            while number in self._numbers or not number:
                number = (number + 1) % _SELECTORS
            self._numbers.add(number)
            self._apps[app] = (number, name or app)
        return self._apps[app][0]

    def _record(self, row: dict[str, Any]) -> tuple[int, bytes]:
        """Template and data record of a flow."""
        client = ipaddress.ip_address(row["client_address"])
        server = ipaddress.ip_address(row["server_address"])
        app = row["app"]
        number = self._number(app, row["app_name"]) if app is not None else 0
        fixed = _FIXED.pack(
            max(row["time"] // 1_000_000, 0),
            max(row["end_time"] // 1_000_000, 0),
            row["client_port"],
            row["server_port"],
            _PROTOCOLS.get(row["protocol"], 0),
            _REASONS.get(row["end_reason"] or "", 3),
            row["packets_to_server"],
            row["bytes_to_server"],
            row["packets_to_client"],
            row["bytes_to_client"],
            _ENGINE << 24 | number,
        )
        texts = (app, row["community_id"], row["outcome"], row["evidence"])
        data = client.packed + server.packed + fixed + b"".join(_string(text) for text in texts)
        return _IPV4 if client.version == 4 else _IPV6, data

    def _template(self, number: int) -> bytes:
        """The template record of flows over IPv4 or IPv6."""
        addresses = ((8, 4, 0), (12, 4, 0)) if number == _IPV4 else ((27, 16, 0), (28, 16, 0))
        own = ((each, _VARIABLE, self._enterprise) for each in (COMMUNITY_ID, OUTCOME, EVIDENCE))
        fields = (*addresses, *_COMMON, (_APPLICATION_NAME, _VARIABLE, 0), *own)
        return struct.pack(">HH", number, len(fields)) + _fields(fields)

    def _send_all(self, number: int, records: list[bytes]) -> None:
        """Sends data records in messages of at most MAX_MESSAGE bytes."""
        some: list[bytes] = []
        size = 0
        for record in records:
            if some and 20 + size + len(record) > MAX_MESSAGE:
                self._send_set(number, some, len(some))
                some, size = [], 0
            some.append(record)
            size += len(record)
        if some:
            self._send_set(number, some, len(some))

    def _send_set(self, number: int, records: list[bytes], n_data: int) -> None:
        """Sends a message with one set; the sequence number counts data records before it."""
        assert self._socket is not None
        body = b"".join(records)
        whole = struct.pack(">HH", number, 4 + len(body)) + body
        header = struct.pack(
            ">HHIII",
            _VERSION,
            16 + len(whole),
            int(time.time()) & 0xFFFFFFFF,
            self._sequence & 0xFFFFFFFF,
            self._domain,
        )
        self._socket.sendall(header + whole)
        self._sequence += n_data
        self.extra["messages"] += 1


def _fields(fields: tuple[tuple[int, int, int], ...]) -> bytes:
    """Field specifiers: element, length, enterprise number or 0."""
    return b"".join(
        struct.pack(">HHI", element | 0x8000, length, enterprise)
        if enterprise
        else struct.pack(">HH", element, length)
        for element, length, enterprise in fields
    )


def _options_template() -> bytes:
    """Names of application ids; the scope is the id (RFC 6759, section 5)."""
    fields = (
        (_APPLICATION_ID, 4, 0),
        (_APPLICATION_NAME, _VARIABLE, 0),
        (_APPLICATION_TEXT, _VARIABLE, 0),
    )
    return struct.pack(">HHH", _APPLICATIONS, len(fields), 1) + _fields(fields)


def _application(app: tuple[int, str, str]) -> bytes:
    number, name, text = app
    return struct.pack(">I", _ENGINE << 24 | number) + _string(name) + _string(text)


def _string(text: str | None) -> bytes:
    """A string of variable length (RFC 7011, section 7); at most _MOST_STRING bytes, cut between letters."""
    data = (text or "").encode("utf-8", "backslashreplace")[:_MOST_STRING]
    data = data.decode("utf-8", "ignore").encode()
    return bytes((len(data),)) + data


def open_ipfix(place: str, form: LineForm) -> Exporter:
    """Opens what ``ipfix:`` names; connects on the first record.

    Raises:
        UsageError: the place is not an address, or an option is unknown or out of range.
    """
    del form
    example = "ipfix:HOST[:PORT], ipfix:tcp://HOST[:PORT] or ipfix:tls://HOST[:PORT]?ca=FILE"
    address, _, query = place.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    try:
        parts = urlsplit(address if "://" in address else f"udp://{address}")
        host, port = parts.hostname, parts.port
        enterprise, domain = int(options.pop("pen", ENTERPRISE)), int(options.pop("domain", 1))
    except ValueError as error:
        raise UsageError(f"ipfix:{place}: {error}") from error
    authorities = options.pop("ca", None)
    is_tls = parts.scheme == "tls"
    if not host or parts.scheme not in ("udp", "tcp", "tls"):
        raise UsageError(f"ipfix:{place} does not have the form {example}")
    if options or not (0 < enterprise < 1 << 32 and 0 <= domain < 1 << 32):
        raise UsageError(f"ipfix:{place}: the options are pen, domain, and for TLS ca")
    if authorities is not None and not is_tls:
        raise UsageError(f"ipfix:{place}: ca is for tls://")
    check_host(host, f"ipfix:{place}")
    target = (host, port or (TLS_PORT if is_tls else PORT))
    secure = _secure(authorities) if is_tls else None
    is_stream = parts.scheme != "udp"

    def connect() -> socket.socket:
        if not is_stream:
            family, kind, _, _, found = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)[0]
            client = socket.socket(family, kind)
            client.settimeout(TIMEOUT_S)
            client.connect(found)
            return client
        client = socket.create_connection(target, TIMEOUT_S)
        return client if secure is None else secure.wrap_socket(client, server_hostname=host)

    return Exporter(
        connect, f"ipfix:{address}", is_stream=is_stream, enterprise=enterprise, domain=domain
    )


def _secure(authorities: str | None) -> ssl.SSLContext:
    """TLS with the certificates of the system, or of a file.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"ca={authorities}: {error}") from error
