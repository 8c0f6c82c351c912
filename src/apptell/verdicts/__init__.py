"""Combines evidence and models into verdicts: threshold, calibration, context, and the one pipeline."""

from __future__ import annotations

from apptell.models.temperature import calibrate
from apptell.verdicts.calibration import fit_temperature, threshold_for_precision
from apptell.verdicts.context import Context, ContextOptions, RollingContext, WholeContext
from apptell.verdicts.decide import decide
from apptell.verdicts.deciders import Deciders, choose_deciders
from apptell.verdicts.evidence import Evidence, EvidenceOptions
from apptell.verdicts.one_by_one import identify
from apptell.verdicts.pipeline import (
    DEFAULT_THRESHOLD,
    check_threshold,
    choose_threshold,
    flows_and_verdicts,
    identify_flows,
    whole_context,
)
from apptell.verdicts.schema import OTHER, OUTCOMES, SCHEMA, SCHEMA_VERSION, Verdict, VerdictBatch
from apptell.verdicts.stored_flows import find_dataset, stored_batches, stored_evidence

__all__ = [
    "DEFAULT_THRESHOLD",
    "OTHER",
    "OUTCOMES",
    "SCHEMA",
    "SCHEMA_VERSION",
    "Context",
    "ContextOptions",
    "Deciders",
    "Evidence",
    "EvidenceOptions",
    "RollingContext",
    "Verdict",
    "VerdictBatch",
    "WholeContext",
    "calibrate",
    "check_threshold",
    "choose_deciders",
    "choose_threshold",
    "decide",
    "find_dataset",
    "fit_temperature",
    "flows_and_verdicts",
    "identify",
    "identify_flows",
    "stored_batches",
    "stored_evidence",
    "threshold_for_precision",
    "whole_context",
]
