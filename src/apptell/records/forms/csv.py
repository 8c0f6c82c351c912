"""Writes records as CSV (RFC 4180): a header, then one line for each record.

Null is an empty cell, lists and maps are JSON, times RFC 3339, bytes hexadecimal digits. A text that a
spreadsheet would take for a formula (OWASP, "CSV Injection") is preceded by an apostrophe, except in raw CSV.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, ClassVar, Final

from apptell.records.forms.form import LineForm
from apptell.records.forms.jsonl import json_dump
from apptell.records.values import plain_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Csv(LineForm):
    """A header and one line for each record; no text is a formula."""

    name = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def header(self, schema: pa.Schema) -> str:
        """The column names."""
        return csv_line(schema.names) + "\n"

    def lines(self, batch: pa.RecordBatch) -> list[str]:
        """The cells of each record."""
        columns = [[self.cell(value) for value in plain_values(each)] for each in batch.columns]
        return [csv_line(row) for row in zip(*columns, strict=True)]

    def cell(self, value: Any) -> Any:
        """A value as a cell."""
        cell = _cell(value)
        return guarded(cell) if isinstance(cell, str) else cell


class RawCsv(Csv):
    """The same with every text as it is: for programs, not for spreadsheets."""

    def cell(self, value: Any) -> Any:
        """A value as a cell."""
        return _cell(value)


def guarded(text: str) -> str:
    """A text that a spreadsheet shows and does not calculate."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def csv_line(cells: Sequence[Any]) -> str:
    """Cells as a line of CSV, without its line end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # which quotes both characters
    return text.getvalue().removesuffix("\r\n")


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple, dict)):
        return json_dump(value)
    return value
