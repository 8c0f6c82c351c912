"""Writes records to one Parquet file, compressed with zstd."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final, TextIO

import pyarrow as pa

from apptell.records.forms.form import Form, RecordWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.records.text_table import Column

ROW_GROUP_RECORDS: Final = 65_536


class Parquet(Form):
    """A Parquet file with the records' own columns."""

    name = "parquet"
    suffixes = (".parquet",)
    is_text = False

    def writer(
        self, stream: TextIO | BinaryIO, schema: pa.Schema, columns: Sequence[Column] = ()
    ) -> RecordWriter:
        """Begins a file."""
        del columns
        return _ParquetWriter(stream, schema)


class _ParquetWriter:
    """Row groups of at least ``ROW_GROUP_RECORDS`` records, the last one excepted."""

    def __init__(self, stream: TextIO | BinaryIO, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq  # takes long to load

        self._file = pq.ParquetWriter(stream, schema, compression="zstd")
        self._waiting: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes some records; writes a row group when there are enough."""
        self._waiting.append(batch)
        if sum(each.num_rows for each in self._waiting) >= ROW_GROUP_RECORDS:
            self._flush()

    def close(self) -> None:
        """Writes what is waiting and the footer."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.Table.from_batches(self._waiting))
            self._waiting = []
