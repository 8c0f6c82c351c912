"""A stream and the settings of a run in, Parquet files of its flows or verdicts out. It runs in a worker."""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apptell._version import __version__
from apptell.errors import CaptureError, CatalogueError, ModelError
from apptell.files import readable, write_file
from apptell.names import read_flows
from apptell.records.record_filter import RecordFilter
from apptell.records.schema import flow_records, verdict_records
from apptell.verdicts import Deciders, choose_deciders, identify_flows, whole_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apptell.cluster.archive_folder import ArchiveFolder
    from apptell.cluster.sensor_streams import SensorStream
    from apptell.flows import FlowOptions, FlowReader
    from apptell.verdicts.archive_layout import StreamRecord

PART_RECORDS: Final = 1 << 18
"""Records of one Parquet file: a file of each day ends after as many."""
_MAX_OPEN_RECORDS: Final = 4 * PART_RECORDS
"""Records in memory; when there are more, the day with most of them is written early."""
_MAX_MODEL_BYTES: Final = 512 << 20
_DAY_NS: Final = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class StreamJob:
    """What a run does with each stream. It holds models and catalogues as bytes: workers need no files."""

    options: FlowOptions
    groups: tuple[str, ...] | None = None
    """Column groups of flow records; None for verdicts."""
    evidence: str | None = None
    model: dict[str, bytes] | None = field(default=None, repr=False)
    """The files of the model's folder by name."""
    catalogue: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    """Name and content of each file with rows for the catalogue."""
    threshold: float | None = None
    unknown: float | None = None
    context: str | None = None
    wanted: RecordFilter = field(default_factory=RecordFilter)
    """Which records are written."""

    def settings(self) -> dict[str, Any]:
        """All that the records depend on besides the captures, as JSON values."""
        flow_options: dict[str, Any] = json.loads(json.dumps(asdict(self.options)))
        filters = {} if self.wanted.is_empty else {"filters": self.wanted.conditions}
        return {
            "apptell": __version__,
            "records": "verdicts" if self.groups is None else "flows",
            "groups": None if self.groups is None else list(self.groups),
            "flow_options": flow_options,
            "evidence": self.evidence,
            "model": None if self.model is None else _digest(sorted(self.model.items())),
            "catalogue": [_digest([file]) for file in self.catalogue],
            "threshold": self.threshold,
            "unknown": self.unknown,
            "context": self.context,
            **filters,
        }

    def run(self, stream: SensorStream, key: str, folder: ArchiveFolder) -> StreamRecord:
        """Reads a stream and writes its records.

        Args:
            stream: the captures.
            key: names the files; equal streams, settings and keys give equal files.
            folder: where the records go.

        Returns:
            What was written. Damage of a capture is noted there; the records before it are kept.

        Raises:
            OutputError: a file cannot be written.
            ModelError: the model cannot be loaded.
        """
        record = folder.begin(stream.sensor, key)
        days = _Days(record, folder)
        with self._deciders() as deciders:
            observer = None if deciders is None else deciders.evidence
            try:
                with read_flows(stream.source, self.options, observer=observer) as reader:
                    try:
                        for batch in self._records(reader, deciders):
                            days.add(batch)
                    finally:
                        record.packets, record.flows = reader.stats.packets, reader.stats.flows
            except CaptureError as damage:
                record.damage = str(damage)
        days.close()
        record.files = len(stream.files)
        folder.commit(record)
        return record

    def _records(self, reader: FlowReader, deciders: Deciders | None) -> Iterator[pa.RecordBatch]:
        if deciders is None:
            for flows in reader:
                yield self.wanted(flow_records(flows, self.groups or ()))
            return
        around = None
        if deciders.context is not None and deciders.model is not None:
            around = whole_context(deciders.context, deciders.model)
        for verdicts in identify_flows(
            reader,
            deciders.model,
            self.threshold,
            context=around,
            evidence=deciders.evidence,
            unknown=self.unknown,
        ):
            yield self.wanted(verdict_records(verdicts))

    @contextmanager
    def _deciders(self) -> Iterator[Deciders | None]:
        """Evidence and model from the bytes of the job; None where flows alone are asked for."""
        if self.groups is not None:
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="apptell-") as made:
            model = None
            if self.model is not None:
                model = Path(made, "model")
                model.mkdir()
                for name, content in self.model.items():
                    write_file(model / name, content)
            files = []
            for number, (name, content) in enumerate(self.catalogue):
                path = Path(made, f"catalogue-{number}", name)
                path.parent.mkdir()
                write_file(path, content)
                files.append(path)
            yield choose_deciders(
                self.evidence, model, files, self.context, self.options.transports
            )


