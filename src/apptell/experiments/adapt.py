"""Selects new, unlabelled flows that a model can be retrained on.

Apps change, and a model becomes outdated. Verdicts with context are better than those on single flows,
because a phone runs few apps at a time. The confident ones are used to train the next model (self-training).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.verdicts.context import ContextOptions, reweigh_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SURE: Final = 0.9
"""Minimum confidence with context of a selected flow."""


def adapt(
    probabilities: NDArray[np.float32],
    prior: NDArray[np.float64],
    clients: Sequence[Any],
    times_ns: NDArray[np.int64],
    options: ContextOptions | None = None,
    sure: float = SURE,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Selects the new flows whose app is clear in the context of their client.

    Args:
        probabilities: calibrated, of the new flows by the old model, shape (n, k).
        prior: frequency of each app in its training data, shape (k,).
        clients: whose each flow is, n of them.
        times_ns: of each flow, shape (n,).
        options: the context; default: 30 s on both sides.
        sure: minimum confidence of a selected flow.

    Returns:
        Rows of the selected flows, ascending, and the app number of each.
    """
    window = options or ContextOptions(30.0, both_sides=True)
    found, _ = reweigh_all(clients, times_ns, probabilities, prior, window)
    kept = np.flatnonzero(found.max(axis=1) >= sure)
    return kept, found[kept].argmax(axis=1)
