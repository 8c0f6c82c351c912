"""Plans the folds of each seed, with folds of their training sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apptell.dataset.splits import Split, folds, method_of, split_bytes
from apptell.dataset.splits.methods import Elsewhere
from apptell.errors import DatasetError, UsageError
from apptell.experiments.labelled import split_of
from apptell.reports.report_files import write_report_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch


@dataclass(frozen=True, slots=True)
class Plan:
    """The folds of one seed."""

    seed: int
    splits: tuple[Split, ...]
    """Folds whose test sides do not overlap, or one split."""
    inner: tuple[tuple[Split, ...], ...] = ()
    """For each fold, splits of its training side, on which temperature and thresholds are chosen."""


def plan_seeds(
    flows: FlowBatch,
    name: str | Path,
    seeds: Sequence[int],
    *,
    n_folds: int = 5,
    n_inner: int = 0,
    level: str = "app",
    n_elsewhere: int = 0,
) -> list[Plan]:
    """The folds of every seed.

    Args:
        flows: all flows; those of another dataset for testing are last.
        name: a split, or a file that holds one.
        seeds: one plan each.
        n_folds: folds of a split; there are fewer where there are fewer groups.
        n_inner: folds within each training side of the first seed.
        level: ``app`` or ``activity``.
        n_elsewhere: flows of the other dataset; all others are then used for training.

    Raises:
        DatasetError: the flows have no such group, or the file does not fit.
        UsageError: there is no such split, or it has no test side.
    """
    if n_elsewhere:
        rows = np.arange(len(flows))
        whole = Split(rows[:-n_elsewhere], rows[-n_elsewhere:], Elsewhere.name, optimistic=False)
    plans = []
    for seed in seeds:
        if n_elsewhere:
            splits = [whole]
        elif Path(name).is_file():
            splits = [split_of(flows, name, seed, level)]
        else:
            splits = folds(flows, str(name), n_folds, seed, level)
        plans.append(plan_of(flows, splits, seed, n_inner if seed == seeds[0] else 0, level))
    return plans


def save_plans(plans: Sequence[Plan], flows: FlowBatch, folder: Path) -> None:
    """Writes every fold as a file, in a folder for each seed where there are several.

    Raises:
        OutputError: the folder cannot be written, or holds files of these names that are not a report's.
    """
    for plan in plans:
        place = folder / f"seed-{plan.seed}" if len(plans) > 1 else folder
        folds_of = enumerate(plan.splits, 1)
        files = {f"fold-{number}.jsonl": split_bytes(each, flows) for number, each in folds_of}
        write_report_files(place, files)


def plan_of(
    flows: FlowBatch, splits: Sequence[Split], seed: int, n_inner: int, level: str = "app"
) -> Plan:
    """The folds of a seed with ``n_inner`` folds within each training side; 0 for none.

    A training side is divided by its own split; where that has no units within it, by source, session or
    connection. Where its groups are too few to be parted, nothing is held out of any.
    """
    if not n_inner:
        return Plan(seed, tuple(splits))
    inner = []
    try:
        for each in splits:
            side = flows.take(each.train)
            parts = folds(side, method_of(each.method).within(side), n_inner, seed, level)
            inner.append(
                tuple(
                    replace(part, train=each.train[part.train], test=each.train[part.test])
                    for part in parts
                )
            )
    except DatasetError:
        return Plan(seed, tuple(splits))
    return Plan(seed, tuple(splits), tuple(inner))


def training_sides(plans: Sequence[Plan]) -> Iterator[NDArray[np.int64]]:
    """Every training side."""
    for plan in plans:
        yield from (split.train for split in splits_of(plan))


def splits_of(plan: Plan) -> Iterator[Split]:
    """Every split of a plan, those within the training sides last."""
    yield from plan.splits
    for inner in plan.inner:
        yield from inner


def check_plans(plans: Sequence[Plan]) -> None:
    """Refuses plans under which a flow would be tested twice, or no flow at all.

    Raises:
        UsageError: the splits of a plan overlap, or there are none.
    """
    if not plans or not all(plan.splits for plan in plans):
        raise UsageError("there is no split to compare on")
    for plan in plans:
        rows = np.concatenate([split.test for split in plan.splits])
        if len(np.unique(rows)) < len(rows):
            raise UsageError("the test sides of the splits overlap")
