"""Writes records as JSON lines under their own column names.

Times are RFC 3339 text, bytes hexadecimal digits. Unsigned 64-bit integers (``connection_id``) are text:
readers of JSON may keep numbers as doubles, which are exact to 53 bits (RFC 8259, Section 6).
"""

from __future__ import annotations

import json
from functools import lru_cache
from json.encoder import encode_basestring
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.flows.plain_columns import Coded, to_list
from apptell.records.forms.form import LineForm
from apptell.records.schema import Records
from apptell.records.values import plain_values, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class JsonLines(LineForm):
    """One JSON object a line."""

    name = "jsonl"
    reads_plain = True
    suffixes = (".jsonl", ".ndjson", ".json")

    def lines(self, batch: pa.RecordBatch | Records) -> list[str]:
        """An object for each record."""
        return json_lines(batch)


def json_lines(batch: pa.RecordBatch | Records) -> list[str]:
    """Each record as a JSON object, without a line feed."""
    n = batch.num_rows
    if isinstance(batch, Records):
        if n < _BLOCK:
            return _few(batch.fields.names, batch.fields.kinds, batch.plain_columns, n)
        batch = batch.to_arrow()
    schema = batch.schema
    if n < _BLOCK:
        return _few(tuple(schema.names), schema.types, batch.columns, n)
    return _joined(list(zip(_heads(schema.names), batch.columns, strict=True)))


def _few(
    names: tuple[str, ...], kinds: Sequence[pa.DataType], columns: Sequence[Any], n: int
) -> list[str]:
    """The objects of n records: their texts are joined a record at a time."""
    line, values = [], []
    for head, kind, column in zip(_format_heads(names), kinds, columns, strict=True):
        line.append(head)
        if column is None or (isinstance(column, pa.Array) and column.null_count == n):
            line.append("null")
        else:
            line.append("%s")
            values.append(_values(kind, column))
    form = "".join(line) + "}"
    return [form % row for row in zip(*values, strict=True)] if values else [form % ()] * n


def _heads(names: Sequence[str]) -> list[str]:
    """What stands before the value of each column."""
    return [f"{', ' if i else '{'}{json.dumps(name)}: " for i, name in enumerate(names)]


@lru_cache(maxsize=32)
def _format_heads(names: tuple[str, ...]) -> list[str]:
    """The same in a format."""
    return [head.replace("%", "%%") for head in _heads(names)]


def _joined(columns: list[tuple[str, pa.Array]]) -> list[str]:
    """The objects of many records: their texts are joined in compiled code, a column at a time."""
    parts: list[Any] = []
    constant = ""
    for head, column in columns:
        constant += head
        if column.null_count == len(column):
            constant += "null"
            continue
        parts += [constant, _texts(column)]
        constant = ""
    lines = pc.binary_join_element_wise(*parts, f"{constant}}}", "")
    return cast("list[str]", lines.to_pylist())


def _texts(column: pa.Array) -> pa.Array:
    """Each value of a column as JSON."""
    kind = column.type
    if pa.types.is_boolean(kind):
        texts = pc.if_else(column, "true", "false")
    elif pa.types.is_uint64(kind):
        texts = _quoted(column.cast(pa.string()))
    elif pa.types.is_integer(kind):
        texts = column.cast(pa.string())
    elif pa.types.is_string(kind) and _is_plain(column):
        texts = _quoted(column)
    elif pa.types.is_timestamp(kind) and pc.min(column.view(pa.int64())).as_py() >= 0:
        moments = column.cast(pa.timestamp("us"), safe=False).cast(pa.string())
        rfc3339_texts = pc.binary_replace_slice(moments.cast(pa.binary()), 10, 11, b"T")
        texts = pc.binary_join_element_wise('"', rfc3339_texts.cast(pa.string()), 'Z"', "")
    else:
        return pa.array([str(value) for value in _values(kind, column)], pa.string())
    return texts.fill_null("null") if column.null_count else texts


def _is_plain(column: pa.Array) -> bool:
    """Whether no text has a character that JSON escapes."""
    _, offsets, data = column.buffers()
    if data is None:
        return True
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return not _NEEDS_ESCAPE[np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]].any()


def _quoted(texts: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise('"', texts, '"', "")


def _values(kind: pa.DataType, column: Any) -> list[Any]:
    """Each value of a column as JSON: a text, or a number that is its own text."""
    write = _WRITERS.get(kind.id)
    if write is None:
        return [json_dump(value) for value in _json_values(column)]
    if isinstance(column, Coded):
        texts = [*map(write, (text or "" for text in column.texts)), "null"]
        for place, text in enumerate(column.texts):
            if text is None:
                texts[place] = "null"
        return [texts[code] for code in column.codes.tolist()]
    if isinstance(column, pa.Array):
        if kind.id == _TIME:
            column = column.view(pa.int64())
        if kind.id in _WHOLE and not column.null_count:
            column = column.to_numpy()  # which needs no object for each value between
    if isinstance(column, np.ndarray):
        numbers: list[Any] = column.tolist()
        return numbers if write is str else [write(number) for number in numbers]
    return ["null" if value is None else write(value) for value in to_list(column, 0)]


def _quoted_time(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f'"{_second(seconds)}.{rest // 1000:06d}Z"'


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    """RFC 3339 to the second: records that follow each other share it."""
    return rfc3339(seconds * 1_000_000_000)[:19]


def _number(value: float) -> str:
    return float.__repr__(value) if isfinite(value) else json_dump(value)


def _json_values(column: pa.Array) -> list[Any]:
    if pa.types.is_uint64(column.type):
        column = column.cast(pa.string())
    return plain_values(column)


def _other(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} is not a value of a record")


_BLOCK: Final = 512
"""Records from which joining texts in compiled code costs less than its calls."""
_NEEDS_ESCAPE: Final = np.isin(np.arange(256), [*range(32), ord('"'), ord("\\")])
"""Whether JSON does not hold a byte of UTF-8 as it is (RFC 8259, Section 7)."""
json_dump: Final = json.JSONEncoder(ensure_ascii=False, default=_other).encode
"""One value of a record as JSON."""
_INTEGERS: Final = (
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32()),
)
_TIME: Final = pa.timestamp("ns").id
_WRITERS: Final[dict[int, Callable[[Any], str]]] = {
    pa.string().id: encode_basestring,
    pa.float64().id: _number,
    pa.bool_().id: lambda value: "true" if value else "false",
    pa.uint64().id: lambda value: f'"{value}"',
    _TIME: _quoted_time,
    **{kind.id: str for kind in _INTEGERS},
}
"""How a value that is there is written, by the number of its column's type, which costs less than the type."""
_WHOLE: Final = frozenset({kind.id for kind in _INTEGERS} | {pa.uint64().id, _TIME})
"""Types whose values are whole numbers."""
