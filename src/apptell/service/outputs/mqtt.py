"""Publishes records to an MQTT broker: one message each, with quality of service 1.

    mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC
    mqtts://[USER:PASSWORD@]HOST[:PORT]/TOPIC     over TLS

The client keeps what the broker has not confirmed, and connects again after an outage. What it kept is sent
once it is connected, possibly after records that came meanwhile.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from apptell.capture.network import check_host
from apptell.errors import MissingError, OutputError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from apptell.records.forms import LineForm

BUFFER_RECORDS: Final = 100_000
"""Records that may wait for the broker."""
_CLOSE_S: Final = 10.0
_PORT, _TLS_PORT = 1883, 8883


class MqttTopic:
    """A topic of an MQTT broker.

    Args:
        url: ``mqtt://`` or ``mqtts://``.
        form: converts each record to a message.

    Raises:
        UsageError: it is not such a URL, or it has no topic.
        MissingError: the client library is not installed.
    """

    def __init__(self, url: str, form: LineForm) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{url}: {error}") from error
        topic = parts.path.lstrip("/")
        if not parts.hostname or not topic or "#" in url or "+" in topic:
            raise UsageError(f"{parts.scheme}: does not have the form mqtt://HOST[:PORT]/TOPIC")
        check_host(parts.hostname, f"{parts.scheme}://{parts.hostname}")
        try:
            library = importlib.import_module("paho.mqtt.client")
        except ImportError as error:
            raise MissingError("MQTT needs its client: pip install 'apptell[mqtt]'") from error
        self.extra = {"delivered": 0, "undelivered": 0}
        self._name = f"{parts.scheme}://{parts.hostname}/{topic}"
        self._topic, self._form, self._sent = unquote(topic), form, 0
        self._client: Any = library.Client(library.CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(BUFFER_RECORDS)
        self._client.on_publish = self._published
        if parts.username is not None:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        is_secure = parts.scheme == "mqtts"
        if is_secure:
            self._client.tls_set()
        self._client.connect_async(parts.hostname, port or (_TLS_PORT if is_secure else _PORT))
        self._client.loop_start()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Records that the client has taken and the broker has not confirmed."""
        return self._waiting - self.extra["delivered"]

    def write(self, batch: pa.RecordBatch) -> None:
        """Passes the records to the client; one that finds no room is tried again, but not those before it.

        Raises:
            OutputError: too many wait for the broker.
        """
        for line in self._form.lines(batch)[self._sent :]:
            if self.waiting >= BUFFER_RECORDS:
                raise OutputError(f"{self._name}: {BUFFER_RECORDS} records wait for the broker")
            self._client.publish(self._topic, line.encode("utf-8", "backslashreplace"), qos=1)
            self._waiting += 1
            self._sent += 1
        self._sent = 0

    def tick(self) -> None:
        """Does nothing, because the client works in its own thread."""

    def close(self) -> None:
        """Waits for the broker to confirm the records.

        Raises:
            OutputError: it did not confirm them in time.
        """
        until_s = time.monotonic() + _CLOSE_S
        while self.waiting and time.monotonic() < until_s:
            time.sleep(0.02)
        left = self.waiting
        self._client.disconnect()
        self._client.loop_stop()
        if left:
            self.extra["undelivered"] += left
            self._waiting -= left
            raise OutputError(f"{self._name}: {left} records were not confirmed by the broker")

    def _published(self, *_: object) -> None:
        self.extra["delivered"] += 1


def open_mqtt(place: str, form: LineForm) -> MqttTopic:
    """``//HOST[:PORT]/TOPIC``; raises as ``MqttTopic`` does."""
    return MqttTopic(f"mqtt:{place}", form)


def open_mqtts(place: str, form: LineForm) -> MqttTopic:
    """The same over TLS."""
    return MqttTopic(f"mqtts:{place}", form)
