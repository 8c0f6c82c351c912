"""Calls the callbacks that follow a training: at its beginning, on the way, and at its end or failure."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from apptell.evaluation import Evaluation
    from apptell.learning.progress import Progress, TrainingCallback


class Followed:
    """A training that callbacks follow."""

    def __init__(
        self,
        callbacks: Sequence[TrainingCallback],
        show: Callable[[float, str], None] | None,
    ) -> None:
        """``show`` gets the share done and words."""
        self._callbacks = callbacks
        self._show = show
        self.figures: dict[str, float] = {}

    @property
    def progress(self) -> Callable[[Progress], None] | None:
        """What a learner calls; None where nobody follows."""
        return self._step if self._callbacks or self._show is not None else None

    def measured(self, result: Evaluation) -> None:
        """Keeps the figures of the test side."""
        self.figures |= {
            "accuracy": float(result.scores.accuracy),
            "macro_f1": float(result.scores.macro_f1),
            "coverage": float(result.coverage),
            "accuracy_decided": float(result.at_threshold.accuracy),
        }

    def _step(self, state: Progress) -> None:
        if self._show is not None:
            words = f"epoch {state.epoch} of {state.epochs}, {state.remaining_s:.0f} s left"
            self._show(state.done, words)
        for callback in self._callbacks:
            callback.progress(state)


@contextmanager
def followed(
    callbacks: Sequence[TrainingCallback],
    settings: Mapping[str, Any],
    show: Callable[[float, str], None] | None,
) -> Iterator[Followed]:
    """A training inside the block; what it raises is told to the callbacks and raised again."""
    following = Followed(callbacks, show)
    began = time.monotonic()
    try:
        for callback in callbacks:
            callback.begin(settings)
        yield following
    except BaseException as error:
        for callback in callbacks:
            callback.fail(error)
        raise
    figures = {**following.figures, "seconds": round(time.monotonic() - began, 3)}
    for callback in callbacks:
        callback.end(figures)
