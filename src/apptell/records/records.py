"""Verdicts and flows in; records for people and programs out: one set of names for every format.

Times become timestamps in UTC, protocol numbers names, confidences six digits. A record is a row of
an Arrow batch; the writers give it its form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.flows import schema as flow_schema
from apptell.verdicts import schema as verdict_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apptell.flows.schema import FlowBatch
    from apptell.verdicts.schema import VerdictBatch

PROTOCOL_NAMES: Final = {6: "tcp", 17: "udp"}
_TIME: Final = pa.timestamp("ns", tz="UTC")
_SHARE: Final = pa.float64()

VERDICT_RECORD: Final = pa.schema(
    {
        "time": _TIME,  # first packet
        "community_id": pa.string(),
        "protocol": pa.string(),
        "client_address": pa.string(),
        "client_port": pa.uint16(),
        "server_address": pa.string(),
        "server_port": pa.uint16(),
        "app": pa.string(),  # null when declined
        "best_guess": pa.string(),
        "confidence": _SHARE,
        "runner_up": pa.string(),
        "runner_up_confidence": _SHARE,
        "threshold": _SHARE,
        "payload_packets_seen": pa.int32(),
        "model": pa.string(),
        "outcome": pa.string(),
        "end_time": _TIME,
        "packets_to_server": pa.int64(),
        "packets_to_client": pa.int64(),
        "bytes_to_server": pa.int64(),
        "bytes_to_client": pa.int64(),
        "server_name": pa.string(),
        "ja4": pa.string(),
        "capture": pa.string(),
        "connection_id": pa.uint64(),
        "part": pa.int32(),
        "label": pa.string(),
        "revised": pa.bool_(),
        "context_flows": pa.int32(),  # null where context is off
    },
    metadata={"apptell.verdict_schema": str(verdict_schema.SCHEMA_VERSION)},
)
"""The columns of a verdict's record, in order (docs/cli.md, ``identify``)."""

_RENAMED: Final = {"time": "start_ns", "end_time": "end_ns"}


def _as_time(values: pa.Array) -> pa.Array:
    return values.view(_TIME)


def _as_name(values: pa.Array) -> pa.Array:
    return pa.array([PROTOCOL_NAMES.get(number, str(number)) for number in values.to_pylist()])


def _as_share(values: pa.Array) -> pa.Array:
    """Six digits: a float32 .85 would print as 0.8500000238418579."""
    if values.null_count:
        return pc.round(values.cast(_SHARE), 6)
    return pa.array(np.round(values.to_numpy().astype(np.float64), 6))


def _form(field: pa.Field) -> Callable[[pa.Array], pa.Array] | None:
    if field.name == "protocol":
        return _as_name
    return {_TIME: _as_time, _SHARE: _as_share}.get(field.type)


_FORMS: Final = tuple(
    (_RENAMED.get(field.name, field.name), _form(field)) for field in VERDICT_RECORD
)


def verdict_records(verdicts: VerdictBatch) -> pa.RecordBatch:
    """The records of some verdicts, with the columns of ``VERDICT_RECORD``."""
    return pa.RecordBatch.from_arrays(verdict_columns(verdicts), schema=VERDICT_RECORD)


def verdict_columns(verdicts: VerdictBatch) -> list[pa.Array]:
    """The columns of ``verdict_records``."""
    table = verdicts.to_arrow()
    return [form(table.column(name)) if form else table.column(name) for name, form in _FORMS]


def flow_record_schema(groups: Sequence[str]) -> pa.Schema:
    """The columns of a flow's record for some column groups: those of the flow schema itself."""
    names = [name for group in groups for name in flow_schema.GROUPS[group]]
    return pa.schema(
        [flow_schema.SCHEMA.field(name) for name in names],
        metadata=flow_schema.SCHEMA.metadata,
    )


def flow_records(flows: FlowBatch, groups: Sequence[str]) -> pa.RecordBatch:
    """The records of some flows: the columns of some groups, as the flow schema has them."""
    schema = flow_record_schema(groups)
    table = flows.to_arrow()
    there = set(table.schema.names)
    columns = [
        table.column(field.name) if field.name in there else pa.nulls(len(flows), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
