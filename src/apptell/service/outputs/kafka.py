"""Sends records to a Kafka topic: one message each, keyed by Community ID, with counted delivery reports.

librdkafka keeps what the broker has not confirmed, through an outage of it, up to ``BUFFER_RECORDS`` and
``DELIVERY_S``; beyond that, records wait in the output's own queue and are dropped and counted there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import MissingError, OutputError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from apptell.records.forms import LineForm

BUFFER_RECORDS: Final = 100_000
"""Records that may wait for the broker."""
DELIVERY_S: Final = 300
"""How long a record waits for the broker before it is dropped and counted as undelivered."""
_CLOSE_S: Final = 10.0


class KafkaTopic:
    """A topic of a Kafka cluster.

    Args:
        servers: ``HOST:PORT`` of some brokers, separated by commas.
        topic: name of the topic.
        form: converts each record to a message.

    Raises:
        MissingError: the client library is not installed.
    """

    def __init__(self, servers: str, topic: str, form: LineForm) -> None:
        try:
            confluent_kafka = importlib.import_module("confluent_kafka")
        except ImportError as error:
            raise MissingError("Kafka needs its client: pip install 'apptell[kafka]'") from error
        self.extra = {"delivered": 0, "undelivered": 0}
        self._topic, self._form = topic, form
        self._producer: Any = confluent_kafka.Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "queue.buffering.max.messages": BUFFER_RECORDS,
                "delivery.timeout.ms": DELIVERY_S * 1000,
                "linger.ms": 5,
                "log_level": 0,
            }
        )
        self._sent = 0
        """Records of the batch being written that the client has taken."""

    @property
    def waiting(self) -> int:
        """Records that the client has taken and the broker has not confirmed."""
        return len(self._producer)

    def write(self, batch: pa.RecordBatch) -> None:
        """Passes the records to the client; one that finds no room is tried again, but not those before it.

        Raises:
            OutputError: too many wait for the broker.
        """
        keys = batch.column("community_id").to_pylist()
        lines = self._form.lines(batch)
        for key, line in list(zip(keys, lines, strict=True))[self._sent :]:
            try:
                self._producer.produce(
                    self._topic, line.encode(), key=key, on_delivery=self._delivered
                )
            except BufferError as error:
                self._producer.poll(0.1)
                raise OutputError(
                    f"{self._topic}: {BUFFER_RECORDS} records wait for Kafka"
                ) from error
            self._sent += 1
        self._sent = 0
        self._producer.poll(0)

    def tick(self) -> None:
        """Takes delivery reports."""
        self._producer.poll(0)

    def close(self) -> None:
        """Waits for the broker to confirm the records.

        Raises:
            OutputError: the broker did not confirm them in time.
        """
        left = self._producer.flush(_CLOSE_S)
        if left:
            self.extra["undelivered"] += left
            raise OutputError(f"{self._topic}: {left} records were not confirmed by Kafka")

    def _delivered(self, error: object, _: object) -> None:
        self.extra["delivered" if error is None else "undelivered"] += 1


def open_kafka(place: str, form: LineForm) -> KafkaTopic:
    """``HOST:PORT[,HOST:PORT...]/TOPIC``.

    Raises:
        UsageError: the place does not have this form.
        MissingError: the client library is not installed.
    """
    servers, slash, topic = place.rpartition("/")
    if not (slash and servers and topic):
        raise UsageError(f"kafka:{place} does not have the form kafka:HOST:PORT/TOPIC")
    return KafkaTopic(servers, topic, form)
