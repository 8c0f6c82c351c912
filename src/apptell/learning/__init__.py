"""Trains models on labelled flows; only this package and ``experiments`` use PyTorch or scikit-learn.

The names are loaded when they are first used, so that listing the models does not load a framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apptell.learning.estimators import AppClassifier, ByteClassifier
    from apptell.learning.forest import CalibratedForest, StatisticsForest
    from apptell.learning.model_training import train_model
    from apptell.learning.progress import Progress
    from apptell.learning.registry import (
        Hyperparameter,
        Recipe,
        TrainingOptions,
        all_recipes,
        recipe_of,
    )
    from apptell.learning.token_models import TokenFusion, TokenLinear

__all__ = [
    "AppClassifier",
    "ByteClassifier",
    "CalibratedForest",
    "Hyperparameter",
    "Progress",
    "Recipe",
    "StatisticsForest",
    "TokenFusion",
    "TokenLinear",
    "TrainingOptions",
    "all_recipes",
    "recipe_of",
    "train_model",
]

_HOME = {
    "AppClassifier": "estimators",
    "ByteClassifier": "estimators",
    "CalibratedForest": "forest",
    "Hyperparameter": "registry",
    "Progress": "progress",
    "Recipe": "registry",
    "StatisticsForest": "forest",
    "TokenFusion": "token_models",
    "TokenLinear": "token_models",
    "TrainingOptions": "registry",
    "all_recipes": "registry",
    "recipe_of": "registry",
    "train_model": "model_training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
