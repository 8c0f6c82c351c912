"""Stores labelled flows as a folder of Parquet, edits them, and splits them into training and test sides."""

from __future__ import annotations

from apptell.dataset.build import BuildReport, build
from apptell.dataset.classes import Classes
from apptell.dataset.reading import LabelledSource
from apptell.dataset.selection import Selection
from apptell.dataset.splits import (
    Split,
    SplitMethod,
    folds,
    method_of,
    save_split,
    split,
    split_names,
)
from apptell.dataset.store import Dataset
from apptell.dataset.writer import DatasetWriter

__all__ = [
    "BuildReport",
    "Classes",
    "Dataset",
    "DatasetWriter",
    "LabelledSource",
    "Selection",
    "Split",
    "SplitMethod",
    "build",
    "folds",
    "method_of",
    "save_split",
    "split",
    "split_names",
]
