"""The state of a training, as progress callbacks receive it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a training."""

    done: float
    """Share of the whole work, 0 to 1."""
    epoch: int
    """The current or last finished epoch, from 1."""
    epochs: int
    """Total number of epochs."""
    loss: float | None
    """Mean training loss of the last finished epoch."""
    validation_accuracy: float | None
    """Accuracy on the validation share after the last finished epoch, if there is one."""
    flows_per_s: float
    """Training speed so far."""
    remaining_s: float
    """Remaining time at this speed, seconds."""
