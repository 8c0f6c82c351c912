"""A labelled dataset on disk: a folder of Parquet shards.

The folder holds ``flows-*.parquet`` in the flow schema, ``dataset.json`` (what is in it, where it came
from, what was dropped) and ``README.md`` for people. Only ``dataset.json`` determines which shards belong to
the dataset, and it is replaced by one rename: a process that dies at any moment leaves the old dataset or the
new one.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apptell.dataset.checks import check_columns, checked_flows
from apptell.dataset.manifest import INFO_FILE, check_shard_file, dataset_hash, read_info
from apptell.errors import DatasetError, UsageError
from apptell.flows.schema import GROUPS, SCHEMA, FlowBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from apptell.dataset.build import BuildReport
    from apptell.dataset.reading import LabelledSource, SourceReader
    from apptell.dataset.selection import Selection
    from apptell.flows import FlowOptions
    from apptell.labels import LabelOptions

DEFAULT_GROUPS: Final = ("core", "segments", "names", "labels")
_READ_BYTES: Final = 1 << 20


class Dataset:
    """An existing dataset: its description, and its flows in batches.

    Example:
        >>> data = apptell.Dataset.open("dataset/")
        >>> data
        <Dataset dataset: 40 flows of 2 apps>
    """

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path = path
        self.info = info
        """The content of ``dataset.json``."""
        self.last_build: BuildReport | None = None
        """What ``build`` added, skipped and found damaged; None for a dataset that was opened."""

    @classmethod
    def open(cls, path: str | Path) -> Dataset:
        """Opens the dataset in a folder; reads only ``dataset.json``.

        Raises:
            DatasetError: there is no dataset, it has another version or form, or a shard is missing or not a
                regular file.
        """
        folder = Path(path)
        info = read_info(folder)
        if info["hash"] != dataset_hash(info["shards"]):
            raise DatasetError(f"{folder}: the content hash is not that of its shards")
        for shard in info["shards"]:
            check_shard_file(folder, shard)
        return cls(folder, info)

    @classmethod
    def build(
        cls,
        captures: str | Path | Sequence[str | Path],
        path: str | Path,
        *,
        labels: LabelOptions | str | None = None,
        catalogue: Sequence[str | Path] = (),
        views: str | None = None,
        flows: FlowOptions | None = None,
        system: str = "system",
        shared: str = "keep",
        mask_names: bool = False,
        keep_plain: bool = False,
        key_file: str | Path | None = None,
        replace: bool = False,
        jobs: int = 1,
        reader: SourceReader | None = None,
        progress: Callable[[LabelledSource], None] | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> Dataset:
        """Builds a dataset from captures and the ground truth of their apps, or adds to an existing one.

        Of a damaged capture the flows before the damage are used. ``last_build`` of the result says what was
        added, skipped and damaged.

        Args:
            captures: captures, and folders of captures with their logs.
            path: the dataset's folder.
            labels: the name of a label format, or options (default: recognised by content). ``names`` labels
                flows by server names, DNS answers and addresses.
            catalogue: files with rows that are added to the catalogue of apps, for the format ``names``.
            views: ``late`` also keeps each labelled connection from later packets, for ``train(views="late")``;
                ``none`` does not (default: ``late`` for labels by names, else ``none``).
            flows: how packets become flows (default: TCP, every column group).
            system: the label of the phone's own traffic: ``system``, ``other``, or ``drop`` to leave it out.
            shared: flows to servers that many apps share: ``keep``, ``other`` or ``drop``.
            mask_names: whether names of servers are removed, and payload is reduced to its framing.
            keep_plain: whether unparsed payload is kept where names or addresses are removed.
            key_file: a private file (mode 600) with 32 bytes of key: addresses are replaced, their prefixes
                kept, and payload is reduced to its framing.
            replace: replace an existing dataset.
            jobs: processes that read captures, one each.
            reader: reads the captures instead, such as ``cluster.RaySourceReader``; default: processes.
            progress: called with each new capture before it is read.
            notify: called with a sentence for each damaged capture, each unused log, and each log with lines
                that cannot be read (default: a ``UserWarning`` for each).

        Raises:
            DatasetError: the folder cannot be written, or is not a dataset.
            LabelError: no label format fits, or a log does not fit its capture.
            UsageError: an unknown value, or other edits than the dataset was built with.

        Example:
            >>> data = apptell.Dataset.build("captures/", "built/")
            >>> data.apps, len(data)
            (['signal', 'zoom'], 40)
        """
        from dataclasses import replace as replace_options

        from apptell.dataset.build import build
        from apptell.dataset.edits import Edits
        from apptell.dataset.services import move_shared
        from apptell.flows import FlowOptions
        from apptell.labels import CaptureFlows, LabelOptions, LabelSearch

        if shared not in ("keep", "other", "drop"):
            raise UsageError(f"shared {shared!r} is not keep, other or drop")
        edits = Edits.of(
            system=system,
            key_file=None if key_file is None else Path(key_file),
            mask_names=mask_names,
            keep_plain=keep_plain,
        )
        files = tuple(map(str, catalogue))
        options = labels if isinstance(labels, LabelOptions) else LabelOptions(kind=labels)
        if files:
            options = replace_options(options, catalogue=files)
        named = [captures] if isinstance(captures, str | Path) else captures
        capture_flows = CaptureFlows(
            flows or FlowOptions(groups=tuple(GROUPS)), options.wants_late_views(views)
        )
        search = LabelSearch([Path(each) for each in named], capture_flows, options)
        done = build(
            search,
            path,
            replace=replace,
            change=edits if edits.applied else None,
            applied_edits=edits.applied,
            jobs=jobs,
            reader=reader,
            progress=progress,
        )
        done.unused = search.unused
        for notice in done.notices():
            if notify is not None:
                notify(notice)
            else:
                warnings.warn(notice, UserWarning, stacklevel=2)
        if shared != "keep" and done.n_added:
            done.dataset = move_shared(done.dataset, done.dataset.path, shared)
        done.dataset.last_build = done
        return done.dataset

    def split(
        self, method: str | Path = "paper", *, seed: int = 0, level: str = "app"
    ) -> tuple[Selection, Selection]:
        """The labelled flows to learn from, and those to measure on.

        Args:
            method: the split: ``paper``, ``session``, ``source``, ``day``, ``time``, ``group:COLUMN``,
                ``none``, ...; or a file that holds one.
            seed: seed of the random choice.
            level: ``app`` or ``activity``: the labels whose shares are balanced between the sides.

        Raises:
            DatasetError: the flows have no such group, or the file does not fit.
            UsageError: there is no such split.

        Example:
            >>> learned, tested = apptell.Dataset.open("dataset/").split("source", seed=1)
            >>> trained = apptell.train(learned, "paper-rf", split="none")
            >>> apptell.evaluate(trained.model, tested).accuracy > 0.5
            True
        """
        from apptell.dataset.selection import Selection
        from apptell.dataset.splits import split

        whole = Selection.of(self)
        labelled = whole.filter(whole.flows.column("label").is_valid().to_numpy(False))
        place = Path(method) if Path(method).is_file() else str(method)
        sides = split(labelled.flows, place, seed=seed, level=level)
        return labelled.take(sides.train), labelled.take(sides.test)

    def __len__(self) -> int:
        return int(self.info["n_flows"])

    def __repr__(self) -> str:
        return f"<Dataset {self.path.name}: {len(self)} flows of {len(self.apps)} apps>"

    @property
    def apps(self) -> list[str]:
        """The apps of its flows (an activity belongs to its app), sorted."""
        return sorted({label.split("/", 1)[0] for label in self.info["apps"]})

    @property
    def hash(self) -> str:
        """Identifies the content: SHA-256 over the shards' SHA-256 and the schema version, hexadecimal."""
        return str(self.info["hash"])

    def batches(
        self,
        groups: Sequence[str] = DEFAULT_GROUPS,
        batch_flows: int = 8192,
        rows: NDArray[np.int64] | None = None,
    ) -> Iterator[FlowBatch]:
        """The flows in the order they were written, in bounded memory.

        Args:
            groups: which column groups to read: core, segments, names, labels, audit.
            batch_flows: flows per batch at most.
            rows: numbers of the requested flows, ascending; default: all. Shards that have none of them are
                not read.

        Raises:
            DatasetError: a shard is damaged, or a group does not exist.
        """
        columns = columns_of(groups)
        begin = 0
        for shard in self.info["shards"]:
            end = begin + shard["n_flows"]
            if rows is None or len(_between(rows, begin, end)):
                at = begin
                file = check_shard_file(self.path, shard)
                for batch in _read_shard(file, shard["n_flows"], columns, batch_flows):
                    if rows is None:
                        yield batch
                    elif len(wanted := _between(rows, at, at + len(batch))):
                        yield batch.take(wanted - at)
                    at += len(batch)
            begin = end

    def read(self, groups: Sequence[str] = DEFAULT_GROUPS) -> FlowBatch:
        """All flows at once, in memory: for datasets that fit (about 9 kB a flow with segments)."""
        batches = [batch.to_arrow() for batch in self.batches(groups, 65536)]
        if not batches:
            schema = pa.schema([SCHEMA.field(name) for name in columns_of(groups)])
            return FlowBatch(
                pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in schema], schema=schema)
            )
        return FlowBatch(_join(batches))


