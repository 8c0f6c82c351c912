"""Writes records to a file or to standard output in one of the output forms."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final, TextIO

import pyarrow as pa
import pyarrow.compute as pc

from apptell.errors import CaptureError, UsageError
from apptell.files import PRIVATE, new_file
from apptell.records.forms import RawCsv, form_names, form_of_name, form_of_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from apptell.records.forms import Form, RecordWriter
    from apptell.records.text_table import Column


ORDERED_BYTES: Final = 256 << 20
"""Memory for records that are held back to be sorted."""


def choose_form(
    name: str | None, path: Path | None, *, terminal: bool, raw_csv: bool = False
) -> Form:
    """Chooses the form of records by name, else by the path's ending, else by the terminal.

    Args:
        name: as in ``form_of_name``.
        path: the output file; None for standard output.
        terminal: whether standard output is a terminal.
        raw_csv: whether CSV is for programs and not for spreadsheets.

    Raises:
        UsageError: no form has that name or that ending, or it cannot go to standard output.
    """
    if name is not None:
        form = form_of_name(name)
    elif path is None:
        form = form_of_name("table" if terminal else "jsonl")
    else:
        found = form_of_path(path)
        if found is None:
            raise UsageError(
                f"{path}: no output form has this ending; available: {', '.join(form_names())}"
            )
        form = found
    if path is None and not form.is_text:
        raise UsageError(f"the form {form.name} cannot be written to standard output; name a file")
    return RawCsv() if raw_csv and form.name == "csv" else form


@contextmanager
def open_writer(
    path: Path | None,
    form: Form,
    schema: pa.Schema,
    columns: Sequence[Column] = (),
    *,
    order_by: str | None = None,
) -> Iterator[RecordWriter]:
    """A writer to a file or to standard output.

    A file is moved into place when the block ends. If the input is damaged, the records before the damage are
    kept; on any other error nothing is written, and an older file stays.

    Args:
        path: where the records go; None for standard output.
        form: how they are written.
        schema: of the records.
        columns: what the form ``table`` shows.
        order_by: a column that records are sorted by in files and tables, while they fit into
            ``ORDERED_BYTES``; more of them come in several runs, each in order. Records on their way to a
            program through standard output are written as they come.

    Raises:
        OutputError: the file cannot be written.
    """

    def ordered(writer: RecordWriter) -> RecordWriter:
        return writer if order_by is None else _Ordered(writer, order_by)

    if path is None:
        writer = form.writer(sys.stdout, schema, columns)
        if form.name == "table":
            writer = ordered(writer)
        try:
            yield writer
        except (CaptureError, KeyboardInterrupt):
            writer.close()
            raise
        writer.close()
        return
    with new_file(path, mode=PRIVATE, keeps_on=(CaptureError,)) as file:
        text = (
            TextIOWrapper(file, "utf-8", "backslashreplace", newline="") if form.is_text else None
        )
        writer = ordered(form.writer(text or file, schema, columns))
        try:
            yield writer
        except CaptureError:
            _end(writer, text)
            raise
        _end(writer, text)


@contextmanager
def open_text(path: Path | None) -> Iterator[TextIO]:
    """A text stream to a file or to standard output.

    The file is moved into place when the block ends, also after damage in the input; on any other error nothing
    is written, and an older file stays.

    Args:
        path: None for standard output.

    Raises:
        OutputError: the file cannot be written.
    """
    if path is None:
        yield sys.stdout
        return
    with new_file(path, mode=PRIVATE, keeps_on=(CaptureError,)) as file:
        text = TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
        try:
            yield text
        finally:
            text.flush()
            text.detach()


class _Ordered:
    """Holds records back and writes them sorted by a column; the sort is stable."""

    def __init__(self, writer: RecordWriter, column: str) -> None:
        self._writer, self._column = writer, column
        self._held: list[pa.RecordBatch] = []
        self._n_bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Holds some records; writes all that are held when they are too many."""
        self._held.append(batch)
        self._n_bytes += batch.nbytes
        if self._n_bytes >= ORDERED_BYTES:
            self._write()

    def close(self) -> None:
        """Writes what is held and ends the output."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        if not self._held:
            return
        table = pa.Table.from_batches(self._held).unify_dictionaries()
        self._held, self._n_bytes = [], 0
        order = pc.sort_indices(table, [(self._column, "ascending")])  # stable
        for batch in table.take(order).combine_chunks().to_batches():
            self._writer.write(batch)


def _end(writer: RecordWriter, text: TextIOWrapper | None) -> None:
    writer.close()
    if text is not None:
        text.detach()
