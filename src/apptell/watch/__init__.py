"""Watches verdicts over time for signs that a model is outdated, without labels."""

from apptell.watch.drift import AppDrift, DriftReport, measure_drift
from apptell.watch.observations import Observations

__all__ = ["AppDrift", "DriftReport", "Observations", "measure_drift"]
