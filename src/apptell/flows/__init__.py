"""HeaderBatch in, FlowBatch out: the 5-tuple table, client and server, first segments, names."""

from __future__ import annotations

from apptell.flows.read import FlowReader, FlowStats, read_flows
from apptell.flows.schema import (
    DECISION_SEGMENTS,
    SCHEMA,
    SCHEMA_VERSION,
    Flow,
    FlowBatch,
    SegmentColumns,
    SequenceColumns,
)
from apptell.flows.table import FlowOptions, FlowTable

__all__ = [
    "DECISION_SEGMENTS",
    "SCHEMA",
    "SCHEMA_VERSION",
    "Flow",
    "FlowBatch",
    "FlowOptions",
    "FlowReader",
    "FlowStats",
    "FlowTable",
    "SegmentColumns",
    "SequenceColumns",
    "read_flows",
]
