"""Reads model folders and computes probabilities of flows, without a training framework."""

from apptell.models.model import DEFAULT_MODEL, Model, load_model
from apptell.models.model_folder import (
    check_target,
    read_forest,
    read_model,
    read_rows,
    read_unknown,
    write_model,
)
from apptell.models.session import end_runs_by

__all__ = [
    "DEFAULT_MODEL",
    "Model",
    "check_target",
    "end_runs_by",
    "load_model",
    "read_forest",
    "read_model",
    "read_rows",
    "read_unknown",
    "write_model",
]
