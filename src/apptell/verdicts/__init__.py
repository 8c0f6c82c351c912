"""Probabilities in, verdicts out: threshold, calibration, and the one identification pipeline."""

from __future__ import annotations

from apptell.verdicts.calibration import (
    calibrate,
    fit_temperature,
    threshold_for_precision,
)
from apptell.verdicts.context import Context, ContextOptions, RollingContext, WholeContext
from apptell.verdicts.decide import decide
from apptell.verdicts.pipeline import (
    DEFAULT_THRESHOLD,
    choose_threshold,
    identify,
    identify_flows,
    whole_context,
)
from apptell.verdicts.schema import OTHER, OUTCOMES, SCHEMA, SCHEMA_VERSION, Verdict, VerdictBatch

__all__ = [
    "DEFAULT_THRESHOLD",
    "OTHER",
    "OUTCOMES",
    "SCHEMA",
    "SCHEMA_VERSION",
    "Context",
    "ContextOptions",
    "RollingContext",
    "Verdict",
    "VerdictBatch",
    "WholeContext",
    "calibrate",
    "choose_threshold",
    "decide",
    "fit_temperature",
    "identify",
    "identify_flows",
    "threshold_for_precision",
    "whole_context",
]
