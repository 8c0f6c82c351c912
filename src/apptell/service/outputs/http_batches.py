"""Sends records in HTTP requests: JSON lines to any server, OpenSearch's bulk interface, or Loki.

    http://HOST/PATH, https://HOST/PATH        a POST with one line for each record
    opensearch:http://HOST:9200/INDEX          OpenSearch and Elasticsearch, ECS documents
    loki:http://HOST:3100                      Grafana Loki

A request that fails, or is answered with 429 or 5xx, is sent again by the output's queue, with growing waits.
Another answer than 2xx is final: its records are counted as ``refused``. ``USER:PASSWORD@`` in an address is
sent as basic authentication, ``bearer:TOKEN@`` as a bearer token.

Sources: RFC 9110; the bulk API of OpenSearch; Loki's HTTP API (``/loki/api/v1/push``).
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from apptell._version import __version__
from apptell.capture.network import check_host
from apptell.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from apptell.records.forms import LineForm

TIMEOUT_S: Final = 10.0
"""How long a server may take to answer."""
MAX_RECORDS: Final = 1000
"""Records in one request."""
MAX_ANSWER: Final = 16 << 20
_RETRIED: Final = (408, 425, 429)
_LINES: Final = "application/x-ndjson"
_CONFLICT: Final = 409


class HttpServer:
    """One server; the connection is kept between requests.

    Args:
        url: ``http://`` or ``https://``.

    Raises:
        UsageError: it is not such a URL.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{url}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise UsageError(f"{url} is neither http:// nor https:// with a host")
        check_host(parts.hostname, url)
        self._host, self._port = parts.hostname, port
        self._is_secure = parts.scheme == "https"
        self.name = f"{parts.scheme}://{parts.hostname}{f':{port}' if port else ''}{parts.path}"
        """The address without passwords."""
        self.path = parts.path
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        """Path and query."""
        self._headers = {"User-Agent": f"apptell/{__version__}"}
        if parts.username is not None:
            user, password = unquote(parts.username), unquote(parts.password or "")
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            is_token = user == "bearer"
            self._headers["Authorization"] = f"Bearer {password}" if is_token else f"Basic {pair}"
        self._connection: http.client.HTTPConnection | None = None

    def post(self, target: str, body: bytes, kind: str) -> tuple[int, bytes]:
        """Sends a request; the status and the body of the answer.

        Raises:
            OutputError: there was no answer, or one that says to try again later.
        """
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request("POST", target, body, {**self._headers, "Content-Type": kind})
            with self._connection.getresponse() as answer:
                status, said = answer.status, answer.read(MAX_ANSWER)
                if answer.read(1):
                    self.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise OutputError(f"{self.name}: {error}") from error
        if status in _RETRIED or status >= 500:
            raise OutputError(f"{self.name}: status {status}")
        return status, said

    def close(self) -> None:
        """Closes the connection; may be called again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._is_secure:
            secure = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=secure
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)


class HttpBatches:
    """Records in requests of at most MAX_RECORDS.

    Args:
        server: where they go.
        send: sends some records; the number of those that the server refused.
    """

    def __init__(
        self, server: HttpServer, send: Callable[[HttpServer, pa.RecordBatch], tuple[int, str]]
    ) -> None:
        self.extra = {"requests": 0, "refused": 0}
        self.fault = ""
        """Why the server refused records."""
        self._server, self._send = server, send
        self._sent = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Sends the records; those of requests that were answered are not sent again.

        Raises:
            OutputError: there was no answer, or one that says to try again later.
        """
        while self._sent < batch.num_rows:
            some = batch.slice(self._sent, MAX_RECORDS)
            refused, why = self._send(self._server, some)
            self._sent += some.num_rows
            self.extra["requests"] += 1
            self.extra["refused"] += refused
            self.fault = why or self.fault
        self._sent = 0

    def tick(self) -> None:
        """Does nothing, because no records are held back."""

    def close(self) -> None:
        """Closes the connection."""
        self._server.close()


def _refusal(server: HttpServer, status: int, n: int) -> tuple[int, str]:
    """How many of n records were refused, and why."""
    return (0, "") if 200 <= status < 300 else (n, f"{server.name}: status {status}")


