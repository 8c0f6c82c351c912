"""apptell identifies the app behind each network flow, even when the traffic is encrypted.

The public names are loaded when they are first used, so that ``import apptell`` is fast and never loads a
training framework. ``docs/reference/python.md`` describes each with an example.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from apptell._version import __version__
from apptell.errors import (
    ApptellError,
    CaptureError,
    CatalogueError,
    DatasetError,
    LabelError,
    MissingError,
    ModelError,
    OutputError,
    UsageError,
    needs_extra,
)

if TYPE_CHECKING:
    from apptell.dataset import Dataset, Selection
    from apptell.evaluation import Evaluation
    from apptell.experiments.audit import Audit, audit
    from apptell.experiments.compare import Comparison, compare
    from apptell.experiments.evaluate import EvaluatedModel, evaluate
    from apptell.experiments.learn import LearnedModel, learn
    from apptell.experiments.load_dataset import FlowArrays, load_dataset
    from apptell.experiments.train import TrainedModel, train
    from apptell.flows import FlowBatch, FlowOptions, FlowReader
    from apptell.learning import (
        AppClassifier,
        ByteClassifier,
        CalibratedForest,
        StatisticsForest,
        TokenFusion,
        TokenLinear,
    )
    from apptell.learning.progress import TrainingCallback
    from apptell.models import Model, load_model
    from apptell.names import read_flows
    from apptell.reasons import Explanation, explain
    from apptell.reports.plots import (
        plot_confusion,
        plot_coverage,
        plot_flow_image,
        plot_reliability,
        plot_sources,
        plot_timeline,
    )
    from apptell.verdicts import Verdict, VerdictBatch, identify, identify_flows
    from apptell.verdicts.verdict_frame import identify_table

__all__ = [
    "AppClassifier",
    "ApptellError",
    "Audit",
    "ByteClassifier",
    "CalibratedForest",
    "CaptureError",
    "CatalogueError",
    "Comparison",
    "Dataset",
    "DatasetError",
    "EvaluatedModel",
    "Evaluation",
    "Explanation",
    "FlowArrays",
    "FlowBatch",
    "FlowOptions",
    "FlowReader",
    "LabelError",
    "LearnedModel",
    "MissingError",
    "Model",
    "ModelError",
    "OutputError",
    "Selection",
    "StatisticsForest",
    "TokenFusion",
    "TokenLinear",
    "TrainedModel",
    "TrainingCallback",
    "UsageError",
    "Verdict",
    "VerdictBatch",
    "__version__",
    "audit",
    "compare",
    "evaluate",
    "explain",
    "identify",
    "identify_flows",
    "identify_table",
    "learn",
    "load_dataset",
    "load_model",
    "plot_confusion",
    "plot_coverage",
    "plot_flow_image",
    "plot_reliability",
    "plot_sources",
    "plot_timeline",
    "read_flows",
    "train",
]

_HOME = {
    "AppClassifier": "learning",
    "Audit": "experiments.audit",
    "ByteClassifier": "learning",
    "CalibratedForest": "learning",
    "Comparison": "experiments.compare",
    "Dataset": "dataset",
    "EvaluatedModel": "experiments.evaluate",
    "Evaluation": "evaluation",
    "Explanation": "reasons",
    "FlowArrays": "experiments.load_dataset",
    "FlowBatch": "flows",
    "FlowOptions": "flows",
    "FlowReader": "flows",
    "LearnedModel": "experiments.learn",
    "Model": "models",
    "Selection": "dataset",
    "StatisticsForest": "learning",
    "TokenFusion": "learning",
    "TokenLinear": "learning",
    "TrainedModel": "experiments.train",
    "TrainingCallback": "learning.progress",
    "Verdict": "verdicts",
    "VerdictBatch": "verdicts",
    "audit": "experiments.audit",
    "compare": "experiments.compare",
    "evaluate": "experiments.evaluate",
    "explain": "reasons",
    "identify": "verdicts",
    "identify_flows": "verdicts",
    "identify_table": "verdicts.verdict_frame",
    "learn": "experiments.learn",
    "load_dataset": "experiments.load_dataset",
    "load_model": "models",
    "plot_confusion": "reports.plots",
    "plot_coverage": "reports.plots",
    "plot_flow_image": "reports.plots",
    "plot_reliability": "reports.plots",
    "plot_sources": "reports.plots",
    "plot_timeline": "reports.plots",
    "read_flows": "names",
    "train": "experiments.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_extra("train", f"apptell.{name}"):
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
