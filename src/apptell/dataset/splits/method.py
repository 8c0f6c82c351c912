"""Base class of split methods, and what they share.

A method is one class that defines its units: a value for each flow; flows with the same value stay together.
Whole connections always stay together: their parts, into which the idle timeout cut them, and their later
    views share a ``connection_id``, and reveal each other's app.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from apptell.dataset.groups import origins
from apptell.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

    Sides = tuple[NDArray[np.int64], NDArray[np.int64]]
    """Rows to learn from, and rows to measure on; both ascending."""

FEWEST_GROUPS: Final = 8
"""Groups that an interval can be drawn from."""
_NO_VALUE: Final = "(none)"
_SIZE_NOISE: Final = 1.0
"""Weight of chance in the order of units, in addition to their size: a standard deviation of logarithms."""


class SplitMethod(ABC):
    """One way to divide flows into a side to learn from and a side to measure on."""

    name: ClassVar[str]
    """The name that users pass, such as ``session``."""
    argument_name: ClassVar[str | None] = None
    """The argument after the name and a colon, such as ``DATE``; None if there is none."""
    is_optimistic: ClassVar[bool] = False
    """Whether one network may be on both sides, which makes figures optimistic."""

    has_test_side: ClassVar[bool] = True
    """Whether there is anything to measure on."""

    def __init__(self, argument: str | None = None) -> None:
        """Raises UsageError if the argument is missing, or if none is allowed."""
        if (argument is None) != (self.argument_name is None):
            wanted = f"{self.name}:{self.argument_name}" if self.argument_name else self.name
            raise UsageError(f"the split {self.name!r} is written {wanted}")
        self.argument = argument

    @property
    def text(self) -> str:
        """How users write it: its name, with the argument where it takes one."""
        return self.name if self.argument is None else f"{self.name}:{self.argument}"

    @abstractmethod
    def units(self, flows: FlowBatch) -> NDArray[Any]:
        """What is kept together: a value for each flow, objects of shape (n,); None where it has none.

        Raises:
            DatasetError: the flows lack what the method divides by.
        """

    def interval_groups(self, flows: FlowBatch) -> NDArray[np.str_]:
        """The group of each flow that intervals are drawn from, shape (n,): what the method leaves out as one.

        Where the method has fewer than FEWEST_GROUPS values (two versions of Android), no interval can be
        drawn from them. It is then drawn from captures, and describes the uncertainty for these values, not
        for others.
        """
        values = self.units(flows)
        if len(set(values.tolist())) < FEWEST_GROUPS:
            captures = flows.numpy("capture")
            if len(set(captures.tolist())) >= FEWEST_GROUPS:
                values = captures
        return _texts(values)

    def why_empty(self, side: str) -> str:  # noqa: ARG002
        """Why no flow is on a side, ``training`` or ``test``."""
        return "there are too few flows"

    def within(self, flows: FlowBatch) -> SplitMethod:  # noqa: ARG002
        """The method that divides a training side again, where something is chosen on held-out flows."""
        return self

    def split(self, flows: FlowBatch, test_share: float, seed: int, level: str) -> Sides:
        """One division; ``test_share`` of the flows are tested on, as near as whole units allow."""
        shares = np.array([1 - test_share, test_share])
        side = self._assign(flows, shares, seed, level)
        return np.flatnonzero(side == 0), np.flatnonzero(side == 1)

    def folds(self, flows: FlowBatch, n_folds: int, seed: int, level: str) -> list[Sides]:
        """Divisions whose test sides do not overlap and cover every flow; fewer where there are fewer units."""
        unit = self._whole_units(flows)
        n_used = min(n_folds, int(unit.max()) + 1)
        side = self._assign(flows, np.full(n_used, 1 / n_used), seed, level, unit)
        return [(np.flatnonzero(side != i), np.flatnonzero(side == i)) for i in range(n_used)]

    def _assign(
        self,
        flows: FlowBatch,
        shares: NDArray[np.float64],
        seed: int,
        level: str,
        unit: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        unit = self._whole_units(flows) if unit is None else unit
        return assign(unit, label_numbers(flows, level), shares, seed)

    def _whole_units(self, flows: FlowBatch) -> NDArray[np.int64]:
        """The unit of every flow with whole connections, 0 ... k - 1."""
        units, connection = self.units(flows), connection_numbers(flows)
        values = _texts(units)
        group = np.unique(values, return_inverse=True)[1].astype(np.int64)
        # A row without a value has that of its connection: a later view need not repeat what the first said.
        known = np.array([value is not None for value in units], dtype=bool)
        of_connection = np.full(connection.max() + 1, -1)
        of_connection[connection[known]] = group[known]
        group = np.where(known | (of_connection[connection] < 0), group, of_connection[connection])
        unit = _join(group, connection)
        if unit.max() == 0:
            raise DatasetError(
                f"the split {self.text!r} needs at least two values that share no connection; the flows have "
                f"{len(np.unique(group))} ({values[0]})"
            )
        return unit


class SourceIntervals(SplitMethod):
    """A method that leaves no group out by name: intervals are drawn from where flows came from."""

    def interval_groups(self, flows: FlowBatch) -> NDArray[np.str_]:
        """The source of each flow, else its session, else its capture; shape (n,)."""
        return origins(flows)


def connection_numbers(flows: FlowBatch) -> NDArray[np.int64]:
    """A number for each flow's connection, 0 ... k - 1, shape (n,); flows without an id are one each."""
    column = flows.column("connection_id")
    ids = np.asarray(column.fill_null(0).to_numpy(), dtype=np.uint64)
    number = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    if column.null_count:
        unknown = np.flatnonzero(np.asarray(column.is_null()))
        number[unknown] = len(flows) + np.arange(len(unknown))
        number = np.unique(number, return_inverse=True)[1].astype(np.int64)
    return number


