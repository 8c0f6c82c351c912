"""Labelled flows on disk: FlowBatches enter a folder of Parquet, FlowBatches and splits leave it."""

from __future__ import annotations

from apptell.dataset.build import BuildReport, build
from apptell.dataset.classes import Classes
from apptell.dataset.reading import LabelledSource
from apptell.dataset.selection import Selection
from apptell.dataset.splits import PROTOCOLS, Split, folds, save_split, split
from apptell.dataset.store import Dataset
from apptell.dataset.writer import DatasetWriter

__all__ = [
    "PROTOCOLS",
    "BuildReport",
    "Classes",
    "Dataset",
    "DatasetWriter",
    "LabelledSource",
    "Selection",
    "Split",
    "build",
    "folds",
    "save_split",
    "split",
]
