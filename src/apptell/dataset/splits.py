"""Flows and the name of a protocol enter; rows for training and rows for testing leave.

The unit is the connection: all parts into which the 90 s rule cut it stay on one side, under every
protocol. Protocols are those of the evaluation method: a random split flatters, the others leave a whole
source, session, device, network, day, version, capture point, registered domain or time out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset.groups import days, domains, group_names, group_values
from apptell.errors import DatasetError, UsageError
from apptell.files import new_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

PROTOCOLS: Final = (
    "paper", "session", "source", "device", "network", "day", "version", "time", "capture-point", "domain",
)  # fmt: skip
"""Names of protocols; ``group:COLUMN`` names any other group, ``time:DATE`` splits at that day."""
_NO_VALUE: Final = "(none)"
_MIXED: Final = 1.0
"""How much chance has a say in the order of units, beside their size: a deviation of logarithms."""


@dataclass(frozen=True, slots=True)
class Split:
    """Two sides of some flows."""

    train: NDArray[np.int64]
    """Rows to learn from, ascending."""
    test: NDArray[np.int64]
    """Rows to measure on, ascending."""
    protocol: str
    """The protocol's name, or ``file`` for one given back."""
    optimistic: bool
    """True for the random split, under which one network is on both sides."""


def split(
    flows: FlowBatch,
    protocol: str | Path,
    *,
    test_share: float = 0.2,
    seed: int = 0,
    level: str = "app",
) -> Split:
    """One division of flows into train and test.

    Args:
        flows: with the groups core and labels (and names for ``domain``).
        protocol: one of PROTOCOLS, ``group:COLUMN``, ``time:DATE`` (ISO 8601, UTC: what began before
            it trains, the rest tests), or the path of a file that ``save_split`` wrote, which gives
            back exactly that split.
        test_share: share of the flows to test on, as near as whole units allow.
        seed: of the choice; ``time`` needs none.
        level: ``app`` or ``activity``: whose shares are kept alike on both sides.

    Raises:
        DatasetError: the flows have no such group or only one value of it, or the file does not fit.
        UsageError: no such protocol, or a share that is not between 0 and 1.
    """
    if not 0 < test_share < 1:
        raise UsageError(f"test share {test_share}: must lie between 0 and 1")
    if isinstance(protocol, Path) or protocol.endswith((".jsonl", ".json")):
        return _from_file(flows, Path(protocol))
    _check(protocol)
    if protocol.startswith("time:"):
        return _two_sides(_unit_starts(flows) >= _date_ns(protocol), protocol)
    if protocol == "time":
        start = _unit_starts(flows)
        cut = np.sort(start)[min(len(start) - 1, int(np.ceil(len(start) * (1 - test_share))))]
        return _two_sides(start >= cut, protocol)
    group = _units(flows, protocol)
    side = _assign(
        group, _labels(flows, level), np.array([1 - test_share, test_share]), seed, protocol
    )
    return _two_sides(side == 1, protocol)