def model_files(folder: Path) -> dict[str, bytes]:
    """The files of a model's folder by name.

    Raises:
        ModelError: they cannot be read, or are larger than 512 MiB together.
    """
    found: dict[str, bytes] = {}
    total = 0
    try:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
                if total > _MAX_MODEL_BYTES:
                    raise ModelError(
                        f"{readable(folder)}: larger than 512 MiB, too large to send to workers"
                    )
                found[path.name] = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{readable(folder)}: {error.strerror}") from None
    return found


def catalogue_files(paths: Sequence[str]) -> tuple[tuple[str, bytes], ...]:
    """Name and content of files with rows for the catalogue.

    Raises:
        CatalogueError: one cannot be read.
    """
    found = []
    for path in map(Path, paths):
        try:
            found.append((path.name, path.read_bytes()))
        except OSError as error:
            raise CatalogueError(f"{readable(path.name)}: {error.strerror}") from None
    return tuple(found)


class _Days:
    """Records of a stream, collected by the day of their flows' first packet (UTC).

    Files end after a number of records. Where they end does not depend on how records come in batches, because
    batches depend on the time.
    """

    def __init__(self, record: StreamRecord, folder: ArchiveFolder) -> None:
        self._record, self._folder = record, folder
        self._waiting: dict[int, list[pa.RecordBatch]] = {}
        self._counts: dict[int, int] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes some records."""
        days = _days_of(batch)
        starts = np.flatnonzero(np.diff(days, prepend=days[:1] - 1)).tolist()
        ends = [*starts[1:], len(days)][: len(starts)]
        for start, end in zip(starts, ends, strict=True):
            self._add_run(int(days[start]), batch.slice(start, end - start))

    def _add_run(self, day: int, batch: pa.RecordBatch) -> None:
        """Takes consecutive records of one day; writes when a file is full, or memory is."""
        while len(batch):
            open_records = sum(self._counts.values())
            room = min(PART_RECORDS - self._counts.get(day, 0), _MAX_OPEN_RECORDS - open_records)
            self._waiting.setdefault(day, []).append(batch.slice(0, room))
            self._counts[day] = self._counts.get(day, 0) + min(room, len(batch))
            batch = batch.slice(min(room, len(batch)))
            if self._counts[day] == PART_RECORDS:
                self._write(day)
            elif sum(self._counts.values()) == _MAX_OPEN_RECORDS:
                self._write(max(self._counts, key=lambda each: (self._counts[each], each)))

    def _write(self, day: int) -> None:
        table = pa.Table.from_batches(self._waiting.pop(day)).combine_chunks()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        name = str(np.datetime64(day, "D"))
        self._folder.write_part(self._record, name, memoryview(sink.getvalue()))
        self._record.records += self._counts.pop(day)

    def close(self) -> None:
        """Writes what is waiting."""
        for day in sorted(self._waiting):
            self._write(day)


def _days_of(batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Days since 1970 of n records."""
    name = "time" if "time" in batch.schema.names else "start_ns"
    times = batch.column(name).cast(pa.int64()).to_numpy(zero_copy_only=False)
    days: np.ndarray[Any, np.dtype[np.int64]] = np.floor_divide(times, _DAY_NS)
    return days


def _digest(files: Sequence[tuple[str, bytes]]) -> str:
    state = hashlib.sha256()
    for name, content in files:
        state.update(f"{name}\0{len(content)}\0".encode())
        state.update(content)
    return state.hexdigest()[:16]
