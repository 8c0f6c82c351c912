"""Reads and writes splits as JSON lines, one for each flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apptell.errors import DatasetError
from apptell.files import new_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from apptell.dataset.splits.division import Split
    from apptell.dataset.splits.method import Sides
    from apptell.flows.schema import FlowBatch

    Key = tuple[int, int, str]
    """A flow's connection, part and capture."""


def save_split(split: Split, flows: FlowBatch, path: str | Path) -> None:
    """Writes a split as JSON lines of connection_id, part, capture and side (``train`` or ``test``).

    Args:
        split: rows of ``flows``.
        flows: the flows that were split.
        path: the file; written whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with new_file(Path(path)) as file:
        file.writelines(_records(split, flows))


def split_bytes(split: Split, flows: FlowBatch) -> bytes:
    """The content of a split's file."""
    return b"".join(_records(split, flows))


def _records(split: Split, flows: FlowBatch) -> Iterator[bytes]:
    """A line for each flow of both sides."""
    keys = _keys(flows)
    for side, rows in (("train", split.train), ("test", split.test)):
        for row in rows:
            connection, part, capture = keys[row]
            record = {
                "connection_id": str(connection),  # JSON's numbers are exact to 53 bits
                "part": part,
                "capture": capture,
                "side": side,
            }
            yield json.dumps(record, ensure_ascii=False).encode() + b"\n"


def training_rows(flows: FlowBatch, path: Path) -> NDArray[np.bool_]:
    """Whether each flow is on the training side of a file of splits, shape (n,); False for others.

    Raises:
        DatasetError: the file cannot be read, or is none of splits.
    """
    learned = {key for key, side in _lines(path) if side == "train"}
    return np.array([key in learned for key in _keys(flows)], dtype=bool)


def read_sides(flows: FlowBatch, path: Path) -> Sides:
    """The two sides that a file has for some flows.

    Raises:
        DatasetError: the file cannot be read, is none of splits, or names other flows than these.
    """
    rows: dict[Key, list[int]] = {}
    for row, key in enumerate(_keys(flows)):
        rows.setdefault(key, []).append(row)
    sides: dict[str, list[int]] = {"train": [], "test": []}
    seen: dict[Key, str] = {}
    for number, (key, side) in enumerate(_lines(path), 1):
        if key not in rows:
            raise DatasetError(
                f"{path}: line {number}: the dataset has no flow {key}; another dataset's split?"
            )
        if seen.setdefault(key, side) != side:
            raise DatasetError(f"{path}: line {number}: flow {key} is on both sides")
        sides[side] += rows[key]
        rows[key] = []
    train, test = (np.sort(np.array(sides[side], dtype=np.int64)) for side in ("train", "test"))
    return train, test


def _lines(path: Path) -> Iterator[tuple[Key, str]]:
    """The key and the side of each line of a file of splits."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                    connection, part = int(record["connection_id"]), int(record["part"])
                    key = connection, part, str(record["capture"])
                    side = {"train": "train", "test": "test"}[record["side"]]
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                    raise DatasetError(f"{path}: line {number} is not a line of a split") from error
                yield key, side
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error


def _keys(flows: FlowBatch) -> list[Key]:
    columns = (flows.column(name).to_pylist() for name in ("connection_id", "part", "capture"))
    return [(c or 0, p or 0, name or "") for c, p, name in zip(*columns, strict=True)]