def folds(
    flows: FlowBatch, protocol: str, n_folds: int = 5, seed: int = 0, level: str = "app"
) -> list[Split]:
    """Splits whose test sides do not overlap; under all protocols but ``time`` they cover every flow.

    Under ``time`` the flows are cut into ``n_folds + 1`` stretches of as many flows, and fold i learns from
    the first i and is tested on the next. ``time:DATE`` gives one split. With fewer groups than folds there
    are as many folds as groups.

    Raises:
        DatasetError: the flows have no such group or only one value of it.
        UsageError: no such protocol, or fewer than two folds.
    """
    if n_folds < 2:
        raise UsageError(f"{n_folds} folds: at least two are needed")
    _check(protocol)
    if protocol.startswith("time:"):
        return [split(flows, protocol)]
    if protocol == "time":
        start = _unit_starts(flows)
        edges = np.sort(start)[np.arange(1, n_folds + 1) * len(start) // (n_folds + 1)]
        block = np.searchsorted(edges, start, side="right")
        return [
            Split(np.flatnonzero(block < i), np.flatnonzero(block == i), protocol, optimistic=False)
            for i in range(1, n_folds + 1)
            if (block < i).any() and (block == i).any()
        ]
    group = _units(flows, protocol)
    n_used = min(n_folds, len(np.unique(group)))
    side = _assign(group, _labels(flows, level), np.full(n_used, 1 / n_used), seed, protocol)
    return [_two_sides(side == i, protocol) for i in range(n_used)]


def save_split(split: Split, flows: FlowBatch, path: str | Path) -> None:
    """Writes a split as JSON lines of connection_id, part, capture and side (``train`` or ``test``).

    Args:
        split: rows of ``flows``.
        flows: the flows that were split.
        path: the file; written whole or not at all.
    """
    keys = _keys(flows)
    with new_file(Path(path)) as file:
        for side, rows in (("train", split.train), ("test", split.test)):
            for row in rows:
                connection, part, capture = keys[row]
                record = {
                    "connection_id": str(connection),  # JSON's numbers are exact to 53 bits
                    "part": part,
                    "capture": capture,
                    "side": side,
                }
                file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def training_rows(flows: FlowBatch, path: Path) -> NDArray[np.bool_]:
    """Whether each flow is on the training side of a file of splits, shape (n,); False for others.

    Raises:
        DatasetError: the file cannot be read, or is none of splits.
    """
    learned = {key for key, side in _lines(path) if side == "train"}
    return np.array([key in learned for key in _keys(flows)], dtype=bool)


def _lines(path: Path) -> Iterator[tuple[tuple[int, int, str], str]]:
    """The key and the side of each line of a file of splits."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                    key = (
                        int(record["connection_id"]),
                        int(record["part"]),
                        str(record["capture"]),
                    )
                    side = {"train": "train", "test": "test"}[record["side"]]
                except (ValueError, KeyError, TypeError) as error:
                    raise DatasetError(f"{path}: line {number} is not a line of a split") from error
                yield key, side
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error


def _from_file(flows: FlowBatch, path: Path) -> Split:
    rows: dict[tuple[int, int, str], list[int]] = {}
    for row, key in enumerate(_keys(flows)):
        rows.setdefault(key, []).append(row)
    sides: dict[str, list[int]] = {"train": [], "test": []}
    seen: dict[tuple[int, int, str], str] = {}
    for number, (key, side) in enumerate(_lines(path), 1):
        if key not in rows:
            raise DatasetError(
                f"{path}: line {number}: the dataset has no flow {key}; another dataset's split?"
            )
        if seen.setdefault(key, side) != side:
            raise DatasetError(f"{path}: line {number}: flow {key} is on both sides")
        if rows[key]:
            sides[side] += rows.pop(key)
            rows[key] = []
    train, test = (np.sort(np.array(sides[side], dtype=np.int64)) for side in ("train", "test"))
    connection = _connections(flows)
    cut = np.intersect1d(connection[train], connection[test])
    if len(cut := cut[cut > 0]):
        raise DatasetError(
            f"{path}: connection {cut[0]} is on both sides; its parts tell each other's app"
        )
    return Split(train, test, "file", optimistic=False)


def _keys(flows: FlowBatch) -> list[tuple[int, int, str]]:
    columns = (flows.column(name).to_pylist() for name in ("connection_id", "part", "capture"))
    return [(c or 0, p or 0, name or "") for c, p, name in zip(*columns, strict=True)]


def _check(protocol: str) -> None:
    if protocol not in PROTOCOLS and not protocol.startswith(("group:", "time:")):
        raise UsageError(
            f"no protocol {protocol!r}; there are {', '.join(PROTOCOLS)}, time:DATE and group:COLUMN"
        )


def _date_ns(protocol: str) -> int:
    """The time that ``time:DATE`` names, ns since 1970 UTC."""
    try:
        date = datetime.fromisoformat(protocol.removeprefix("time:"))
    except ValueError as error:
        raise UsageError(f"protocol {protocol!r}: {error}") from error
    date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
    return round(date.timestamp()) * 1_000_000_000


def _units(flows: FlowBatch, protocol: str) -> NDArray[np.int64]:
    """The unit of every flow, 0 ... k - 1: what the protocol keeps together, and whole connections."""
    if not len(flows):
        raise DatasetError("dataset: no flows to split")
    connection = np.unique(_connections(flows), return_inverse=True)[1].astype(np.int64)
    if protocol == "paper":
        return connection
    values = _values(flows, protocol)
    names = np.array([_NO_VALUE if value is None else str(value) for value in values], dtype=object)
    group = np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64)
    unit = _connect(group, connection)
    if unit.max() == 0:
        raise DatasetError(
            f"dataset: protocol {protocol} needs at least two values that share no connection, and there is "
            f"{len(np.unique(group))} ({names[0]})"
        )
    return unit


def _values(flows: FlowBatch, protocol: str) -> NDArray[Any]:
    if protocol == "domain":
        return domains(flows)
    name = protocol.removeprefix("group:").replace("-", "_")
    values = group_values(flows, name)
    if protocol == "day":
        known = np.array([value is not None for value in values])
        return np.where(known, values, days(flows))
    if all(value is None for value in values):
        there = ", ".join(group_names(flows)) or "none"
        raise DatasetError(
            f"dataset: no flow has the group {name!r}; groups that are there: {there}"
        )
    return values


def _connections(flows: FlowBatch) -> NDArray[np.uint64]:
    return np.asarray(flows.column("connection_id").fill_null(0).to_numpy(), dtype=np.uint64)


def _connect(group: NDArray[np.int64], connection: NDArray[np.int64]) -> NDArray[np.int64]:
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


def _unit_starts(flows: FlowBatch) -> NDArray[np.int64]:
    """The time at which each flow's connection began, shape (n,), ns."""
    if not len(flows):
        raise DatasetError("dataset: no flows to split")
    start = flows.numpy("start_ns").astype(np.int64)
    connection = np.unique(_connections(flows), return_inverse=True)[1]
    first = np.full(connection.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, connection, start)
    return np.asarray(first[connection])


def _labels(flows: FlowBatch, level: str) -> NDArray[np.int64]:
    """A number per label at the level asked for, shape (n,)."""
    if level not in ("app", "activity"):
        raise UsageError(f"no level {level!r}; there are app and activity")
    labels = flows.column("label").to_pylist()
    names = [
        "" if label is None else label.split("/", 1)[0] if level == "app" else label
        for label in labels
    ]
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def _assign(
    unit: NDArray[np.int64],
    label: NDArray[np.int64],
    shares: NDArray[np.float64],
    seed: int,
    protocol: str,
) -> NDArray[np.int64]:
    """The side of every flow: whole units, each label's share on each side as near as can be.

    Units go to the side that lacks most of what they bring, one after the other: under seed 0 the largest
    first, which divides evenest; under any other in an order that chance has mixed.
    """
    n_units, n_labels = int(unit.max()) + 1, int(label.max()) + 1
    random = np.random.default_rng(seed)
    order = random.permutation(n_units)
    if protocol == "paper":
        # A connection has one label; no table of a million units by a hundred labels is needed.
        return _shuffle(label[np.unique(unit, return_index=True)[1]], order, shares)[unit]
    flat = np.bincount(unit * n_labels + label, minlength=n_units * n_labels)
    table = flat.reshape(n_units, n_labels).astype(np.float64)  # (units, labels)
    size = table.sum(axis=1)
    # By size alone every seed would divide units of unequal size alike, and several seeds would be one.
    turn = size * np.exp(random.normal(0, _MIXED, n_units)) if seed else size
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
        side = int(
            np.lexsort((-fill, -gain, n_have > 0 if len(shares) > 2 else np.zeros(len(shares))))[0]
        )
        side_of[at] = side
        have[side] += table[at]
        n_have[side] += size[at]
    if len(np.unique(side_of)) < len(shares):
        side_of[order[-1]] = int(np.argmin(n_have))
    return np.asarray(side_of[unit])


def _shuffle(
    label: NDArray[np.int64], order: NDArray[np.int64], shares: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The side of every connection, at random: each label's connections are dealt out by the shares."""
    main = label[order]
    by_label = np.argsort(main, kind="stable")
    place = np.zeros(len(order), dtype=np.int64)
    edges = np.cumsum(shares)[:-1]
    for block in np.split(by_label, np.flatnonzero(np.diff(main[by_label])) + 1):
        rank = (np.arange(len(block)) + 0.5) / len(block)
        place[order[block]] = np.searchsorted(edges, rank, side="right")
    return place


def _two_sides(is_test: NDArray[np.bool_], protocol: str) -> Split:
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    if not len(train) or not len(test):
        raise DatasetError(f"dataset: protocol {protocol} leaves one side empty; too few flows")
    return Split(train, test, protocol, protocol == "paper")
