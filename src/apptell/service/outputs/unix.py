"""Records in, JSON lines through a Unix stream socket that somebody else listens on out."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from apptell.errors import OutputError, UsageError
from apptell.records.live import json_text

if TYPE_CHECKING:
    import pyarrow as pa

TIMEOUT_S: Final = 5.0


class UnixSocket:
    """JSON lines through a Unix stream socket; connects on the first record and again after a failure.

    Args:
        path: where somebody listens.
    """

    def __init__(self, path: str) -> None:
        self.extra: dict[str, int] = {}
        self._path = path
        self._socket: socket.socket | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Sends the records; after a failure all of them are sent again, so a reader may see some twice.

        Raises:
            OutputError: nobody listens, or the connection broke.
        """
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(TIMEOUT_S)
                self._socket.connect(self._path)
            self._socket.sendall(json_text(batch).encode())
        except OSError as error:
            self.close()
            raise OutputError(f"{self._path}: {error.strerror or error}") from error

    def tick(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Closes the connection; may be called again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def open_unix(place: str) -> UnixSocket:
    """JSON lines to the socket at a path.

    Raises:
        UsageError: there is no path.
    """
    if not place:
        raise UsageError("a Unix socket is written unix:PATH")
    return UnixSocket(place)
