"""Writes shards of labelled flows and then ``dataset.json``; nothing is visible before the commit."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apptell._version import __version__
from apptell.dataset.checks import checked_flows
from apptell.dataset.dataset_card import card
from apptell.dataset.dataset_folder import DatasetFolder
from apptell.dataset.manifest import (
    DATASET_VERSION,
    INFO_FILE,
    check_form,
    dataset_hash,
    read_info,
)
from apptell.dataset.store import Dataset, file_sha256
from apptell.errors import DatasetError
from apptell.flows.schema import (
    DECISION_SEGMENTS,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENTS,
    MAX_SEQUENCE,
    SCHEMA,
    SCHEMA_VERSION,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from apptell.files import NewFile
    from apptell.flows.schema import FlowBatch

Existing = Literal["add", "replace", "refuse"]
"""What a writer does with an existing dataset."""

SHARD_FLOWS: Final = 131_072
"""Flows of one shard at most."""
ROW_GROUP_FLOWS: Final = 1024
"""Flows of one Parquet row group: what a reader holds in memory at least (at most 75 MB)."""
_CARD: Final = "README.md"
# Columns whose values repeat; a dictionary for payload bytes would only cost time.
_REPEATING: Final = [
    "capture", "protocol", "client_address", "client_port", "server_address", "server_port", "client_by",
    "end_reason", "server_name", "alpn", "ja4", "http_host", "dns_name", "label", "label_from", "label_source",
    "owner_uid", "owner_package", "owner_name", "groups.key_value.key", "groups.key_value.value",
]  # fmt: skip


class DatasetWriter:
    """Writes a new dataset, or appends to one. Use as a context manager; ``commit`` makes the result visible.

    Leaving the ``with`` block without ``commit`` leaves the folder unchanged. The next writer deletes the
    files of a killed process. Files that apptell did not write are never touched; nor is an edited README.md.
    """

    def __init__(self, path: str | Path, existing: Existing = "add") -> None:
        """Opens no file yet; entering the ``with`` block locks the folder.

        Args:
            path: the dataset's folder; made when absent.
            existing: what happens to an existing dataset: it is added to (``add``), replaced once the new one
                is complete (``replace``), or nothing is done (``refuse``).
        """
        self.path = Path(path)
        self._existing = existing
        self._shards: list[dict[str, Any]] = []
        self._sources: list[dict[str, Any]] = []
        self._known: set[str] = set()
        self._done: list[str] = []
        self._apps: Counter[str] = Counter()
        self._label_from: Counter[str] = Counter()
        self._n_late_views = 0
        self._groups: dict[str, Counter[str]] = {}
        self._parquet: pq.ParquetWriter | None = None
        self._file: NewFile | None = None
        self._pending: list[pa.RecordBatch] = []
        self._n_pending = self._n_shard = self._n_source = 0
        self._current: dict[str, Any] | None = None
        """The content of the current ``dataset.json``; None if there is none."""

    def __enter__(self) -> Self:
        """Locks the folder.

        Raises:
            DatasetError: the folder holds something else or another version, or another writer is using it.
        """
        self.folder = DatasetFolder(self.path)
        try:
            self._resume()
        except BaseException:
            self.folder.close()
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
        self.folder.settle(_files_of(self._current))
        self.folder.close()

    @property
    def n_flows(self) -> int:
        """Flows in the dataset so far, the uncommitted ones included."""
        return sum(self._apps.values())

    @property
    def is_old(self) -> bool:
        """Whether the folder already holds a dataset."""
        return self._current is not None

    @property
    def known(self) -> frozenset[str]:
        """SHA-256 of the sources that the dataset already has."""
        return frozenset(self._known)

    def has(self, sha256: str) -> bool:
        """Whether the dataset already has a source with this content; false for a live source."""
        return sha256 in self._known

    def write(self, flows: FlowBatch) -> None:
        """Adds flows of the source that ``end_source`` will name; columns that they lack become nulls.

        Raises:
            DatasetError: a flow has no label, or its lists do not fit each other.
        """
        if not len(flows):
            return
        label = flows.column("label")
        if label.null_count:
            raise DatasetError(f"{self.path}: {label.null_count} flows without a label")
        self._count(flows)
        full = checked_flows(flows.to_arrow(), SCHEMA.names, self.path)
        self._pending.append(full.to_arrow().cast(SCHEMA))
        self._n_pending += len(flows)
        self._n_source += len(flows)
        if self._n_pending >= ROW_GROUP_FLOWS:
            self._flush()

    def end_source(self, entry: Mapping[str, Any]) -> None:
        """Closes a source: ``entry`` holds at least name and sha256; n_flows is added here."""
        self._add_source({**entry, "n_flows": self._n_source})
        self._n_source = 0

    def keep_source(self, entry: Mapping[str, Any]) -> None:
        """Adds the record of a source of another dataset, with its counts."""
        self._add_source(entry)

    def _add_source(self, entry: Mapping[str, Any]) -> None:
        self._sources.append(dict(entry))
        if entry["sha256"]:
            self._known.add(entry["sha256"])

    @property
    def source_edits(self) -> dict[str, int]:
        """The edits of sources (anonymised, masked), and the number of sources that have each."""
        return dict(Counter(edit for source in self._sources for edit in source.get("done", ())))

    def note(self, edit: str) -> None:
        """Adds a line to ``done`` for an edit of all flows (sampled, merged, moved)."""
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
        check_form(self.path / INFO_FILE, info)
        text = card(info)
        if self._owns_card():
            info["readme_sha256"] = hashlib.sha256(text.encode()).hexdigest()
            self.folder.record(_CARD)
            self._write_file(_CARD, text)
        self._write_file(INFO_FILE, json.dumps(info, indent=1, ensure_ascii=False) + "\n")
        # When a dataset is replaced by an anonymised one, the old files must be deleted.
        for name in _files_of(self._current) - _files_of(info):
            self.folder.delete(name)
        self._current = info
        return Dataset(self.path, info)

    def _write_file(self, name: str, text: str) -> None:
        file = self.folder.new_file(name)
        try:
            file.write(text.encode())
            file.place()
        finally:
            file.abandon()

    def _owns_card(self) -> bool:
        """Whether the README is apptell's to write: absent, or as it was written last; not a user's."""
        file = self.path / _CARD
        if not file.exists() or _CARD in self.folder.made:
            return True
        known = (self._current or {}).get("readme_sha256")
        return file.is_file() and file_sha256(file) == known

    def _resume(self) -> None:
        """Reads the existing dataset, and deletes the files of a killed build."""
        if self.folder.has_dataset:
            if self._existing == "refuse":
                raise DatasetError(
                    f"{self.path}: a dataset already exists and is not replaced", argument="replace"
                )
            old = self._current = read_info(self.path, any_version=self._existing == "replace")
            if self._existing == "add":
                self._shards, self._sources = list(old["shards"]), list(old["sources"])
                self._known = {source["sha256"] for source in old["sources"] if source["sha256"]}
                self._done = list(old["steps"])
                self._apps.update(old["apps"])
                self._label_from.update(old["label_from"])
                self._n_late_views = old["late_views"]
                self._groups = {name: Counter(counts) for name, counts in old["groups"].items()}
        # A dataset that is being replaced stays whole until the commit.
        self.folder.settle(_files_of(self._current))

    def _count(self, flows: FlowBatch) -> None:
        for name, into in (("label", self._apps), ("label_from", self._label_from)):
            counts = pc.value_counts(flows.column(name).drop_null())
            for item in counts.to_pylist():
                into[item["values"]] += item["counts"]
        if "part_of" in flows.columns:
            self._n_late_views += len(flows) - flows.column("part_of").null_count
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
            self._file = self.folder.new_file(f"flows-{len(self._shards):05d}.parquet")
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
        self.folder.record(name)
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
            "readme_sha256": "",
            "n_flows": sum(shard["n_flows"] for shard in self._shards),
            "late_views": self._n_late_views,
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


def _files_of(info: Mapping[str, Any] | None) -> set[str]:
    """The files that a ``dataset.json`` names, and the card."""
    return set() if info is None else {_CARD, *(shard["file"] for shard in info["shards"])}
