"""Verdicts for the tests of this folder."""

import numpy as np

from apptell.testing import flow_batch
from apptell.verdicts import VerdictBatch, decide

APPS = ["signal", "zoom"]


def verdicts(*confidences: float, threshold: float = 0.85) -> VerdictBatch:
    """One verdict on ``signal`` for each confidence."""
    table = np.array([[c, 1 - c] for c in confidences], np.float32).reshape(-1, 2)
    return decide(flow_batch(["signal"] * len(confidences)), table, APPS, threshold, "m@1")
