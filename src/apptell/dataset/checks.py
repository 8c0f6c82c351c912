"""Checks the record batches of shards, so that compiled code can index them safely.

Kernels take the offsets of one list column for those of its neighbours, and fixed arrays hold at most so many
segments: a shard from a stranger that breaks either would be read out of bounds.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apptell.errors import DatasetError
from apptell.flows.schema import (
    MAX_HEAD_SEGMENTS,
    MAX_SEGMENT_BYTES,
    MAX_SEQUENCE,
    SCHEMA,
    FlowBatch,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALWAYS: Final = ("start_ns", "payload_packets_to_server", "payload_packets_to_client", "label")
"""Columns that every labelled flow has; absent in a batch that was read without them."""
_PARALLEL: Final = (
    ("segment_length", "segment_to_server", "segment_time_ns", "segment_offset", "segment_bytes"),
    ("sequence_length", "sequence_gap_us"),
)
"""Lists of one length each; where a flow has none of the first, nothing is indexed."""
_MOST: Final = (MAX_HEAD_SEGMENTS, MAX_SEQUENCE)
_MAY_BE_ABSENT: Final = "segment_offset"
"""Absent in flows of a dataset that was built before it was kept."""


def check_columns(schema: pq.ParquetSchema, place: object) -> None:
    """Refuses a Parquet file whose columns are laid out in another way than a writer of flows lays them out.

    Arrow trusts the levels in a file: a map whose entries may be absent crashes the process.

    Args:
        schema: of the file.
        place: where it is, for messages.

    Raises:
        DatasetError: a column is unknown, or of another physical type or nesting.
    """
    known = _layout()
    for number in range(len(schema)):
        column = schema.column(number)
        if known.get(column.path) != _laid_out(column):
            raise DatasetError(
                f"{place}: damaged shard: column {column.path!r} is not of the flow schema"
            )


@cache
def _layout() -> dict[str, tuple[str, int, int]]:
    """Physical type and nesting of each column that a writer of flows makes."""
    out = pa.BufferOutputStream()
    pq.write_table(SCHEMA.empty_table(), out)
    schema = pq.ParquetFile(pa.BufferReader(out.getvalue())).schema
    return {column.path: _laid_out(column) for column in map(schema.column, range(len(schema)))}


def _laid_out(column: pq.ColumnSchema) -> tuple[str, int, int]:
    return column.physical_type, column.max_definition_level, column.max_repetition_level


def checked_flows(batch: pa.RecordBatch, columns: Sequence[str], place: object) -> FlowBatch:
    """The flows of a batch.

    Args:
        batch: as Parquet gave it.
        columns: the columns that are wanted; those that the batch lacks become nulls.
        place: where they come from, for messages.

    Raises:
        DatasetError: a column is of another type, lacks a value that every flow has, or its lists are longer
            than the schema allows or of another length than their neighbours.
        pa.ArrowInvalid: the batch is damaged (offsets, text that is not UTF-8).
    """
    there = set(batch.schema.names)
    arrays = [
        batch.column(name) if name in there else pa.nulls(len(batch), SCHEMA.field(name).type)
        for name in columns
    ]
    whole = pa.RecordBatch.from_arrays(arrays, list(columns))
    whole.validate(full=True)
    flows = FlowBatch(whole)
    for name in _ALWAYS:
        if name in columns and flows.column(name).null_count:
            raise DatasetError(f"{place}: {name!r} lacks a value")
    for names, most in zip(_PARALLEL, _MOST, strict=True):
        if names[0] in columns:
            _check_lists(flows, names, most, place)
    return flows


def _check_lists(flows: FlowBatch, names: Sequence[str], most: int, place: object) -> None:
    """Lists that stand side by side: one length, bounded, no element absent."""
    first = flows.column(names[0])
    if first.null_count == len(first):
        return
    lengths = pc.list_value_length(first).fill_null(0)
    if (pc.max(lengths).as_py() or 0) > most:
        raise DatasetError(f"{place}: {names[0]!r} has more than {most} elements")
    for name in names:
        column = flows.column(name)
        found = pc.list_value_length(column)
        if name == _MAY_BE_ABSENT:
            found = pc.coalesce(found, lengths)
        if not found.fill_null(0).equals(lengths):
            raise DatasetError(f"{place}: {name!r} differs from {names[0]!r} in length")
        if column.flatten().null_count:
            raise DatasetError(f"{place}: {name!r} lacks a value")
    if names[0] == "segment_length":
        kept = pc.binary_length(flows.column("segment_bytes").flatten())
        on_wire = first.flatten()
        if pc.any(pc.or_(pc.greater(kept, MAX_SEGMENT_BYTES), pc.greater(kept, on_wire))).as_py():
            raise DatasetError(f"{place}: more bytes of a segment than it may have")
