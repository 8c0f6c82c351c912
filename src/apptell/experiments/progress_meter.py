"""Measures the progress of several trainings, and estimates the remaining time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from apptell.learning.task import NEIGHBOUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from apptell.learning.progress import Progress
    from apptell.learning.task import Task

_PASS_S: Final = {"image": 7e-4, "payload": 4e-4}
"""Initial estimate of the seconds per flow in one pass of a network, by its inputs; corrected by finished
trainings.
"""
_ONCE_S: Final = 1e-3
"""The same for a model that is trained in a single pass."""
_LEAST_PART: Final = 0.01
"""Share of the first training before which its speed says nothing, because it is still being prepared."""


def estimated_work(task: Task, n_flows: int) -> float:
    """An estimate of a training's seconds on a small machine, by which progress is weighted."""
    if task.model == NEIGHBOUR:
        return 1e-5 * n_flows
    if task.inputs in _PASS_S:
        return _PASS_S[task.inputs] * n_flows * task.epochs
    return _ONCE_S * n_flows


class ProgressMeter:
    """The progress of several trainings.

    Trainings that were found in the cache count as done, but not for the speed.
    """

    def __init__(self, work: float, show: Callable[[float, str], None] | None) -> None:
        """``work`` is the sum of ``estimated_work`` all trainings; ``show`` gets the share done and words."""
        self._work = max(work, 1e-9)
        self._show = show
        self._done = self._trained = self._task = 0.0
        self._spent = 0.0
        self._began = time.monotonic()

    def watch(self, words: str, work: float) -> Callable[[Progress], None]:
        """A progress callback for the task that begins, of that much work."""
        self._task = work
        self._began = time.monotonic()
        self._say(0.0, words)
        return lambda state: self._say(state.done, f"{words}, epoch {state.epoch}")

    def finish(self, *, cached: bool = False) -> None:
        """The task under way is done."""
        if not cached:
            self._trained += self._task
            self._spent += time.monotonic() - self._began
        self._done += self._task
        self._task = 0.0
        self._say(0.0, "")

    @property
    def left_s(self) -> float | None:
        """Seconds that are left at the speed so far; None before a hundredth of a training is done."""
        return self._left(0.0)

    def _left(self, part: float) -> float | None:
        now = self._task * part
        if self._trained <= 0 and part < _LEAST_PART:
            return None
        spent = self._spent + (time.monotonic() - self._began if part else 0.0)
        return spent / (self._trained + now) * max(self._work - self._done - now, 0.0)

    def _say(self, part: float, words: str) -> None:
        if self._show is None:
            return
        done = min(1.0, (self._done + self._task * part) / self._work)
        left = self._left(part)
        left_words = [] if left is None else [f"about {duration_text(left)} left"]
        self._show(done, ", ".join([*([words] if words else []), *left_words]))


def duration_text(seconds: float) -> str:
    """A duration as text: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
