"""Adds unknown apps and new TLS fingerprints to verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.errors import UsageError
from apptell.flows.plain_columns import Coded, Masked
from apptell.verdicts.context import reweigh_all
from apptell.verdicts.schema import KNOWN_STACK, NEW_STACK, OUTCOMES, UNKNOWN
from apptell.verdicts.unlearned import extended

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.models import Model
    from apptell.verdicts.context import ContextOptions


def check_rate(rate: float | str | None, model: Model | None) -> None:
    """Refuses a rate of unknown verdicts that cannot be kept.

    Args:
        rate: share of flows of known apps that may be called unknown; None for no unknown verdicts.
        model: the model that decides.

    Raises:
        UsageError: the rate is a text or not between 0 and 1, there is no model, or it was not trained for
            this.
    """
    if rate is None:
        return
    if isinstance(rate, str) or not 0 < rate < 1:
        raise UsageError(f"rate {rate!r} is not a number above 0 and below 1")
    if model is None:
        raise UsageError(
            "unknown apps are recognised by a model: give one that was trained for it",
            argument="model",
        )
    model.require_unknown()


def with_unknown(
    columns: Mapping[str, Any], p_unknown: NDArray[np.float32], cutoff: float
) -> dict[str, Any]:
    """The columns of a model's verdicts, where unusual flows are unknown instead of named or declined.

    Args:
        columns: those of ``decide``.
        p_unknown: how unusual each flow is, shape (n,).
        cutoff: the smallest value that is called unknown.
    """
    is_unknown = p_unknown >= np.float32(cutoff)
    outcome = columns["outcome"]
    return {
        **columns,
        "app": columns["app"].where(~is_unknown),
        "evidence": columns["evidence"].where(~is_unknown),
        "outcome": Coded(np.where(is_unknown, OUTCOMES.index(UNKNOWN), outcome.codes), OUTCOMES),
        "p_unknown": Masked(p_unknown, np.zeros(len(p_unknown), dtype=bool)),
    }


def stacks(flows: FlowBatch, model: Model | None) -> Coded | None:
    """Whether a model learned from flows with each flow's JA4, null if it has none; None if that is unknown."""
    if model is None or model.known_ja4 is None or not flows.has("ja4"):
        return None
    words = Coded(model.is_new_stack(flows).astype(np.int8), (KNOWN_STACK, NEW_STACK))
    return words.where(flows.is_there("ja4"))


def unknown_in_context(
    probabilities: NDArray[np.float32],
    share: NDArray[np.float32],
    keys: Iterable[Any],
    times_ns: NDArray[np.int64],
    prior: NDArray[np.float64],
    options: ContextOptions,
) -> NDArray[np.float32]:
    """The probability that each flow is of an unlearned app, by its client's other flows too, shape (n,).

    Args:
        probabilities: of learned apps, shape (n, k).
        share: probability that each flow by itself is of an unlearned app, shape (n,).
        keys: whose each flow is.
        times_ns: of each flow, shape (n,).
        prior: how common each app was in the training, shape (k,).
        options: how.
    """
    both, prior = extended(probabilities, prior, share)
    return reweigh_all(keys, times_ns, both, prior, options)[0][:, -1]
