"""Records in; lines of a growing file or of standard output out.

A file is appended to. It is opened anew when it was renamed or removed (logrotate), and a line that could
not be written whole (disk full) is taken back.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from apptell.errors import OutputError, UsageError
from apptell.records.schema import LIVE_RECORD

if TYPE_CHECKING:
    import pyarrow as pa

    from apptell.records.forms import LineForm

STANDARD_OUTPUT: Final = "-"


class LineFile:
    """Lines in a file.

    Args:
        place: a path, or ``-`` for standard output.
        form: makes the lines, and what a new file begins with.

    Raises:
        UsageError: there is no path.
        OutputError: the file cannot be opened.
    """

    def __init__(self, place: str, form: LineForm) -> None:
        if not place:
            raise UsageError("an output to a file is written FORM:PATH, to standard output FORM:-")
        self.extra: dict[str, int] = {}
        self._form = form
        self._path = None if place == STANDARD_OUTPUT else Path(place)
        self._handle = -1
        self._owes_header = True
        self._open()

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends the records; all of them or, on an error, none.

        Raises:
            OSError: the file cannot be written.
        """
        data = self._form.text(batch)
        if self._owes_header:
            data = self._form.header(LIVE_RECORD) + data
        if self._path is None:
            sys.stdout.write(data)
            sys.stdout.flush()
        else:
            self._append(data.encode())
        self._owes_header = False

    def _append(self, data: bytes) -> None:
        if self._handle < 0:
            self._open()
        begin = os.fstat(self._handle).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError:
            os.ftruncate(self._handle, begin)
            raise

    def tick(self) -> None:
        """Looks whether the file was renamed or removed."""
        if self._path is None or self._handle < 0:
            return
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(there, os.fstat(self._handle)):
            self.close()
            self._open()

    def _open(self) -> None:
        if self._path is None:
            return
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._handle = os.open(self._path, flags, 0o666)
        except OSError as error:
            raise OutputError(f"{self._path}: {error.strerror}") from error
        self._owes_header = os.fstat(self._handle).st_size == 0

    def close(self) -> None:
        """Closes the file; may be called again."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def open_file(place: str, form: LineForm) -> LineFile:
    """A path, or ``-`` for standard output; raises as ``LineFile`` does."""
    return LineFile(place, form)
