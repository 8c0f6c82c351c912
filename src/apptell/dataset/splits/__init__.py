"""Splits flows into training and test sides.

A split method is one class that defines its units and its groups for intervals. ``methods`` has those of
apptell; another distribution adds its own by an entry point of the group ``apptell.split_methods``.
"""

from __future__ import annotations

from apptell.dataset.splits.division import Split, folds, split
from apptell.dataset.splits.method import SplitMethod
from apptell.dataset.splits.registry import method_of, split_names
from apptell.dataset.splits.split_file import save_split, split_bytes, training_rows

__all__ = [
    "Split",
    "SplitMethod",
    "folds",
    "method_of",
    "save_split",
    "split",
    "split_bytes",
    "split_names",
    "training_rows",
]
