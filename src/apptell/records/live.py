"""Verdicts in, the records that every output gets out.

Each flow that is decided gives two records: ``verdict`` once its app is known, with what was known at its
deciding payload packet, and ``end`` when it ended, with the same app and its totals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.records.records import VERDICT_RECORD, verdict_columns
from apptell.records.writers import json_lines

if TYPE_CHECKING:
    from apptell.verdicts import VerdictBatch

VERDICT, END = "verdict", "end"
LIVE_RECORD: Final = pa.schema(
    [
        pa.field("event", pa.string()),  # VERDICT or END
        *VERDICT_RECORD,
        pa.field("end_reason", pa.string()),  # of flows.schema.END_REASONS; null in a verdict
    ],
    metadata=VERDICT_RECORD.metadata,
)
"""The columns of a live record: those of ``identify`` with ``event`` before and ``end_reason`` behind."""
_TIMES: Final = ("time", "end_time")


def live_records(
    verdicts: VerdictBatch, event: str, end_reason: pa.Array | None = None
) -> pa.RecordBatch:
    """The records of some verdicts.

    Args:
        verdicts: n verdicts.
        event: VERDICT or END.
        end_reason: why each flow ended, shape (n,); None for open flows.
    """
    n = len(verdicts)
    reason = pa.nulls(n, pa.string()) if end_reason is None else end_reason.cast(pa.string())
    columns = [pa.array([event] * n, pa.string()), *verdict_columns(verdicts), reason]
    return pa.RecordBatch.from_arrays(columns, schema=LIVE_RECORD)


def rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The records as plain values, times as integers of ns since 1970 UTC."""
    for name in _TIMES:
        at = batch.schema.get_field_index(name)
        batch = batch.set_column(at, name, batch.column(at).cast(pa.int64()))
    found: list[dict[str, Any]] = batch.to_pylist()
    return found


def json_text(batch: pa.RecordBatch) -> str:
    """The records as JSON lines, as ``identify`` writes them; each ends with a line feed."""
    return json_lines(batch)
