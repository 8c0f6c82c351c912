"""An object store for tests: moto's server, which speaks the protocol of S3, on the loopback interface."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "archive"
KEY, SECRET = "key", "secret-of-the-test"


@dataclass(frozen=True)
class Bucket:
    """A bucket of the server."""

    client: Any
    port: int

    def uri(self, key: str) -> str:
        """The URI of an object or folder."""
        query = f"endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"
        return f"s3://{KEY}:{SECRET}@{NAME}/{key}?{query}"

    def put(self, key: str, data: bytes) -> None:
        """Stores an object."""
        self.client.put_object(Bucket=NAME, Key=key, Body=data)

    def keys(self) -> list[str]:
        """The keys of all objects."""
        return [
            each["Key"] for each in self.client.list_objects_v2(Bucket=NAME).get("Contents", [])
        ]


@contextmanager
def s3_server() -> Iterator[Bucket]:
    """A server with one empty bucket."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )
        client.create_bucket(Bucket=NAME)
        yield Bucket(client, port)
    finally:
        server.stop()
