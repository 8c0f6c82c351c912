"""Merges, samples, edits and validates datasets, in bounded memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apptell.dataset.groups import follow, is_late_view
from apptell.dataset.manifest import dataset_hash
from apptell.dataset.store import Dataset, file_sha256
from apptell.dataset.writer import DatasetWriter
from apptell.errors import DatasetError, UsageError
from apptell.files import readable
from apptell.flows.schema import GROUPS, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

ALL_GROUPS = tuple(GROUPS)


def validate(data: Dataset) -> list[str]:
    """Reads every shard; returns one line for each fault, and none if the dataset is intact."""
    wrong: list[str] = []
    apps: Counter[str] = Counter()
    n_flows = 0
    for shard in data.info["shards"]:
        file = data.path / shard["file"]
        if not file.is_file():
            wrong.append(f"{file}: missing")
            continue
        if file_sha256(file) != shard["sha256"]:
            wrong.append(f"{file}: its content is not what was written (SHA-256 differs)")
            continue
        with file.open("rb") as stream:  # Arrow takes no path that is not UTF-8
            is_right = pq.read_schema(stream).equals(SCHEMA)
        if not is_right:
            wrong.append(f"{file}: does not have the flow schema")
    if wrong:
        return wrong
    for batch in data.batches(("labels",)):
        n_flows += len(batch)
        apps.update(batch.column("label").to_pylist())
    if n_flows != len(data):
        wrong.append(f"{data.path}: {n_flows} flows, but dataset.json says {len(data)}")
    if dict(apps) != data.info["apps"]:
        wrong.append(f"{data.path}: flows per app differ from those in dataset.json")
    if dataset_hash(data.info["shards"]) != data.hash:
        wrong.append(f"{data.path}: the content hash is not that of its shards")
    return wrong


def rewrite(
    data: Dataset,
    path: str | Path,
    change: Callable[[FlowBatch], FlowBatch],
    edit: str,
    *,
    replace: bool = False,
) -> Dataset:
    """The dataset with every batch changed, in another folder or in its own, by one rename.

    Args:
        data: what is changed.
        path: the folder of the result; may be the dataset's own.
        change: may drop flows; keeps order.
        edit: the line that describes it in ``dataset.json``.
        replace: replace an existing dataset, also the one that is changed.

    Raises:
        DatasetError: there is a dataset already, and it is not replaced.
    """
    with DatasetWriter(path, "replace" if replace else "refuse") as writer:
        for old in data.info["steps"]:
            writer.note(old)
        for batch in data.batches(ALL_GROUPS):
            writer.write(change(batch))
        _take_over(writer, data)
        writer.note(edit)
        return writer.commit()


def merge(datasets: Sequence[Dataset], path: str | Path, *, replace: bool = False) -> Dataset:
    """Merges several datasets; a source that two of them have is taken from the first.

    Flows are compared by connection, part and start time. The result's folder may be one of them.

    Args:
        datasets: two or more.
        path: the folder of the result.
        replace: replace an existing dataset that is not one of the merged ones.

    Raises:
        DatasetError: fewer than two datasets, or there is another dataset already.
        UsageError: the flows of one have edits (anonymised, masked) that the flows of another do not have.
    """
    if len(datasets) < 2:
        raise DatasetError("merge: at least two datasets are needed")
    edits_of = [
        {edit for source in data.info["sources"] for edit in source.get("done", ())}
        for data in datasets
    ]
    for data, done in zip(datasets, edits_of, strict=True):
        if missing := set().union(*edits_of) - done:
            raise UsageError(
                f"merge: the flows of {data.path} lack an edit that the others have: {min(missing)}"
            )
    replace = replace or any(is_same_folder(data.path, path) for data in datasets)
    with DatasetWriter(path, "replace" if replace else "refuse") as writer:
        seen = np.zeros(0, dtype=np.uint64)
        for data in datasets:
            n_twice = 0
            own = []
            for batch in data.batches(ALL_GROUPS):
                keys = _keys(batch)
                own.append(keys)
                fresh = ~_is_in(keys, seen)
                n_twice += int((~fresh).sum())
                writer.write(batch.filter(fresh))
            seen = np.unique(np.concatenate([seen, *own]))
            for edit in data.info["steps"]:
                writer.note(f"{readable(data.path.name)}: {edit}")
            _take_over(writer, data)
            writer.note(
                f"merged {readable(data.path.name)} ({len(data)} flows, {n_twice} of them duplicates)"
            )
        return writer.commit()


def sample(
    data: Dataset, path: str | Path, per_app: int, seed: int = 0, *, replace: bool = False
) -> Dataset:
    """At most ``per_app`` flows of each label, drawn at random over the whole dataset, in its order.

    Late views are not counted; those of the flows that were drawn are kept.

    Raises:
        DatasetError: ``per_app`` is below 1, or a dataset already exists and is not replaced.
    """
    if per_app < 1:
        raise DatasetError(f"sample: {per_app} flows per app are not 1 or more")
    names = pa.array(sorted(data.info["apps"]))
    numbers: list[NDArray[Any]] = [np.zeros(0, dtype=np.int32)]
    ids: list[NDArray[Any]] = [np.zeros(0, dtype=np.uint64)]
    for batch in data.batches(("core", "labels")):
        number = np.array(pc.index_in(batch.column("label"), names))
        number[is_late_view(batch)] = -1
        numbers.append(number)
        ids.append(batch.numpy("connection_id"))
    whole = np.concatenate(numbers)
    keep = np.zeros(len(whole), dtype=bool)
    noise = np.random.default_rng(seed)
    for number in np.unique(whole[whole >= 0]):
        rows = np.flatnonzero(whole == number)
        keep[noise.choice(rows, min(per_app, len(rows)), replace=False)] = True
    connections = np.unique(np.concatenate(ids)[keep])
    at = 0

    def some(batch: FlowBatch) -> FlowBatch:
        nonlocal at
        at += len(batch)
        chosen = keep[at - len(batch) : at].copy()
        follow(batch, chosen, connections)
        return batch.filter(chosen)

    edit = f"sampled at most {per_app} flows per label of {readable(data.path.name)}, seed {seed}"
    return rewrite(data, path, some, edit, replace=replace)


def is_same_folder(one: Path, other: str | Path) -> bool:
    """Whether two paths lead to one folder that exists."""
    return Path(other).exists() and one.samefile(other)


def _keys(flows: FlowBatch) -> NDArray[np.uint64]:
    """A number for each flow, of its connection, part and beginning; shape (n,)."""
    key = np.zeros(len(flows), dtype=np.uint64)
    for name in ("connection_id", "part", "start_ns"):
        # splitmix64's mixing of what was with what comes
        key ^= np.asarray(flows.column(name).fill_null(0)).astype(np.uint64)
        key = (key ^ key >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ key >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return key


def _is_in(values: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each value is among the ascending known ones."""
    at = np.searchsorted(known, values)
    found = np.zeros(len(values), dtype=bool)
    inside = at < len(known)
    found[inside] = known[at[inside]] == values[inside]
    return found


def _take_over(writer: DatasetWriter, data: Dataset) -> None:
    """Copies the record of the old sources with their counts."""
    for source in data.info["sources"]:
        if not writer.has(source["sha256"]):
            writer.keep_source(source)
