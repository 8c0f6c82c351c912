"""Ground truth: captures and whatever names their apps enter, labelled flows leave."""

from __future__ import annotations

from apptell.labels.join import LogIndex, Offset
from apptell.labels.log import Lines, LogTable
from apptell.labels.recognise import KINDS, LabelOptions, sources
from apptell.labels.source import JoinLabeller, OwnerLabeller, Source, flow_reader

__all__ = [
    "KINDS",
    "JoinLabeller",
    "LabelOptions",
    "Lines",
    "LogIndex",
    "LogTable",
    "Offset",
    "OwnerLabeller",
    "Source",
    "flow_reader",
    "sources",
]
