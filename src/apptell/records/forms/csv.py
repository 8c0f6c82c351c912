"""Records in; CSV out (RFC 4180): a header, then a line a record.

Null is an empty cell, lists and maps are JSON, times RFC 3339, bytes hexadecimal digits.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from apptell.records.forms.form import LineForm
from apptell.records.forms.jsonl import json_dump
from apptell.records.values import plain_values

if TYPE_CHECKING:
    import pyarrow as pa


class Csv(LineForm):
    """A header and one line a record."""

    name = "csv"
    suffixes = (".csv",)

    def header(self, schema: pa.Schema) -> str:
        """The column names."""
        return _line(schema.names) + "\n"

    def lines(self, batch: pa.RecordBatch) -> list[str]:
        """The cells of each record."""
        columns = [plain_values(column) for column in batch.columns]
        return [_line([_cell(value) for value in row]) for row in zip(*columns, strict=True)]


def _line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple, dict)):
        return json_dump(value)
    return value
