"""Reads the JSON lines that ``live --out jsonl:...`` writes back into records; what is not one is left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.records.schema import LIVE_RECORD

if TYPE_CHECKING:
    from collections.abc import Sequence

_REQUIRED: Final = (
    "event", "time", "end_time", "connection_id", "part", "bytes_to_server", "bytes_to_client",
)  # fmt: skip
"""Columns without which a line is no record of ``live``."""


def records_of_lines(lines: Sequence[bytes]) -> tuple[pa.RecordBatch, int]:
    """The records in some lines, in their order, and the number of lines that are none.

    Args:
        lines: JSON objects; members that no record has are left out.

    Returns:
        The records with the schema ``LIVE_RECORD``, and the number of the lines that were left out.
    """
    rows = [row for line in lines if (row := _row(line)) is not None]
    try:
        found = _batch(rows)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        rows = [row for row in rows if _fits(row)]
        found = _batch(rows)
    return found, len(lines) - len(rows)


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_record = isinstance(row, dict) and all(row.get(name) is not None for name in _REQUIRED)
    return row if is_record else None


def _fits(row: dict[str, Any]) -> bool:
    try:
        _batch([row])
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return False
    return True


def _batch(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    columns = []
    for field in LIVE_RECORD:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_timestamp(field.type):
            columns.append(pa.array(values, pa.string()).cast(field.type))
        elif pa.types.is_uint64(field.type):  # written as text: too large for a double
            numbers = [None if value is None else int(value) for value in values]
            columns.append(pa.array(numbers, field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=LIVE_RECORD)
