"""Record batches in; a file or standard output in one of the output forms out, as they come.

A file is written beside its place and put there when it is whole; on an error everything written so
far is kept.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from apptell.errors import OutputError, UsageError
from apptell.records.forms import form_names, form_of_name, form_of_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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

    The file takes its place when the block ends, also by an error: what was written is kept.

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
    with ExitStack() as stack:
        # a device or a pipe is written to where it is: replacing it would destroy it
        in_place = path.exists() and not path.is_file()
        part = path if in_place else _beside(path)
        if not in_place:
            stack.callback(part.unlink, missing_ok=True)
        try:
            stream: TextIO | BinaryIO
            if form.is_text:
                stream = stack.enter_context(part.open("w", encoding="utf-8", newline=""))
            else:
                stream = stack.enter_context(part.open("wb"))
            writer = form.writer(stream, schema, columns)
            try:
                yield writer
            finally:
                writer.close()
                if not in_place:
                    part.replace(path)
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror or error}") from error


def _beside(path: Path) -> Path:
    """An empty file in the folder of ``path`` with the permissions a new file has."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(handle, 0o666 & ~mask)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error
    return Path(name)
