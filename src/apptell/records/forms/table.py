"""Writes records as a table for people, with a part of the columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

from apptell.records.forms.form import Form, RecordWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from apptell.records.text_table import Column


class Table(Form):
    """A heading and one line for each record, as wide as the terminal."""

    name = "table"
    suffixes = (".txt",)
    has_own_fields = True

    def writer(
        self, stream: TextIO | BinaryIO, schema: pa.Schema, columns: Sequence[Column] = ()
    ) -> RecordWriter:
        """Begins a table."""
        from apptell.records.text_table import TableWriter

        del schema
        return TableWriter(cast("TextIO", stream), columns)
