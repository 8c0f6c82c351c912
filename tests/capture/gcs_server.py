"""An object store for tests: gcp-storage-emulator, which speaks the protocol of Google's, on this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "archive"


@dataclass(frozen=True)
class GoogleBucket:
    """A bucket of the server, which everybody may read and write."""

    port: int

    def uri(self, key: str) -> str:
        """The URI of an object or folder."""
        return f"gs://anonymous@{NAME}/{key}?scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def put(self, key: str, data: bytes) -> None:
        """Stores an object."""
        upload = f"http://127.0.0.1:{self.port}/upload/storage/v1/b/{NAME}/o?uploadType=media"
        request = urllib.request.Request(
            f"{upload}&name={quote(key, safe='')}",
            data,
            {"Content-Type": "application/octet-stream"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()


@contextmanager
def gcs_server() -> Iterator[GoogleBucket]:
    """A server with one empty bucket."""
    pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    # a process of its own: a thread of this one could not answer while a reader holds the interpreter
    words = [
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--in-memory",
        "--default-bucket",
        NAME,
    ]
    server = subprocess.Popen(
        [sys.executable, "-m", "gcp_storage_emulator", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while server.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        assert server.poll() is None, "the server does not start"
        yield GoogleBucket(port)
    finally:
        server.terminate()
        server.wait()
