"""Labelled flows and a split's name in; the folds of each seed, with folds of their training sides, out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset.groups import days, domains, group_values, origins
from apptell.dataset.splits import Split, folds, save_split
from apptell.errors import DatasetError, UsageError
from apptell.experiments.labelled import NO_SPLIT, split_of
from apptell.files import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

FEWEST: Final = 8
"""Groups that an interval can be drawn from."""
ELSEWHERE: Final = "test"
"""The split whose test side is another dataset."""
_WITHOUT_GROUPS: Final = ("file", NO_SPLIT, ELSEWHERE)
"""Splits that leave no group out by name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The folds of one seed."""

    seed: int
    splits: tuple[Split, ...]
    """Folds whose test sides do not overlap, or one split."""
    inner: tuple[tuple[Split, ...], ...] = ()
    """Of each fold, splits of its training side: those that temperature and thresholds are chosen on."""


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
        flows: all flows; those of another dataset that is tested on stand last.
        name: a protocol, a file that holds a split, or ``none`` with ``n_elsewhere``.
        seeds: one plan each.
        n_folds: folds of a protocol; there are fewer where there are fewer groups.
        n_inner: folds within each training side of the first seed.
        level: ``app`` or ``activity``.
        n_elsewhere: flows of the other dataset; every other flow is then learned from.

    Raises:
        DatasetError: the flows have no such group, or the file does not fit.
        UsageError: no such protocol, or it leaves nothing to test on.
    """
    if n_elsewhere:
        rows = np.arange(len(flows))
        whole = Split(rows[:-n_elsewhere], rows[-n_elsewhere:], ELSEWHERE, optimistic=False)
    elif name == NO_SPLIT:
        raise UsageError(f"split {NO_SPLIT!r} leaves nothing to test on; give flows to test on")
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
        OutputError: the folder cannot be written.
    """
    for plan in plans:
        place = folder / f"seed-{plan.seed}" if len(plans) > 1 else folder
        make_folder(place)
        for number, each in enumerate(plan.splits, 1):
            save_split(each, flows, place / f"fold-{number}.jsonl")


def plan_of(
    flows: FlowBatch, splits: Sequence[Split], seed: int, n_inner: int, level: str = "app"
) -> Plan:
    """The folds of a seed with ``n_inner`` folds within each training side; 0 for none.

    A training side is parted by its own protocol; under a given file by source, session or capture.
    Where its groups are too few to be parted, nothing is held out of any.
    """
    if not n_inner:
        return Plan(seed, tuple(splits))
    inner = []
    try:
        for each in splits:
            side = flows.take(each.train)
            protocol = each.protocol
            if protocol in _WITHOUT_GROUPS or protocol.startswith("time:"):
                protocol = _usual_group(side)
            parts = folds(side, protocol, n_inner, seed, level)
            inner.append(
                tuple(
                    type(part)(
                        each.train[part.train], each.train[part.test], protocol, part.optimistic
                    )
                    for part in parts
                )
            )
    except DatasetError:
        return Plan(seed, tuple(splits))
    return Plan(seed, tuple(splits), tuple(inner))


def training_sides(plans: Sequence[Plan]) -> Iterator[NDArray[np.int64]]:
    """Every training side."""
    for plan in plans:
        yield from (split.train for split in plan.splits)
        yield from (split.train for inner in plan.inner for split in inner)


def check_plans(plans: Sequence[Plan]) -> None:
    """Refuses plans under which a flow would be tested twice, or none.

    Raises:
        UsageError: the splits of a plan overlap, or there are none.
    """
    if not plans or not all(plan.splits for plan in plans):
        raise UsageError("there is no split to compare on")
    for plan in plans:
        rows = np.concatenate([split.test for split in plan.splits])
        if len(np.unique(rows)) < len(rows):
            raise UsageError("the test sides of the splits overlap")


def interval_groups(flows: FlowBatch, protocol: str) -> NDArray[Any]:
    """The unit of each flow for intervals, shape (n,): what the protocol leaves out as one.

    Under ``paper``, ``time``, a file and another dataset: its source, else its session, else its capture.
    Where the protocol has fewer than FEWEST values (two versions of Android), no interval can be drawn from
    them: it is drawn from captures, and says how sure the figure is of these values, not of others.
    """
    capture = flows.numpy("capture")
    if protocol == "domain":
        values = domains(flows)
    elif protocol in ("paper", "time", *_WITHOUT_GROUPS) or protocol.startswith("time:"):
        return origins(flows)
    else:
        values = group_values(flows, protocol.removeprefix("group:").replace("-", "_"))
        if protocol == "day":
            known = np.array([value is not None for value in values])
            values = np.where(known, values, days(flows))
        if len(set(values.tolist())) < FEWEST <= len(set(capture.tolist())):
            values = capture
    return np.array([str(value or "(none)") for value in values])


def _usual_group(flows: FlowBatch) -> str:
    """The protocol that parts flows by source, else by session; at random where there is neither."""
    for name in ("source", "session"):
        if len({value for value in group_values(flows, name) if value is not None}) > 1:
            return name
    return "paper"
