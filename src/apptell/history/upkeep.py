"""Keeps a folder of records small: merges its small files, and deletes the oldest where that was asked for.

Only files that ``live`` or this module named (``apptell-TIME.parquet``) are merged or deleted. A merged file
states in its metadata what it was made from; until those files are deleted they are not read again, also
after a crash.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from apptell.errors import ApptellError, OutputError, UsageError
from apptell.files import PRIVATE, new_file
from apptell.history.record_files import MERGED_FROM, is_own_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from apptell.history.record_files import RecordFile, RecordFolder
    from apptell.history.record_history import RecordHistory

MERGED_RECORDS: Final = 1_000_000
"""Records of a merged file, from which it is not merged again."""
LEAST_FILES: Final = 16
"""Small files in a row that are merged before they have that many records."""
SETTLED_S: Final = 120.0
"""Seconds since a file was changed, before which it is not merged."""
ROW_GROUP_RECORDS: Final = 32_768
MERGED_ORDER: Final = (("app", "ascending"), ("time", "ascending"))
"""Of the records of a merged file: those of one app are in few row groups, so others are not read."""
EVERY_S: Final = 600.0
"""Seconds between two rounds of upkeep."""
_END_S: Final = 2.0
_SIZE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([KMGT]?B)")
_UNITS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_DAY_NS: Final = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept; None for no limit."""

    days: float | None = None
    """Files whose last flow began earlier are deleted."""
    n_bytes: int | None = None
    """The oldest files are deleted until the others fit."""

    def expired(self, files: Sequence[RecordFile], now_ns: int) -> list[RecordFile]:
        """The files that are to be deleted.

        Args:
            files: of a folder, earliest first.
            now_ns: the time, ns since 1970 UTC.
        """
        own = [file for file in files if is_own_name(file.path.name)]
        gone = []
        if self.days is not None:
            limit = now_ns - int(self.days * _DAY_NS)
            gone = [file for file in own if file.last_ns is not None and file.last_ns < limit]
        if self.n_bytes is not None:
            left = [file for file in own if file not in gone]
            total = sum(file.n_bytes for file in left)
            while left and total > self.n_bytes:
                total -= left[0].n_bytes
                gone.append(left.pop(0))
        return gone


def expire(folder: RecordFolder, retention: Retention, now_ns: int) -> list[RecordFile]:
    """Deletes what is older or more than is kept; returns the deleted files."""
    gone = retention.expired(folder.scan()[0], now_ns)
    for file in gone:
        file.path.unlink(missing_ok=True)
    return gone


def compact(folder: RecordFolder, now_ns: int) -> int:
    """Merges small files that lie next to each other in time; returns the number of merged files.

    Args:
        folder: of records.
        now_ns: the time, ns since 1970 UTC; files that changed just before are left alone.

    Raises:
        OutputError: a merged file cannot be written.
    """
    _delete_merged(folder)
    files, _ = folder.scan()
    n = 0
    for run in _runs(files, now_ns):
        _merge(run)
        n += len(run)
    if n:
        _delete_merged(folder)
    return n


def _runs(files: Sequence[RecordFile], now_ns: int) -> Iterator[list[RecordFile]]:
    """Files that are merged into one, each a run."""
    settled_ns = now_ns - int(SETTLED_S * 1e9)
    run: list[RecordFile] = []
    for file in files:
        is_small = file.n_records < MERGED_RECORDS // 2 and is_own_name(file.path.name)
        if not is_small or file.modified_ns > settled_ns:
            continue
        run.append(file)
        if len(run) > 1 and sum(each.n_records for each in run) >= MERGED_RECORDS:
            yield run
            run = []
    if len(run) >= LEAST_FILES:
        yield run


def _merge(run: Sequence[RecordFile]) -> None:
    try:
        tables = [pq.ParquetFile(file.path).read() for file in run]
        table = pa.concat_tables(tables, promote_options="permissive")
        table = table.sort_by([order for order in MERGED_ORDER if order[0] in table.column_names])
    except (pa.ArrowException, OSError) as error:
        raise OutputError(f"{run[0].path}: cannot be merged: {error}") from error
    names = json.dumps([file.path.name for file in run])
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), MERGED_FROM: names})
    stem = run[0].path.name.removesuffix(".parquet").removesuffix("-merged")
    place = run[0].path.with_name(f"{stem}-merged.parquet")
    while place.exists():
        place = place.with_name(place.name.replace("-merged", "-x-merged"))
    with new_file(place, mode=PRIVATE) as stream:
        pq.write_table(table, stream, compression="zstd", row_group_size=ROW_GROUP_RECORDS)


def _delete_merged(folder: RecordFolder) -> None:
    """Deletes files whose records stand in a merged file."""
    for path in folder.superseded():
        path.unlink(missing_ok=True)


class Upkeep:
    """Looks after a folder of records in a separate thread; a context manager.

    Args:
        history: whose folder it is.
        retention: what is kept.
        merges: whether small files are merged and sums are made.
        say: called with one line for what was done, and for what failed.
    """

    def __init__(
        self,
        history: RecordHistory,
        retention: Retention,
        *,
        merges: bool,
        say: Callable[[str], None],
    ) -> None:
        self._history, self._retention, self._merges, self._say = history, retention, merges, say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_END_S)

    def once(self) -> None:
        """Does everything that is due now."""
        folder = self._history.folder
        gone = expire(folder, self._retention, time.time_ns())
        if gone:
            self._say(f"{folder.path}: {len(gone):,} old files deleted")
        if self._merges:
            merged = compact(folder, time.time_ns())
            if merged:
                self._say(f"{folder.path}: {merged:,} files merged")
            self._history.make_sums()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.once()
            except (ApptellError, OSError) as error:
                self._say(str(error))
            self._stop.wait(EVERY_S)


def parse_size(text: str) -> int:
    """Bytes, as in ``500MB`` or ``50GB``.

    Raises:
        UsageError: it is no size.
    """
    found = _SIZE.fullmatch(text.strip().upper())
    if found is None:
        raise UsageError(f"{text!r} is not a size such as 500MB or 50GB")
    return int(float(found[1]) * _UNITS[found[2]])
