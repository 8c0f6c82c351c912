"""Writes lines to a growing file or to standard output.

A file is appended to. It is reopened after it was renamed or removed (logrotate), and a line that could not
be written completely (disk full) is removed.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from apptell.errors import UsageError
from apptell.files import open_append

if TYPE_CHECKING:
    import pyarrow as pa

    from apptell.records.forms import LineForm
    from apptell.records.schema import Records

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
            raise UsageError(
                "an output to a file has the form FORM:PATH, and to standard output FORM:-"
            )
        self.extra: dict[str, int] = {}
        self.reads_plain = form.reads_plain
        self._form = form
        self._path = None if place == STANDARD_OUTPUT else Path(place)
        self._handle = -1
        self._is_regular = False
        self._owes_header = True
        """For a stream; a regular file needs a header whenever it is empty."""
        self._open()

    def write(self, batch: pa.RecordBatch | Records) -> None:
        """Appends the records; all of them or, on an error, none.

        Raises:
            OSError: the file cannot be written.
        """
        if self._path is not None and self._handle < 0:
            self._open()
        begin = os.fstat(self._handle).st_size if self._is_regular else 0
        # an old file is empty when logrotate has copied and truncated it
        owes_header = begin == 0 if self._is_regular else self._owes_header
        text = (self._form.header(batch.schema) if owes_header else "") + self._form.text(batch)
        if self._path is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            self._append(text.encode("utf-8", "backslashreplace"), begin)
        self._owes_header = False

    def _append(self, data: bytes, begin: int) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError:
            if self._is_regular:
                os.ftruncate(self._handle, begin)
            raise

    def tick(self) -> None:
        """Checks whether the file was renamed or removed."""
        if self._path is None or self._handle < 0 or not self._is_regular:
            return
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(there, os.fstat(self._handle)):
            self.close()
            self._open()

    def _open(self) -> None:
        if self._path is None:
            return
        self._handle = open_append(self._path)
        self._is_regular = stat.S_ISREG(os.fstat(self._handle).st_mode)
        self._owes_header = True

    def close(self) -> None:
        """Closes the file; may be called again."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def open_file(place: str, form: LineForm) -> LineFile:
    """A path, or ``-`` for standard output; raises as ``LineFile`` does."""
    return LineFile(place, form)
