"""Labelled flows in, trained models out; the only room that imports PyTorch or scikit-learn.

The names are loaded when they are asked for, so that listing the models loads no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apptell.learning.estimators import AppClassifier
    from apptell.learning.forest import StatisticsForest
    from apptell.learning.progress import Progress
    from apptell.learning.registry import Recipe, all_recipes, recipe_of
    from apptell.learning.train import train_model

__all__ = [
    "AppClassifier",
    "Progress",
    "Recipe",
    "StatisticsForest",
    "all_recipes",
    "recipe_of",
    "train_model",
]

_HOME = {
    "AppClassifier": "estimators",
    "Progress": "progress",
    "Recipe": "registry",
    "StatisticsForest": "forest",
    "recipe_of": "registry",
    "all_recipes": "registry",
    "train_model": "train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
