"""Verdicts over time in; what they say of the model, without labels, out."""

from apptell.watch.drift import AppDrift, DriftReport, measure_drift
from apptell.watch.observations import Observations

__all__ = ["AppDrift", "DriftReport", "Observations", "measure_drift"]
