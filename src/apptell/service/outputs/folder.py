"""Writes a folder of files, each of which appears when it is complete; for forms that are not lines."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from apptell.errors import OutputError, UsageError
from apptell.files import PRIVATE, make_folder, new_file

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from apptell.records.forms import Form

SECONDS: Final = 60
RECORDS: Final = 100_000


class Folder:
    """Files that each hold the records of a period.

    Args:
        folder: created if it is missing.
        form: of each file.
        seconds: age of its first record at which a file is written.
        records: number of records at which a file is written.
        clock: monotonic, s.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        form: Form,
        seconds: float = SECONDS,
        records: int = RECORDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.extra = {"files": 0}
        self._folder, self._form = folder, form
        self._seconds, self._records, self._clock = seconds, records, clock
        self._waiting: list[pa.RecordBatch] = []
        self._n = 0
        self._since_s = 0.0
        make_folder(folder)

    def write(self, batch: pa.RecordBatch) -> None:
        """Keeps the records until their file is due.

        Raises:
            OutputError: too many records wait for a file that cannot be written.
        """
        if self._n >= self._records:
            self._rotate()
        if not self._waiting:
            self._since_s = self._clock()
        self._waiting.append(batch)
        self._n += batch.num_rows
        self.tick()

    def tick(self) -> None:
        """Writes the file when it is due; on an error the records are kept for the next time."""
        due = self._n >= self._records or self._clock() - self._since_s >= self._seconds
        if self._waiting and due:
            try:
                self._rotate()
            except OutputError:
                self._since_s = self._clock()  # tried again after another period
                self.extra["errors_of_files"] = self.extra.get("errors_of_files", 0) + 1

    def close(self) -> None:
        """Writes the last file.

        Raises:
            OutputError: it cannot be written.
        """
        if self._waiting:
            self._rotate()

    def _rotate(self) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        path = self._folder / f"apptell-{stamp}{(*self._form.suffixes, '')[0]}"
        with new_file(path, mode=PRIVATE) as stream:
            writer = self._form.writer(stream, self._waiting[0].schema)
            for batch in self._waiting:
                writer.write(batch)
            writer.close()
        self.extra["files"] += 1
        self._waiting, self._n = [], 0


def open_folder(place: str, form: Form) -> Folder:
    """``FOLDER`` or ``FOLDER?seconds=S&records=N``.

    Raises:
        UsageError: there is no folder, or an option is unknown or not a number.
        OutputError: the folder cannot be made.
    """
    folder, _, query = place.partition("?")
    if not folder:
        raise UsageError(f"files of the form {form.name} go into a folder: {form.name}:FOLDER")
    options = dict(parse_qsl(query, keep_blank_values=True))
    try:
        seconds = float(options.pop("seconds", SECONDS))
        records = int(options.pop("records", RECORDS))
    except ValueError as error:
        raise UsageError(f"{form.name}:{place}: seconds and records are numbers") from error
    if options or seconds <= 0 or records <= 0:
        raise UsageError(f"{form.name}:{place}: the options are seconds and records, above 0")
    return Folder(Path(folder), form, seconds, records)
