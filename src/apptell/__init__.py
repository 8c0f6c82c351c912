"""apptell tells which app made each flow of a phone's network traffic, also when it is encrypted.

The public names are loaded when they are asked for, so that ``import apptell`` costs next to nothing
and never loads a training framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from apptell._version import __version__
from apptell.errors import (
    ApptellError,
    CaptureError,
    DatasetError,
    LabelError,
    MissingError,
    ModelError,
    OutputError,
    UsageError,
)

if TYPE_CHECKING:
    from apptell.dataset import Dataset
    from apptell.evaluation import evaluate
    from apptell.flows import FlowBatch, FlowOptions, FlowReader
    from apptell.learning import AppClassifier, StatisticsForest, train_model
    from apptell.models import Model, load_model
    from apptell.names import read_flows
    from apptell.verdicts import Verdict, VerdictBatch, identify, identify_flows

__all__ = [
    "AppClassifier",
    "ApptellError",
    "CaptureError",
    "Dataset",
    "DatasetError",
    "FlowBatch",
    "FlowOptions",
    "FlowReader",
    "LabelError",
    "MissingError",
    "Model",
    "ModelError",
    "OutputError",
    "StatisticsForest",
    "UsageError",
    "Verdict",
    "VerdictBatch",
    "__version__",
    "evaluate",
    "identify",
    "identify_flows",
    "load_model",
    "read_flows",
    "train_model",
]

_HOME = {
    "AppClassifier": "learning",
    "Dataset": "dataset",
    "FlowBatch": "flows",
    "FlowOptions": "flows",
    "FlowReader": "flows",
    "Model": "models",
    "StatisticsForest": "learning",
    "Verdict": "verdicts",
    "VerdictBatch": "verdicts",
    "evaluate": "evaluation",
    "identify": "verdicts",
    "identify_flows": "verdicts",
    "load_model": "models",
    "read_flows": "names",
    "train_model": "learning",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(__name__):
            raise
        raise MissingError(
            f"apptell.{name} needs {error.name}, which is not installed: "
            "pip install 'apptell[train]'"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
