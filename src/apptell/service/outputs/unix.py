"""Writes lines to a Unix stream socket that another program listens on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from apptell.errors import OutputError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from apptell.records.forms import LineForm
    from apptell.records.schema import Records

TIMEOUT_S: Final = 5.0


class UnixSocket:
    """Lines through a Unix stream socket; connects on the first record and again after a failure.

    A form with a header begins each connection with it.

    Args:
        path: the socket that another program listens on.
        form: converts records to lines.
    """

    def __init__(self, path: str, form: LineForm) -> None:
        self.extra: dict[str, int] = {}
        self.reads_plain = form.reads_plain
        self._path, self._form = path, form
        self._socket: socket.socket | None = None

    def write(self, batch: pa.RecordBatch | Records) -> None:
        """Sends the records; after a failure all of them are sent again, so a reader may see some twice.

        Raises:
            OutputError: there is no listener, or the connection broke.
        """
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(TIMEOUT_S)
                self._socket.connect(self._path)
                self._socket.sendall(self._form.header(batch.schema).encode())
            self._socket.sendall(self._form.text(batch).encode())
        except OSError as error:
            self.close()
            raise OutputError(f"{self._path}: {error.strerror or error}") from error

    def tick(self) -> None:
        """Does nothing, because no records are held back."""

    def close(self) -> None:
        """Closes the connection; may be called again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def open_unix(place: str, form: LineForm) -> UnixSocket:
    """Lines to the socket at a path.

    Raises:
        UsageError: there is no path.
    """
    if not place:
        raise UsageError("a Unix socket has the form unix:PATH")
    return UnixSocket(place, form)
