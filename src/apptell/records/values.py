"""Converts records to Python values, including times.

Text forms write times as RFC 3339 in UTC with microseconds. Forms with their own fields (EVE, Zeek, ECS) take
rows under one set of names, whether the records are of verdicts, of ``live`` or of flows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.records.schema import ADDED, END, LIVE_RECORD, PROTOCOL_NAMES, RENAMED

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_VALUES: Final[Mapping[str, None]] = dict.fromkeys([*LIVE_RECORD.names, *ADDED])


def rfc3339(time_ns: int) -> str:
    """Time in ns since 1970 as ``2026-01-31T12:00:00.000000Z``."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 1000:06d}Z"


def plain_values(column: pa.Array) -> list[Any]:
    """Python values of a column; timestamps as RFC 3339 text with microseconds."""
    if pa.types.is_timestamp(column.type):
        return [None if ns is None else rfc3339(ns) for ns in column.cast(pa.int64()).to_pylist()]
    return list(column.to_pylist(maps_as_pydicts="strict"))


def event_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Records under the names of ``LIVE_RECORD``, whichever kind they are of.

    ``time`` and ``end_time`` are ns since 1970 UTC, ``protocol`` is a name. What a record does not have is
    None; ``event`` is ``end`` where the records have none: they are of whole flows.
    """
    columns: dict[str, list[Any]] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        columns[RENAMED.get(name, name)] = column.to_pylist()
    if "event" not in columns:
        columns["event"] = [END] * batch.num_rows
    columns["protocol"] = [
        PROTOCOL_NAMES.get(value, str(value)) if isinstance(value, int) else value
        for value in columns["protocol"]
    ]
    names = tuple(columns)
    return [
        {**_NO_VALUES, **dict(zip(names, row, strict=True))}
        for row in zip(*columns.values(), strict=True)
    ]
