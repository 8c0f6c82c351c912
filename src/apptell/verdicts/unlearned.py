"""Probabilities of learned apps and of being of none in; both as context weighs them, and apart again, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.verdicts.context import Scored

UNKNOWN_PRIOR: Final = 0.05
"""Share of flows that are taken to be of unlearned apps before anything is known of a client."""


def extended(
    probabilities: NDArray[np.float32],
    prior: NDArray[np.float64],
    share: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Probabilities and prior with a last column for unlearned apps; as they are without its shares."""
    if share is None:
        return probabilities, prior
    both = np.column_stack([(1 - share[:, None]) * probabilities, share]).astype(np.float32)
    return both, np.append((1 - UNKNOWN_PRIOR) * prior, UNKNOWN_PRIOR)


def with_context(
    scored: Scored, probabilities: NDArray[np.float32], others: NDArray[np.int32]
) -> Scored:
    """The flows with their weighed probabilities, the column of unlearned apps apart."""
    if scored.unknown_share is None:
        return scored._replace(probabilities=probabilities, context_flows=others)
    known = np.maximum(probabilities[:, :-1], 1e-9)
    return scored._replace(
        probabilities=(known / known.sum(axis=1, keepdims=True)).astype(np.float32),
        context_flows=others,
        unknown_share=probabilities[:, -1],
    )
