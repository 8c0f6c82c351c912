"""A model's probabilities on new flows without labels in, flows and apps worth learning from out.

Apps change, and a model with them falls behind. Context knows better than the flow alone (a phone runs
few apps at a time), so what it is sure of teaches the next model: self-training on window verdicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.verdicts.context import ContextOptions, reweigh_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SURE: Final = 0.9
"""Confidence with context from which a flow is taken in."""


def adapt(
    probabilities: NDArray[np.float32],
    prior: NDArray[np.float64],
    clients: Sequence[Any],
    times_ns: NDArray[np.int64],
    options: ContextOptions | None = None,
    sure: float = SURE,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The new flows whose app is clear from what their client runs.

    Args:
        probabilities: calibrated, of the new flows by the old model, shape (n, k).
        prior: how common each app was in its training, shape (k,).
        clients: whose each flow is, n of them.
        times_ns: of each flow, shape (n,).
        options: the context; 30 s on both sides unless given.
        sure: confidence from which a flow is taken.

    Returns:
        Rows of the flows that are taken, ascending, and the app number of each.
    """
    window = options or ContextOptions(30.0, both_sides=True)
    found, _ = reweigh_all(clients, times_ns, probabilities, prior, window)
    kept = np.flatnonzero(found.max(axis=1) >= sure)
    return kept, found[kept].argmax(axis=1)