def open_lines(place: str, form: LineForm) -> HttpBatches:
    """JSON lines, or lines of another form, to ``http://...`` or ``https://...``.

    Raises:
        UsageError: it is not a URL.
    """

    def send(server: HttpServer, batch: pa.RecordBatch) -> tuple[int, str]:
        body = form.text(batch).encode("utf-8", "backslashreplace")
        status, _ = server.post(server.target, body, _LINES)
        return _refusal(server, status, batch.num_rows)

    return HttpBatches(HttpServer(place), send)


def open_http(place: str, form: LineForm) -> HttpBatches:
    """Lines to ``http:`` and what follows it; raises as ``open_lines`` does."""
    return open_lines(f"http:{place}", form)


def open_https(place: str, form: LineForm) -> HttpBatches:
    """Lines to ``https:`` and what follows it; raises as ``open_lines`` does."""
    return open_lines(f"https:{place}", form)


def open_opensearch(place: str, form: LineForm) -> HttpBatches:
    """Documents to ``http://HOST:PORT/INDEX``: an index, a data stream or an alias.

    A document's id is made of its flow and its event, so that a request which is sent twice gives it once.

    Raises:
        UsageError: it is not a URL with an index.
    """
    server = HttpServer(place)
    index = server.path.strip("/")
    if not index or "/" in index:
        raise UsageError(
            f"opensearch:{server.name} does not have the form opensearch:http://HOST:PORT/INDEX"
        )

    def send(server: HttpServer, batch: pa.RecordBatch) -> tuple[int, str]:
        columns = (
            batch.column(name).to_pylist() for name in ("connection_id", "part", "event", "revised")
        )
        lines = []
        for line, (flow, part, event, revised) in zip(
            form.lines(batch), zip(*columns, strict=True), strict=True
        ):
            key = f"{flow:016x}.{part}.{event}{'.revised' if revised else ''}"
            lines += [json.dumps({"create": {"_id": key}}), line]
        body = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        status, said = server.post(f"/{index}/_bulk", body, _LINES)
        refused, why = _refusal(server, status, batch.num_rows)
        return (refused, why) if why else _refused_documents(server, said)

    return HttpBatches(server, send)


def _refused_documents(server: HttpServer, said: bytes) -> tuple[int, str]:
    """How many documents of a bulk request were refused, and why; those that were there already count as taken.

    Raises:
        OutputError: some were refused because the server is busy.
    """
    try:
        items: list[Any] = json.loads(said)["items"]
        results = [(item["create"]["status"], item["create"].get("error")) for item in items]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{server.name}: the answer is not one of a bulk request") from error
    if any(status in _RETRIED or status >= 500 for status, _ in results):
        raise OutputError(f"{server.name}: the server is busy")
    errors = [error for status, error in results if status >= 400 and status != _CONFLICT]
    why = (
        str(errors[0].get("reason") if isinstance(errors[0], dict) else errors[0]) if errors else ""
    )
    return len(errors), f"{server.name}: {why}" if errors else ""


def open_loki(place: str, form: LineForm) -> HttpBatches:
    """Lines to the Loki at ``http://HOST:PORT``, with the labels job, event, and sensor if it is named.

    Raises:
        UsageError: it is not a URL.
    """

    def send(server: HttpServer, batch: pa.RecordBatch) -> tuple[int, str]:
        times = batch.column("end_time").cast(pa.int64()).to_pylist()
        events = batch.column("event").to_pylist()
        n = batch.num_rows
        sensors = (
            batch.column("sensor").to_pylist() if "sensor" in batch.schema.names else [None] * n
        )
        streams: dict[tuple[str, str | None], list[list[str]]] = {}
        for line, time_ns, event, sensor in zip(
            form.lines(batch), times, events, sensors, strict=True
        ):
            streams.setdefault((event, sensor), []).append([str(time_ns), line])
        body = {
            "streams": [
                {
                    "stream": {"job": "apptell", "event": event}
                    | ({} if sensor is None else {"sensor": sensor}),
                    "values": values,
                }
                for (event, sensor), values in streams.items()
            ]
        }
        target = f"{server.path.rstrip('/')}/loki/api/v1/push"
        status, _ = server.post(target, json.dumps(body).encode(), "application/json")
        return _refusal(server, status, n)

    return HttpBatches(HttpServer(place), send)
