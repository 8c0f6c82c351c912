"""Labels the flows of captures from ground truth: logs, owners in captures, names, and file names."""

from __future__ import annotations

from apptell.labels.format import Candidate, LabelFormat, LogFormat
from apptell.labels.join import LogIndex, Offset
from apptell.labels.labelled_capture import CaptureFlows, LabelledCapture
from apptell.labels.labellers import JoinLabeller, OwnerLabeller
from apptell.labels.log import Lines, LogTable
from apptell.labels.options import LabelOptions
from apptell.labels.registry import format_names
from apptell.labels.search import LabelSearch

__all__ = [
    "Candidate",
    "CaptureFlows",
    "JoinLabeller",
    "LabelFormat",
    "LabelOptions",
    "LabelSearch",
    "LabelledCapture",
    "Lines",
    "LogFormat",
    "LogIndex",
    "LogTable",
    "Offset",
    "OwnerLabeller",
    "format_names",
]