def label_numbers(flows: FlowBatch, level: str) -> NDArray[np.int64]:
    """A number per label at the level ``app`` or ``activity``, shape (n,)."""
    if level not in ("app", "activity"):
        raise UsageError(f"unknown level {level!r}; available: app, activity")
    labels = flows.column("label").to_pylist()
    names = [
        "" if label is None else label.split("/", 1)[0] if level == "app" else label
        for label in labels
    ]
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def assign(
    unit: NDArray[np.int64], label: NDArray[np.int64], shares: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """The side of every flow: whole units, each label's share on each side as near as can be.

    Units go to the side that lacks most of what they bring, one after the other: under seed 0 the largest
    first, which divides evenest; under any other in an order that chance has mixed.

    Args:
        unit: the unit of each flow, 0 ... k - 1, shape (n,).
        label: the label of each, shape (n,).
        shares: share of each side, shape (sides,), sum 1.
        seed: of the order.
    """
    n_units, n_labels = int(unit.max()) + 1, int(label.max()) + 1
    random = np.random.default_rng(seed)
    order = random.permutation(n_units)
    flat = np.bincount(unit * n_labels + label, minlength=n_units * n_labels)
    table = flat.reshape(n_units, n_labels).astype(np.float64)  # (units, labels)
    size = table.sum(axis=1)
    # By size only, every seed would divide units of unequal size alike, and several seeds would be one.
    turn = size * np.exp(random.normal(0, _SIZE_NOISE, n_units)) if seed else size
    order = order[np.argsort(-turn[order], kind="stable")]
    total = table.sum(axis=0)
    have = np.zeros((len(shares), n_labels))
    n_have = np.zeros(len(shares))
    side_of = np.zeros(n_units, dtype=np.int64)
    weight = 1 / np.maximum(total, 1)
    for at in order:
        lack = 1 - have / np.maximum(shares[:, None] * total, 1e-9)  # (sides, labels)
        gain = (lack * (table[at] * weight)).sum(axis=1) / max((table[at] * weight).sum(), 1e-9)
        # An empty side comes first, so that none stays empty while units are left.
        fill = 1 - n_have / (shares * size.sum())
        is_filled = n_have > 0 if len(shares) > 2 else np.zeros(len(shares))
        side = int(np.lexsort((-fill, -gain, is_filled))[0])
        side_of[at] = side
        have[side] += table[at]
        n_have[side] += size[at]
    if len(np.unique(side_of)) < len(shares):
        side_of[order[-1]] = int(np.argmin(n_have))
    return np.asarray(side_of[unit])


def deal_out(
    unit: NDArray[np.int64], label: NDArray[np.int64], shares: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """The side of every flow, by chance: the units of each label are dealt out by the shares.

    As ``assign``, for units that have one label each: no table of a million units by a hundred labels.
    """
    label_of = label[np.unique(unit, return_index=True)[1]]
    order = np.random.default_rng(seed).permutation(len(label_of))
    shuffled = label_of[order]
    by_label = np.argsort(shuffled, kind="stable")
    side_of = np.zeros(len(order), dtype=np.int64)
    edges = np.cumsum(shares)[:-1]
    for block in np.split(by_label, np.flatnonzero(np.diff(shuffled[by_label])) + 1):
        rank = (np.arange(len(block)) + 0.5) / len(block)
        side_of[order[block]] = np.searchsorted(edges, rank, side="right")
    return side_of[unit]


def _join(group: NDArray[np.int64], connection: NDArray[np.int64]) -> NDArray[np.int64]:
    """Joins groups that share a connection; the joined group of every flow, 0 ... k - 1.

    Each round gives every group the smallest number among the groups that its connections touch, until
    nothing changes: as many rounds as the longest chain of groups.
    """
    number = np.arange(group.max() + 1)
    while True:
        of_connection = np.full(connection.max() + 1, len(number), dtype=np.int64)
        np.minimum.at(of_connection, connection, number[group])
        smaller = number.copy()
        np.minimum.at(smaller, group, of_connection[connection])
        if np.array_equal(smaller, number):
            return np.unique(number[group], return_inverse=True)[1].astype(np.int64)
        number = smaller


def _texts(values: NDArray[Any]) -> NDArray[np.str_]:
    return np.array([_NO_VALUE if value is None else str(value) for value in values], dtype=np.str_)
