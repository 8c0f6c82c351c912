"""Lists the Parquet files of records in a folder, with the times and sizes that their footers state.

A file that is damaged, that is a link, or that does not hold records is left out and named with the reason.
"""

from __future__ import annotations

import json
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from apptell.errors import OutputError, UsageError
from apptell.files import readable
from apptell.records.schema import LIVE_RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

GLOB_CHARACTERS: Final = frozenset("*?[")
"""Characters that DuckDB would expand in the name of a file."""
MERGED_FROM: Final = b"apptell.merged_from"
"""In the metadata of a merged file: the names of the files whose records it has, as JSON."""
_MOST_FILES: Final = 20_000
_REQUIRED: Final = ("time", "bytes_to_server", "bytes_to_client", "client_address")
_Stamp = tuple[int, int, int]


_OWN_NAME: Final = re.compile(r"apptell-[0-9]{8}T[0-9]{6}\.[0-9]{6}Z(?:(?:-x)*-merged)?\.parquet")


@dataclass(frozen=True, slots=True)
class RecordFile:
    """A readable Parquet file of records."""

    path: Path
    n_records: int
    first_ns: int | None
    """Earliest start of a flow, ns since 1970 UTC; None if the file does not state it."""
    last_ns: int | None
    """Latest start of a flow."""
    n_bytes: int
    modified_ns: int
    columns: frozenset[str]
    """Columns of ``LIVE_RECORD`` that it has."""
    merged_from: tuple[str, ...] = ()
    """Names of the files whose records it has as well."""

    def overlaps(self, from_ns: int | None, to_ns: int | None) -> bool:
        """Whether it may hold flows that began at ``from_ns`` or later and before ``to_ns``."""
        before = from_ns is not None and self.last_ns is not None and self.last_ns < from_ns
        after = to_ns is not None and self.first_ns is not None and self.first_ns >= to_ns
        return not (before or after)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is left out."""

    name: str
    reason: str


class RecordFolder:
    """A folder of record files. Footers are read once for each version of a file.

    Args:
        path: the folder; may be empty, and files may come and go at any time.

    Raises:
        UsageError: the path has characters that DuckDB would expand.
        OutputError: there is no such folder.
    """

    def __init__(self, path: Path) -> None:
        if GLOB_CHARACTERS.intersection(str(path.absolute())):
            raise UsageError(f"{path}: a folder of records cannot have *, ? or [ in its path")
        if not path.is_dir():
            raise OutputError(f"{path}: no such folder of records")
        self.path = path.absolute()
        self._known: dict[str, tuple[_Stamp, RecordFile | Unreadable]] = {}

    def scan(self) -> tuple[list[RecordFile], list[Unreadable]]:
        """The files of this moment: those that can be read, earliest first, and the others.

        Raises:
            OutputError: the folder cannot be listed, or holds too many files.
        """
        try:
            paths = sorted(p for p in self.path.iterdir() if p.name.endswith(".parquet"))
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}") from error
        if len(paths) > _MOST_FILES:
            raise OutputError(
                f"{self.path}: {len(paths):,} files, more than {_MOST_FILES:,}; compact them first"
            )
        known: dict[str, tuple[_Stamp, RecordFile | Unreadable]] = {}
        for path in paths:
            if path.name.startswith("."):
                continue  # still being written
            try:
                status = path.lstat()
            except OSError:
                continue  # gone since
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            before = self._known.get(path.name)
            known[path.name] = (
                before
                if before is not None and before[0] == stamp
                else (stamp, _read(path, status))
            )
        self._known = known
        found = [each for _, each in known.values()]
        files = [each for each in found if isinstance(each, RecordFile)]
        merged = _merged(files)
        files = [file for file in files if file.path.name not in merged]
        files.sort(key=lambda file: (file.first_ns or 0, file.path.name))
        return files, [each for each in found if isinstance(each, Unreadable)]

    def superseded(self) -> list[Path]:
        """Files whose records stand in a merged file too, and which are not read any more."""
        self.scan()
        found = [each for _, each in self._known.values()]
        files = [each for each in found if isinstance(each, RecordFile)]
        merged = _merged(files)
        return [file.path for file in files if file.path.name in merged]


def is_own_name(name: str) -> bool:
    """Whether ``live`` or a merge gave a file its name; not a download that was saved there, for example."""
    return _OWN_NAME.fullmatch(name) is not None


def _merged(files: Iterable[RecordFile]) -> set[str]:
    """Names of files whose records stand in a merged file."""
    return {
        name
        for file in files
        for name in file.merged_from
        if is_own_name(name) and name != file.path.name
    }


def _read(path: Path, status: Any) -> RecordFile | Unreadable:
    name = readable(path.name)
    if not stat.S_ISREG(status.st_mode):
        return Unreadable(name, "not a regular file")
    if name != path.name:
        return Unreadable(name, "its name is not UTF-8")
    if GLOB_CHARACTERS.intersection(path.name):
        return Unreadable(name, "its name has one of the characters * ? [")
    try:
        with pq.ParquetFile(path) as file:
            wrong = _misfit(file.schema_arrow)
            if wrong:
                return Unreadable(name, wrong)
            first, last = _times(file.metadata, file.schema_arrow)
            columns = frozenset(LIVE_RECORD.names).intersection(file.schema_arrow.names)
            n_records = file.metadata.num_rows
            merged = _names((file.schema_arrow.metadata or {}).get(MERGED_FROM))
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        return Unreadable(name, " ".join(str(error).split())[:200])
    return RecordFile(
        path, n_records, first, last, status.st_size, status.st_mtime_ns, columns, merged
    )


def _names(text: bytes | None) -> tuple[str, ...]:
    if text is None:
        return ()
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError("its list of merged files is not a list of names")
    return tuple(found)


def _misfit(schema: pa.Schema) -> str:
    """Why a file does not hold records; empty if it does."""
    names = schema.names
    if len(set(names)) != len(names):
        return "two columns have the same name"
    for name in _REQUIRED:
        if name not in names:
            return f"not records of apptell: no column {name}"
    for field in LIVE_RECORD:
        if field.name in names and not _is_alike(schema.field(field.name).type, field.type):
            found = schema.field(field.name).type
            return f"not records of apptell: {field.name} is {found}, not {field.type}"
    return ""


def _is_alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_null(found):
        return True
    for kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean):
        if kind(wanted):
            return bool(kind(found))
    if pa.types.is_timestamp(wanted):
        return bool(pa.types.is_timestamp(found)) and found.tz is not None
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found))


def _times(metadata: Any, schema: pa.Schema) -> tuple[int | None, int | None]:
    """Earliest and latest ``time`` by the statistics of row groups, ns since 1970 UTC."""
    column = schema.names.index("time")
    unit = schema.field("time").type.unit
    lows, highs = [], []
    for i in range(metadata.num_row_groups):
        statistics = metadata.row_group(i).column(column).statistics
        if statistics is None or not statistics.has_min_max:
            return None, None
        lows.append(statistics.min_raw)
        highs.append(statistics.max_raw)
    factor = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    if not lows or not all(isinstance(value, int) for value in (*lows, *highs)):
        return None, None
    return min(lows) * factor, max(highs) * factor


def totals(files: Iterable[RecordFile]) -> dict[str, int | None]:
    """Files, records, bytes, and the earliest and latest start of a flow."""
    listed = list(files)
    firsts = [file.first_ns for file in listed if file.first_ns is not None]
    lasts = [file.last_ns for file in listed if file.last_ns is not None]
    return {
        "files": len(listed),
        "records": sum(file.n_records for file in listed),
        "bytes": sum(file.n_bytes for file in listed),
        "first_ns": min(firsts, default=None),
        "last_ns": max(lasts, default=None),
    }
