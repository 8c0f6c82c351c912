"""Record batches in; a file or standard output in one of the output forms out, as they come."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING

from apptell.errors import CaptureError, UsageError
from apptell.files import PRIVATE, new_file
from apptell.records.forms import form_names, form_of_name, form_of_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from apptell.records.forms import Form, RecordWriter
    from apptell.records.table import Column


def choose_form(name: str | None, path: Path | None, *, terminal: bool) -> Form:
    """The form of records: the one that is named, else the path's ending, else by the terminal.

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
                f"{path}: no output form has this ending; name one of {', '.join(form_names())}"
            )
        form = found
    if path is None and not form.is_text:
        raise UsageError(f"{form.name} cannot go to standard output: name a file")
    return form


@contextmanager
def open_writer(
    path: Path | None, form: Form, schema: pa.Schema, columns: Sequence[Column] = ()
) -> Iterator[RecordWriter]:
    """A writer to a file or to standard output.

    A file takes its place when the block ends. Where the input was damaged, what was written before the damage
    is kept; on any other error nothing is, and an older file stays.

    Args:
        path: where the records go; None for standard output.
        form: how they are written.
        schema: of the records.
        columns: what the form ``table`` shows.

    Raises:
        OutputError: the file cannot be written.
    """
    if path is None:
        writer = form.writer(sys.stdout, schema, columns)
        yield writer
        writer.close()
        return
    with new_file(path, mode=PRIVATE, keeps_on=(CaptureError,)) as file:
        text = (
            TextIOWrapper(file, "utf-8", "backslashreplace", newline="") if form.is_text else None
        )
        writer = form.writer(text or file, schema, columns)
        try:
            yield writer
        except CaptureError:
            _end(writer, text)
            raise
        _end(writer, text)


def _end(writer: RecordWriter, text: TextIOWrapper | None) -> None:
    writer.close()
    if text is not None:
        text.detach()
