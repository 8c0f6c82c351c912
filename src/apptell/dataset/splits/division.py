"""Divides flows into training and test sides, with no connection on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.dataset.splits.method import SplitMethod, connection_numbers
from apptell.dataset.splits.methods import Given
from apptell.dataset.splits.registry import method_of
from apptell.dataset.splits.split_file import read_sides
from apptell.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.dataset.splits.method import Sides
    from apptell.flows.schema import FlowBatch

_FILE_SUFFIXES: Final = (".jsonl", ".json")


@dataclass(frozen=True, slots=True)
class Split:
    """Two sides of some flows."""

    train: NDArray[np.int64]
    """Rows to learn from, ascending."""
    test: NDArray[np.int64]
    """Rows to measure on, ascending; none under the split ``none``."""
    method: str
    """How the split is written: ``session``, ``time:2026-10-01``; ``file`` for one that was read back."""
    optimistic: bool
    """Whether one network may be on both sides."""

    def __repr__(self) -> str:
        return f"<Split {self.method}: {len(self.train):,} to train, {len(self.test):,} to test>"


def split(
    flows: FlowBatch,
    method: str | Path | SplitMethod,
    *,
    test_share: float = 0.2,
    seed: int = 0,
    level: str = "app",
) -> Split:
    """One division of flows into train and test.

    Args:
        flows: with the groups core and labels (and names for ``domain``).
        method: a split (see ``split_names``), a method, or the path of a file that ``save_split`` wrote,
            which gives back exactly that split.
        test_share: share of the flows to test on, as near as whole units allow.
        seed: seed of the random choice; splits by time do not use it.
        level: ``app`` or ``activity``: the labels whose shares are balanced between the sides.

    Raises:
        DatasetError: the flows have no such group or only one value of it, or the file does not fit.
        UsageError: there is no such split, or the share is not between 0 and 1.
    """
    if not 0 < test_share < 1:
        raise UsageError(f"test share {test_share} is not between 0 and 1")
    if isinstance(method, Path) or (isinstance(method, str) and method.endswith(_FILE_SUFFIXES)):
        return _checked(flows, Given(), read_sides(flows, Path(method)))
    chosen = method if isinstance(method, SplitMethod) else method_of(method)
    _refuse_none(flows)
    return _checked(flows, chosen, chosen.split(flows, test_share, seed, level))


def folds(
    flows: FlowBatch,
    method: str | SplitMethod,
    n_folds: int = 5,
    seed: int = 0,
    level: str = "app",
) -> list[Split]:
    """Splits whose test sides do not overlap; under all methods but those by time they cover every flow.

    Under ``time`` the flows are cut into ``n_folds + 1`` stretches of as many flows, and fold i learns from
    the first i and is tested on the next. ``time:DATE`` gives one split. With fewer groups than folds there
    are as many folds as groups.

    Raises:
        DatasetError: the flows have no such group or only one value of it.
        UsageError: there is no such split, it has no test side, or there are fewer than two folds.
    """
    if n_folds < 2:
        raise UsageError(f"{n_folds} folds are not 2 or more")
    chosen = method if isinstance(method, SplitMethod) else method_of(method)
    _refuse_none(flows)
    return [_checked(flows, chosen, sides) for sides in chosen.folds(flows, n_folds, seed, level)]


def _refuse_none(flows: FlowBatch) -> None:
    if not len(flows):
        raise DatasetError("there are no flows to split")


def _checked(flows: FlowBatch, method: SplitMethod, sides: Sides) -> Split:
    """Checks the sides of every method, and returns the split."""
    train, test = sides
    if not len(train) or (method.has_test_side and not len(test)):
        empty = "test" if len(train) else "training"
        raise DatasetError(
            f"the split {method.text!r} leaves the {empty} side empty; {method.why_empty(empty)}"
        )
    connection = connection_numbers(flows)
    cut = np.intersect1d(connection[train], connection[test])
    if len(cut):
        row = np.flatnonzero(connection == cut[0])[0]
        number = flows.column("connection_id")[int(row)].as_py()
        raise DatasetError(
            f"the split {method.text!r} has connection {number} on both sides; its parts tell each other's app"
        )
    return Split(train, test, method.text, method.is_optimistic)
