"""Writes records as JSON lines under their own column names.

Times are RFC 3339 text, bytes hexadecimal digits. Unsigned 64-bit integers (``connection_id``) are text:
readers of JSON may keep numbers as doubles, which are exact to 53 bits (RFC 8259, Section 6).
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.records.forms.form import LineForm
from apptell.records.values import plain_values

_MANY: Final = 64
"""Number of records from which writing column by column is faster."""
_ESCAPED: Final = r'["\\\x00-\x1f]'
"""What stands in JSON's strings with a backslash."""


class JsonLines(LineForm):
    """One JSON object a line."""

    name = "jsonl"
    suffixes = (".jsonl", ".ndjson", ".json")

    def lines(self, batch: pa.RecordBatch) -> list[str]:
        """An object for each record."""
        return json_lines(batch)


def json_lines(batch: pa.RecordBatch) -> list[str]:
    """Each record as a JSON object, without a line feed."""
    columns = range(batch.num_columns)
    if batch.num_rows >= _MANY:
        pieces: list[Any] = []
        for i in columns:
            pieces.append(f"{', ' if i else '{'}{json.dumps(batch.schema.names[i])}: ")
            pieces.append(_json_texts(batch.column(i)))
        lines: list[str] = pc.binary_join_element_wise(*pieces, "}", "").to_pylist()
        return lines
    return [
        json_dump(dict(zip(batch.schema.names, row, strict=True)))
        for row in zip(*(_json_values(batch.column(i)) for i in columns), strict=True)
    ]


def _json_texts(column: pa.Array) -> pa.Array:
    """Each value of a column as JSON, as ``json`` writes it."""
    kind, texts = column.type, None
    if pa.types.is_uint64(kind):
        texts = pc.binary_join_element_wise('"', column.cast(pa.string()), '"', "")
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
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
        return pa.array([json_dump(value) for value in _json_values(column)], pa.string())
    return texts.fill_null("null")


def _json_values(column: pa.Array) -> list[Any]:
    if pa.types.is_uint64(column.type):
        column = column.cast(pa.string())
    return plain_values(column)


def _other(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} is not a value of a record")


json_dump: Final = json.JSONEncoder(ensure_ascii=False, default=_other).encode
"""One value of a record as JSON."""
