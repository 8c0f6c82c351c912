"""Assembles decoded packets into flows: 5-tuple table, client and server, first segments."""

from __future__ import annotations

from apptell.flows.assembly import Assembly
from apptell.flows.flow_reader import FlowReader, FlowStats
from apptell.flows.flow_table import FlowTable
from apptell.flows.list_columns import SegmentColumns, SequenceColumns
from apptell.flows.options import FlowOptions
from apptell.flows.schema import (
    DECISION_SEGMENTS,
    SCHEMA,
    SCHEMA_VERSION,
    Flow,
    FlowBatch,
)

__all__ = [
    "DECISION_SEGMENTS",
    "SCHEMA",
    "SCHEMA_VERSION",
    "Assembly",
    "Flow",
    "FlowBatch",
    "FlowOptions",
    "FlowReader",
    "FlowStats",
    "FlowTable",
    "SegmentColumns",
    "SequenceColumns",
]