def _between(rows: NDArray[np.int64], begin: int, end: int) -> NDArray[np.int64]:
    """The ascending rows from ``begin`` to before ``end``."""
    low, high = np.searchsorted(rows, [begin, end])
    return rows[low:high]


def columns_of(groups: Sequence[str]) -> list[str]:
    """Names of the columns in some groups, in schema order."""
    for name in groups:
        if name not in GROUPS:
            raise DatasetError(f"flows: no column group {name!r}; available: {', '.join(GROUPS)}")
    return [column for name, group in GROUPS.items() if name in groups for column in group]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal; streams."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_shard(
    file: Path, n_flows: int, columns: list[str], batch_flows: int
) -> Iterator[FlowBatch]:
    """The flows of a shard, each batch checked: what it holds is indexed without further checks."""
    n_read = 0
    try:
        # Arrow takes no path that is not UTF-8. Read ahead, it would keep all of a shard's compressed bytes.
        with (
            file.open("rb") as stream,
            pq.ParquetFile(stream, pre_buffer=False, buffer_size=_READ_BYTES) as parquet,
        ):
            check_columns(parquet.schema, file)
            if parquet.metadata.num_rows != n_flows:
                raise DatasetError(
                    f"{file}: {parquet.metadata.num_rows} flows, but {INFO_FILE} says {n_flows}"
                )
            for batch in parquet.iter_batches(batch_flows, columns=columns):
                if batch.num_rows:
                    n_read += batch.num_rows
                    yield checked_flows(batch, columns, f"{file}: damaged shard")
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DatasetError(f"{file}: damaged shard: {error}") from error
    if n_read != n_flows:
        raise DatasetError(f"{file}: damaged shard: {n_read} flows, not {n_flows}")


def _join(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    merged = pa.Table.from_batches(batches).combine_chunks().to_batches()
    if len(merged) > 1:  # Arrow's 2 GiB limit of a binary column
        raise DatasetError("dataset: too large to read at once; read it in batches")
    return merged[0] if merged else batches[0]
