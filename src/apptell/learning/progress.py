"""How far a training has come: what a progress callback gets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A training, as it stands."""

    done: float
    """Share of the whole work, 0 to 1."""
    epoch: int
    """The epoch under way or just finished, from 1."""
    epochs: int
    """Epochs in all."""
    loss: float | None
    """Mean training loss of the last finished epoch."""
    validation_accuracy: float | None
    """Accuracy on the validation share after the last finished epoch, if there is one."""
    flows_per_s: float
    """Training speed so far."""
    remaining_s: float
    """What is left at this speed, seconds."""
