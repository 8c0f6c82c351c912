"""Record batches in; JSON lines, CSV, Parquet or a table for a terminal out, as they come.

A file is written beside its place and put there when it is whole; on an error everything written so
far is kept. JSON: times as RFC 3339, bytes as hexadecimal digits. CSV: RFC 4180, lists as JSON.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apptell.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MANY: Final = 64
"""Records from which on it is faster to write column by column."""
_ESCAPED: Final = r'["\\\x00-\x1f]'
"""What stands in JSON's strings with a backslash."""
FORMS: Final = ("table", "jsonl", "csv", "parquet")
_ENDINGS: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"} | {
    ".parquet": "parquet",
    ".txt": "table",
}


class RecordWriter(Protocol):
    """Takes record batches of one schema, one after the other."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes some records."""

    def close(self) -> None:
        """Ends the output."""


def choose_form(wished: str | None, path: Path | None, *, terminal: bool) -> str:
    """The form of records: the one wished for, else the path's ending, else by the terminal.

    Raises:
        UsageError: there is no such form, or Parquet would go to standard output.
    """
    if wished is not None and wished not in FORMS:
        raise UsageError(f"no form of records is called {wished!r}: {', '.join(FORMS)}")
    if path is None:
        if wished == "parquet":
            raise UsageError("parquet cannot go to standard output: give -o FILE")
        return wished or ("table" if terminal else "jsonl")
    if wished is not None:
        return wished
    form = _ENDINGS.get(path.suffix.lower())
    if form is None:
        raise UsageError(f"{path}: say --format, its ending names none of {', '.join(FORMS)}")
    return form


class JsonLines:
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes some records and flushes, so that a reader at a pipe has them."""
        self._stream.write(json_lines(batch))
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to write."""
        self._stream.flush()


def json_lines(batch: pa.RecordBatch) -> str:
    """Records as JSON, each ended by a line feed."""
    columns = range(batch.num_columns)
    if batch.num_rows >= _MANY:
        pieces: list[Any] = []
        for i in columns:
            pieces.append(f"{', ' if i else '{'}{json.dumps(batch.schema.names[i])}: ")
            pieces.append(_json_texts(batch.column(i)))
        lines = pc.binary_join_element_wise(*pieces, "}\n", "")
        return "".join(lines.to_pylist())
    dump = json.JSONEncoder(ensure_ascii=False, default=_json).encode
    return "".join(
        dump(dict(zip(batch.schema.names, row, strict=True))) + "\n"
        for row in zip(*(_plain(batch.column(i)) for i in columns), strict=True)
    )


def _json_texts(column: pa.Array) -> pa.Array:
    """Each value of a column as JSON, as ``json`` writes it."""
    kind, texts = column.type, None
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        texts = column.cast(pa.string())
    elif pa.types.is_float64(kind):
        size = np.abs(column.drop_null().to_numpy())
        if (((size >= 1e-4) & (size < 1e15)) | (size == 0)).all():  # no exponents
            texts = column.cast(pa.string())
            whole = pc.equal(pc.floor(column), column)  # Arrow writes 1, json 1.0
            texts = pc.if_else(whole, pc.binary_join_element_wise(texts, "0", "."), texts)
    elif pa.types.is_timestamp(kind):
        micros = pc.floor_temporal(column, unit="microsecond").cast(pa.timestamp("us"))
        texts = pc.strftime(micros, format='"%Y-%m-%dT%H:%M:%SZ"')
    elif pa.types.is_string(kind):
        escaped = pc.match_substring_regex(column, _ESCAPED)
        if not pc.any(escaped).as_py():
            texts = pc.binary_join_element_wise('"', column, '"', "")
    if texts is None:
        dump = json.JSONEncoder(ensure_ascii=False, default=_json).encode
        return pa.array([dump(value) for value in _plain(column)], pa.string())
    return texts.fill_null("null")


class Csv:
    """A header and one line a record; null is empty."""

    def __init__(self, stream: TextIO, schema: pa.Schema) -> None:
        self._stream = stream
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow(schema.names)

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes some records and flushes."""
        columns = [_plain(batch.column(i)) for i in range(batch.num_columns)]
        self._writer.writerows([_cell(v) for v in row] for row in zip(*columns, strict=True))
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to write."""
        self._stream.flush()


class Parquet:
    """Row groups of at least ``rows`` records, zstd."""

    def __init__(self, path: Path, schema: pa.Schema, rows: int = 65_536) -> None:
        self._file = pq.ParquetWriter(path, schema, compression="zstd")
        self._rows = rows
        self._waiting: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes some records; writes a row group when there are enough."""
        self._waiting.append(batch)
        if sum(each.num_rows for each in self._waiting) >= self._rows:
            self._flush()

    def close(self) -> None:
        """Writes what is waiting and the footer."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.Table.from_batches(self._waiting))
            self._waiting = []


@contextmanager
def open_writer(
    path: Path | None, form: str, schema: pa.Schema, table: Callable[[TextIO], RecordWriter]
) -> Iterator[RecordWriter]:
    """A writer to a file or to standard output.

    The file takes its place when the block ends, also by an error: what was written is kept.

    Args:
        path: where the records go; None for standard output.
        form: one of FORMS.
        schema: of the records.
        table: makes the writer of the form ``table``.

    Raises:
        OutputError: the file cannot be written.
    """
    if path is None:
        writer = _text_writer(form, sys.stdout, schema, table)
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
            if form == "parquet":
                writer = Parquet(part, schema)
            else:
                stream = stack.enter_context(part.open("w", encoding="utf-8", newline=""))
                writer = _text_writer(form, stream, schema, table)
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


def _text_writer(
    form: str, stream: TextIO, schema: pa.Schema, table: Callable[[TextIO], RecordWriter]
) -> RecordWriter:
    if form == "jsonl":
        return JsonLines(stream)
    if form == "csv":
        return Csv(stream, schema)
    return table(stream)


def _plain(column: pa.Array) -> list[Any]:
    """Python values of a column; timestamps as RFC 3339 text with microseconds."""
    if pa.types.is_timestamp(column.type):
        return [None if ns is None else rfc3339(ns) for ns in column.cast(pa.int64()).to_pylist()]
    return list(column.to_pylist(maps_as_pydicts="strict"))


def rfc3339(time_ns: int) -> str:
    """Time in ns since 1970 as ``2026-01-31T12:00:00.000000Z``."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 1000:06d}Z"


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} is not a value of a record")


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=_json)
    return value
