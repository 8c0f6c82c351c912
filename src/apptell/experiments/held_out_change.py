"""Compares a model before and after an update on groups that neither learned from.

The groups of the kept rows are divided into folds. For each fold, one model learns from the other folds, and
one from the other folds and the new rows; both are asked about the fold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import DatasetError
from apptell.learning.model_fitting import fit, from_rows
from apptell.models.training_rows import TrainingRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from apptell.learning.task import Task

N_FOLDS: Final = 3
MOST_LOST: Final = 0.02
"""Recall that an app may lose in an update ..."""
LEAST_LOST: Final = 2
"""... and flows: a loss of so few is chance."""


@dataclass(frozen=True, slots=True)
class AppChange:
    """One app on held-out rows."""

    app: str
    flows: int
    """Kept rows of the app, or new ones where it is new."""
    before: float | None
    """Share of them that the old model gives to the app; None for a new one."""
    after: float
    """The same of the updated model."""
    named_after: int
    """Rows of other apps that the updated model gives to this one."""

    @property
    def is_lost(self) -> bool:
        """Whether it loses more than it may."""
        if self.before is None:
            return False
        loss = self.before - self.after
        return loss > MOST_LOST and round(loss * self.flows) > LEAST_LOST

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "app": self.app,
            "flows": self.flows,
            "before": None if self.before is None else round(self.before, 4),
            "after": round(self.after, 4),
            "named_after": self.named_after,
            "lost": self.is_lost,
        }


def compare_held_out(
    task: Task,
    old: TrainingRows,
    new: TrainingRows,
    *,
    show: Callable[[float, str], None] | None = None,
) -> list[AppChange]:
    """Every app before and after, apps of the old model first.

    Args:
        task: the model.
        old: what it learned from.
        new: what it is to learn as well.
        show: called with the share done, 0 to 1, and words.

    Raises:
        DatasetError: the old rows are of one group, so that none can be held out.
    """
    folds, new_folds = _folds(old.groups, task.seed), _folds(new.groups, task.seed)
    if folds.max(initial=0) < 1:
        raise DatasetError("the kept rows are of one network or session, so none can be held out")
    before = np.full(len(old), "", dtype=object)
    after = np.full(len(old), "", dtype=object)
    found = np.full(len(new), "", dtype=object)
    n_folds = int(folds.max()) + 1
    for number in range(n_folds):
        if show is not None:
            show(number / n_folds, f"before and after, {number + 1} of {n_folds}")
        rest, own = np.flatnonzero(folds != number), np.flatnonzero(folds == number)
        learned = old.take(rest)
        more = new.take(np.flatnonzero(new_folds != number))
        before[own] = _asked(task, learned, old.take(own))
        both = TrainingRows.concat([learned, more])
        tested = np.flatnonzero(new_folds == number)
        said = _asked(task, both, TrainingRows.concat([old.take(own), new.take(tested)]))
        after[own], found[tested] = said[: len(own)], said[len(own) :]
    return _by_app(old, new, before, after, found)


def _asked(task: Task, learned: TrainingRows, asked: TrainingRows) -> NDArray[Any]:
    """The app that a model of some rows gives to others, objects, shape (n,)."""
    if not len(asked) or len(np.unique(learned.apps)) < 2:
        return np.full(len(asked), "", dtype=object)
    learner = fit(task.learner(), task, from_rows(learned))
    inputs = asked.inputs[:, 0] if asked.encoded.views else asked.inputs
    place = np.asarray(learner.predict_proba(inputs)).argmax(axis=1)
    names: NDArray[Any] = np.asarray(learner.classes_, dtype=object)
    return np.asarray(names[place], dtype=object)


def _folds(groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The fold of each row: whole groups, folds of about the same size."""
    size = np.bincount(groups) if len(groups) else np.zeros(1, dtype=np.int64)
    order = np.random.default_rng(seed).permutation(len(size))
    order = order[np.argsort(-size[order], kind="stable")]
    filled, fold_of = np.zeros(N_FOLDS), np.zeros(len(size), dtype=np.int64)
    for each in order:
        fold_of[each] = int(filled.argmin())
        filled[fold_of[each]] += max(int(size[each]), 1)
    return np.asarray(fold_of[groups], dtype=np.int64)


def _by_app(
    old: TrainingRows,
    new: TrainingRows,
    before: NDArray[Any],
    after: NDArray[Any],
    found: NDArray[Any],
) -> list[AppChange]:
    changes = []
    known = sorted(set(old.apps.tolist()))
    others = sorted(set(new.apps.tolist()) - set(known))
    for app in [*known, *others]:
        own = old.apps == app if app in known else new.apps == app
        said = after if app in known else found
        wrong = int(((after == app) & (old.apps != app)).sum())
        changes.append(
            AppChange(
                app,
                int(own.sum()),
                float((before[own] == app).mean()) if app in known else None,
                float((said[own] == app).mean()),
                wrong,
            )
        )
    return changes
