"""Labelled FlowBatches enter, shards and then ``dataset.json`` leave; nothing is visible before commit."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apptell._version import __version__
from apptell.dataset.card import card
from apptell.dataset.store import (
    DATASET_VERSION,
    INFO_FILE,
    Dataset,
    dataset_hash,
    file_sha256,
    read_info,
)
from apptell.errors import DatasetError
from apptell.files import NewFile, write_file
from apptell.flows.schema import (
    DECISION_SEGMENTS,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENTS,
    MAX_SEQUENCE,
    SCHEMA,
    SCHEMA_VERSION,
    FlowBatch,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

SHARD_FLOWS: Final = 131_072
"""Flows of one shard at most."""
ROW_GROUP_FLOWS: Final = 1024
"""Flows of one Parquet row group: what a reader holds in memory at least (at most 75 MB)."""
_LOCK: Final = ".lock"
# Columns whose values repeat; a dictionary for payload bytes would only cost time.
_REPEATING: Final = [
    "capture", "protocol", "client_address", "client_port", "server_address", "server_port", "client_by",
    "end_reason", "server_name", "alpn", "ja4", "http_host", "dns_name", "label", "label_from",
    "owner_uid", "owner_package", "owner_name", "groups.key_value.key", "groups.key_value.value",
]  # fmt: skip


class DatasetWriter:
    """Writes a new dataset, or appends to one. Use as a context manager; ``commit`` makes it real.

    Leaving the ``with`` block without ``commit`` (an error, a kill) leaves the folder's dataset as it was;
    shards already written are swept away by the next writer.
    """

    def __init__(self, path: str | Path, *, replace: bool = False) -> None:
        """Opens the folder for writing and locks it.

        Args:
            path: the dataset's folder; made when absent.
            replace: start from nothing though a dataset is there.

        Raises:
            DatasetError: the folder holds something else, another version, or another writer is at it.
        """
        self.path = Path(path)
        self._replace = replace
        self._shards: list[dict[str, Any]] = []
        self._sources: list[dict[str, Any]] = []
        self._known: set[str] = set()
        self._done: list[str] = []
        self._apps: Counter[str] = Counter()
        self._label_from: Counter[str] = Counter()
        self._groups: dict[str, Counter[str]] = {}
        self._parquet: pq.ParquetWriter | None = None
        self._file: NewFile | None = None
        self._pending: list[pa.RecordBatch] = []
        self._n_pending = self._n_shard = self._n_source = 0
        self._lock: int | None = None

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise DatasetError(f"{self.path}: is a file, not a dataset's folder")
        if self.path.is_dir() and not (self.path / INFO_FILE).exists():
            strange = [f.name for f in self.path.iterdir() if not _is_ours(f.name)]
            if strange:
                raise DatasetError(f"{self.path}: not empty and not a dataset ({strange[0]})")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DatasetError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = None
            raise DatasetError(f"{self.path}: another build is writing it") from error
        try:
            self._resume()
        except DatasetError:
            self._unlock()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.abandon()
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None
        self._unlock()

    @property
    def n_flows(self) -> int:
        """Flows in the dataset so far, the uncommitted ones included."""
        return sum(self._apps.values())

    @property
    def is_old(self) -> bool:
        """Whether the folder holds a dataset already."""
        return (self.path / INFO_FILE).exists()

    @property
    def known(self) -> frozenset[str]:
        """SHA-256 of the sources that are in the dataset already."""
        return frozenset(self._known)

    def has(self, sha256: str) -> bool:
        """Whether a source of this content is in the dataset already; never so for a live one."""
        return sha256 in self._known

    def write(self, flows: FlowBatch) -> None:
        """Adds flows of the source that ``end_source`` will name.

        Raises:
            DatasetError: a flow has no label.
        """
        if not len(flows):
            return
        label = flows.column("label")
        if label.null_count:
            raise DatasetError(f"{self.path}: {label.null_count} flows without a label")
        self._count(flows)
        full = FlowBatch.from_columns(
            {n: flows.column(n) for n in flows.columns}, len(flows)
        ).to_arrow()
        self._pending.append(full)
        self._n_pending += len(flows)
        self._n_source += len(flows)
        if self._n_pending >= ROW_GROUP_FLOWS:
            self._flush()

    def end_source(self, entry: Mapping[str, Any]) -> None:
        """Closes a source: ``entry`` holds at least name and sha256; n_flows is added here."""
        self._add_source({**entry, "n_flows": self._n_source})
        self._n_source = 0

    def keep_source(self, entry: Mapping[str, Any]) -> None:
        """Takes over a source of another dataset, its own counts and all."""
        self._add_source(entry)

    def _add_source(self, entry: Mapping[str, Any]) -> None:
        self._sources.append(dict(entry))
        if entry["sha256"]:
            self._known.add(entry["sha256"])

    @property
    def source_edits(self) -> dict[str, int]:
        """What was done to the flows of single sources (anonymised, masked), and of how many."""
        return dict(Counter(edit for source in self._sources for edit in source.get("done", ())))

    def note(self, edit: str) -> None:
        """Puts a line into ``done``: what was done to all flows (sampled, merged, moved)."""
        if edit not in self._done:
            self._done.append(edit)

    def commit(self) -> Dataset:
        """Makes what was written the folder's dataset, by one rename.

        Raises:
            OutputError: the files cannot be written.
        """
        self._flush()
        self._close_shard()
        info = self._info()
        write_file(self.path / "README.md", card(self.path.resolve().name, info))
        write_file(self.path / INFO_FILE, json.dumps(info, indent=1, ensure_ascii=False) + "\n")
        # Whoever replaces a dataset by an anonymised one wants the old one gone.
        self._sweep({shard["file"] for shard in self._shards})
        return Dataset(self.path, info)

    def _resume(self) -> None:
        """Takes up what is there, and sweeps away what no ``dataset.json`` names."""
        keep: set[str] = set()
        if (self.path / INFO_FILE).exists():
            old = read_info(self.path)
            # A dataset that is being replaced stays whole until the commit.
            keep = {shard["file"] for shard in old["shards"]}
            if not self._replace:
                self._shards, self._sources = list(old["shards"]), list(old["sources"])
                self._known = {source["sha256"] for source in old["sources"] if source["sha256"]}
                self._done = list(old.get("steps", ()))
                self._apps.update(old["apps"])
                self._label_from.update(old.get("label_from", {}))
                self._groups = {name: Counter(counts) for name, counts in old["groups"].items()}
        self._sweep(keep)

    def _sweep(self, keep: set[str]) -> None:
        """Deletes shards that no ``dataset.json`` names, and what a killed build left half done."""
        for file in self.path.iterdir():
            loose = file.name.startswith("flows-") and file.name not in keep
            if loose or file.name.endswith(".tmp"):
                file.unlink()

    def _count(self, flows: FlowBatch) -> None:
        for name, into in (("label", self._apps), ("label_from", self._label_from)):
            counts = pc.value_counts(flows.column(name).drop_null())
            for item in counts.to_pylist():
                into[item["values"]] += item["counts"]
        groups = flows.column("groups").drop_null()
        if not len(groups):
            return
        pairs = pa.table({"name": groups.keys, "value": groups.items})
        for row in pairs.group_by(["name", "value"]).aggregate([([], "count_all")]).to_pylist():
            self._groups.setdefault(row["name"], Counter())[row["value"]] += row["count_all"]

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending, schema=SCHEMA)
        self._pending, self._n_pending = [], 0
        if self._parquet is None:
            self._file = NewFile(self.path / f"flows-{len(self._shards):05d}.parquet")
            self._parquet = pq.ParquetWriter(
                self._file, SCHEMA, compression="zstd", use_dictionary=_REPEATING
            )
        self._parquet.write_table(table, row_group_size=ROW_GROUP_FLOWS)
        self._n_shard += table.num_rows
        if self._n_shard >= SHARD_FLOWS:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._parquet is None or self._file is None:
            return
        self._parquet.close()
        self._file.sync()
        digest = file_sha256(self._file.part)
        # The content is in the name, so that no new shard can ever overwrite one that counts.
        name = f"flows-{len(self._shards):05d}-{digest[:12]}.parquet"
        size = self._file.tell()
        self._file.place(self.path / name)
        self._shards.append(
            {"file": name, "n_flows": self._n_shard, "bytes": size, "sha256": digest}
        )
        self._parquet = self._file = None
        self._n_shard = 0

    def _info(self) -> dict[str, Any]:
        dropped: Counter[str] = Counter()
        for source in self._sources:
            dropped.update(source.get("dropped", {}))
        return {
            "dataset_version": DATASET_VERSION,
            "flow_schema": SCHEMA_VERSION,
            "written_by": f"apptell {__version__}",
            "hash": dataset_hash(self._shards),
            "n_flows": sum(shard["n_flows"] for shard in self._shards),
            "apps": dict(sorted(self._apps.items())),
            "groups": {n: dict(sorted(c.items())) for n, c in sorted(self._groups.items())},
            "label_from": dict(sorted(self._label_from.items())),
            "dropped": dict(sorted(dropped.items())),
            "done": [
                *(
                    edit
                    if n == len(self._sources)
                    else f"{edit} ({n} of {len(self._sources)} sources)"
                    for edit, n in self.source_edits.items()
                ),
                *self._done,
            ],
            "steps": self._done,
            "encoding": {
                "segments": MAX_SEGMENTS,
                "segment_bytes": MAX_SEGMENT_BYTES,
                "sequence": MAX_SEQUENCE,
                "decision_segments": DECISION_SEGMENTS,
            },
            "sources": self._sources,
            "shards": self._shards,
        }

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _is_ours(name: str) -> bool:
    return name.startswith("flows-") or name.endswith(".tmp") or name in (_LOCK, "README.md")
