"""What callbacks receive of a training: its settings, its state, and its figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


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


class TrainingCallback:
    """Follows a training that ``apptell.train(..., callbacks=[...])`` does. A subclass overrides what it needs.

    The methods are called in the thread of the training. What they raise ends the training.

    Example:
        >>> class Losses(apptell.TrainingCallback):
        ...     def __init__(self):
        ...         self.values = {}
        ...     def progress(self, state):
        ...         self.values[state.epoch] = state.loss
        >>> losses = Losses()
        >>> trained = apptell.train("dataset/", "paper-cnn", split="source", epochs=2, callbacks=[losses])
        >>> sorted(losses.values)
        [1, 2]
    """

    def begin(self, settings: Mapping[str, Any]) -> None:
        """The training begins.

        Args:
            settings: ``model``, ``dataset``, ``dataset_hash``, ``split``, ``seed``, ``epochs``, ``level``,
                ``learned_flows``, ``measured_flows``, ``apps``, and the hyperparameters by name. Values are
                text and numbers.
        """

    def progress(self, state: Progress) -> None:
        """About twice a second, and after every epoch, by models that learn in passes."""

    def end(self, figures: Mapping[str, float]) -> None:
        """The training ended, and its model was measured.

        Args:
            figures: ``accuracy``, ``macro_f1``, ``coverage`` and ``accuracy_decided`` on the test side, each a
                share of 1, and ``seconds``; only ``seconds`` if nothing was measured.
        """

    def fail(self, error: BaseException) -> None:
        """The training ended without a model: an error, or the user's interruption."""
