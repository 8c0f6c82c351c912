"""CESNET-TLS22, CESNET-QUIC22 and CESNET-TLS-Year22: flow records with the lengths and gaps of first packets.

A day is a file ``flows-YYYYMMDD.csv``, compressed or not, or a table ``/flows/DYYYYMMDD`` of the HDF5 file that
``cesnet-datazoo`` downloads. In both the column ``PPI`` has, for each of the first 30 packets, the gap in ms,
the direction (1 to the server, -1 to the client) and the payload's size.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from apptell.errors import LabelError, MissingError, needs_extra
from apptell.labels import fields
from apptell.labels.format import Candidate, LabelFormat
from apptell.labels.naming import plain, plain_text
from apptell.labels.sequences import (
    MALFORMED,
    MAX_GAP_US,
    MAX_LENGTH,
    SequenceFile,
    first_id,
    sequence_flows,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from apptell.flows.schema import FlowBatch

_DAY_FILE: Final = re.compile(r"flows-(\d{8})\.csv(?:\.(?:gz|xz|bz2))?")
_DAY_TABLE: Final = re.compile(r"D(\d{8})")
_DATABASE: Final = (".h5", ".hdf5")
_TIME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2})[:-](\d{2})[:-](\d{2}(?:\.\d{1,9})?)")
"""The description of the data writes the time of day with dashes, the files with colons."""
_BACKGROUND: Final = "-background"
_NEEDED: Final = ("PPI", "APP")
_COLUMNS: Final = (
    *_NEEDED, "CATEGORY", "TIME_FIRST", "SRC_IP", "DST_IP", "SRC_PORT", "DST_PORT", "PROTOCOL",
)  # fmt: skip
_BLOCK_BYTES: Final = 1 << 22
_ROWS: Final = 16_384
_MAX_PPI_BYTES: Final = 8 * 4 * 256
"""Of one flow; the published tables have 2 bytes for each of 3 or 4 x 30 numbers."""


class Cesnet(LabelFormat):
    """A day of flow records as CSV, or a database of days."""

    name: ClassVar[str] = "cesnet"
    files: ClassVar[str] = (
        "the files of a CESNET dataset: flows-YYYYMMDD.csv, compressed or not, "
        "or the HDF5 file of cesnet-datazoo"
    )

    def detect(self, candidate: Candidate) -> bool:
        """Whether its name and its first bytes are those of a day, or of a database."""
        path = candidate.path
        if not path.is_file():
            return False
        if path.suffix in _DATABASE:
            with path.open("rb") as stream:
                return stream.read(8) == b"\x89HDF\r\n\x1a\n"
        return _DAY_FILE.fullmatch(path.name) is not None and _is_day(path)

    def read(self, candidate: Candidate) -> Iterator[SequenceFile]:
        """The file's flows."""
        path, options = candidate.path, candidate.options
        if not path.is_file():
            return
        if path.suffix in _DATABASE:
            read = read_database
        elif _DAY_FILE.fullmatch(path.name):
            read = read_day
        else:
            return
        yield SequenceFile(path, candidate.name, self.name, read, options.groups, options.rename)


def read_day(path: Path, dropped: Counter[str]) -> Iterator[FlowBatch]:
    """The flows of one day's CSV; a day without flows is an empty file.

    Raises:
        LabelError: the file cannot be read, or lacks a column.
    """
    match = _DAY_FILE.fullmatch(path.name)
    day = _Day(path, match[1] if match else "")
    try:
        with pa.input_stream(str(path)) as stream:  # decompressed by the name's suffix
            names = _header(path)
            if names is None:
                return
            if missing := [name for name in _NEEDED if name not in names]:
                raise LabelError(f"{path}: no column {missing[0]!r}")
            kept = [name for name in _COLUMNS if name in names]

            def passed_over(_row: object) -> str:
                dropped[MALFORMED] += 1
                return "skip"

            table = pa_csv.open_csv(
                stream,
                # The columns that are read are ASCII; as Latin-1, other bytes cannot stop the reader.
                pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False, encoding="latin-1"),
                pa_csv.ParseOptions(invalid_row_handler=passed_over),
                pa_csv.ConvertOptions(
                    include_columns=kept,
                    column_types=dict.fromkeys(kept, pa.string()),
                ),
            )
            for batch in table:
                columns = {name: batch.column(name).to_pylist() for name in kept}
                day.add(
                    ({name: columns[name][row] for name in kept} for row in range(len(batch))),
                    dropped,
                )
                yield from day.flows()
    except (pa.ArrowException, OSError, UnicodeDecodeError, EOFError) as error:
        raise LabelError(f"{path}: not a day of CESNET's flows: {_first_line(error)}") from error


def read_database(path: Path, dropped: Counter[str]) -> Iterator[FlowBatch]:
    """The flows of every day in an HDF5 file of ``cesnet-datazoo``.

    Raises:
        MissingError: h5py is not installed, or a table is compressed by a filter that is not installed.
        LabelError: the file cannot be read, or has no table of flows.
    """
    with needs_extra("hdf5", f"{path.name}: HDF5"):
        import h5py
    with suppress(ModuleNotFoundError):
        import hdf5plugin  # noqa: F401 - reads tables that are compressed by Blosc
    try:
        with h5py.File(path, "r") as file:
            group = file.get("flows")
            names = sorted(group) if isinstance(group, h5py.Group) else []
            days = [name for name in names if _DAY_TABLE.fullmatch(name)]
            if not days:
                raise LabelError(f"{path}: no tables /flows/DYYYYMMDD of CESNET's flows")
            first = 0
            for name in days:
                day = _Day(path, name[1:], first)
                for rows in _table_rows(group[name], f"{path}: /flows/{name}"):
                    day.add(rows, dropped)
                    yield from day.flows()
                first += day.row
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise LabelError(
            f"{path}: not a database of CESNET's flows: {_first_line(error)}"
        ) from error


def _table_rows(table: Any, place: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The rows of a table of PyTables, some thousands at a time.

    PyTables itself is not used, because it unpickles attributes, by which a file could run code. Columns of its
    type for times cannot be read by others and are left out.

    Raises:
        MissingError: the table is compressed by a filter that is not installed.
        LabelError: the table lacks a column.
    """
    import h5py

    kind = table.id.get_type()
    members = {
        kind.get_member_name(i).decode(): kind.get_member_type(i)
        for i in range(kind.get_nmembers() if isinstance(kind, h5py.h5t.TypeCompoundID) else 0)
    }
    kinds = {
        name: members[name].dtype
        for name in _COLUMNS
        if name in members and not isinstance(members[name], h5py.h5t.TypeTimeID)
    }
    if missing := [name for name in _NEEDED if name not in kinds]:
        raise LabelError(f"{place}: no column {missing[0]!r}")
    if kinds["PPI"].itemsize > _MAX_PPI_BYTES or len(table.shape) != 1:
        raise LabelError(f"{place}: not a table of flows")
    words = {name: h5py.check_enum_dtype(kind) for name, kind in kinds.items()}
    enums = {name: {v: word for word, v in each.items()} for name, each in words.items() if each}
    wanted = np.dtype(list(kinds.items()))
    filters = table.id.get_create_plist()
    for code in (filters.get_filter(i)[0] for i in range(filters.get_nfilters())):
        if not h5py.h5z.filter_avail(code):
            raise MissingError(
                f"{place}: HDF5 filter {code} (Blosc has 32001 and 32026) is not installed: "
                "pip install hdf5plugin"
            )
    space = table.id.get_space()
    for begin in range(0, len(table), _ROWS):
        rows = np.zeros(min(_ROWS, len(table) - begin), dtype=wanted)
        space.select_hyperslab((begin,), rows.shape)
        table.id.read(h5py.h5s.create_simple(rows.shape), space, rows, h5py.h5t.py_create(wanted))
        yield (_database_row(row, list(kinds), enums) for row in rows)


def _database_row(
    row: Any, kept: list[str], enums: Mapping[str, Mapping[int, str]]
) -> dict[str, Any]:
    """A row as the CSV has it: words for numbers, text for bytes; padding of PPI is 0 and stays."""
    found: dict[str, Any] = {}
    for name in kept:
        value = row[name]
        if name in enums:
            found[name] = enums[name].get(int(value))
        elif isinstance(value, bytes):
            found[name] = value.decode("utf-8", "replace")
        else:
            found[name] = value if name == "PPI" else value.item()
    return found


@dataclass(slots=True)
class _Day:
    """Collects the flows of a day."""

    path: Path
    date: str
    first: int = 0
    """Rows of the file before this day."""
    row: int = 0
    rows: list[_Record] = field(default_factory=list)

    def add(self, rows: Iterator[dict[str, Any]], dropped: Counter[str]) -> None:
        """Adds rows; those that are not records are counted."""
        for row in rows:
            try:
                self.rows.append(_record(self.row, row))
            except (ValueError, TypeError, IndexError, RecursionError, OverflowError):
                dropped[MALFORMED] += 1
            self.row += 1

    def flows(self) -> Iterator[FlowBatch]:
        """The flows of the rows that were added since; those without a time begin when their day does."""
        rows, self.rows = self.rows, []
        if not rows:
            return
        begin_ns = _date_ns(self.date)
        said = {
            "day": [self.date or None] * len(rows),
            "category": [row.category for row in rows],
        }
        numbers = np.array([self.first + row.number for row in rows], dtype=np.uint64)
        starts = [begin_ns if row.start_ns is None else row.start_ns for row in rows]
        yield sequence_flows(
            self.path.name.split(".")[0],
            Cesnet.name,
            first_id(self.path) + numbers,
            np.array(starts, dtype=np.int64),
            pa.array([row.length for row in rows], pa.list_(pa.int32())),
            pa.array([row.gap_us for row in rows], pa.list_(pa.int64())),
            pa.array([row.label for row in rows], pa.string()),
            {key: pa.array(values, pa.string()) for key, values in said.items() if any(values)},
            (row.ends for row in rows),
        )


@dataclass(frozen=True, slots=True)
class _Record:
    number: int
    start_ns: int | None
    ends: tuple[str | None, int | None, str | None, int | None, int | None]
    length: list[int]
    gap_us: list[int]
    label: str | None
    category: str | None


def _record(number: int, row: dict[str, Any]) -> _Record:
    ppi = json.loads(row["PPI"]) if isinstance(row["PPI"], str) else row["PPI"]
    gap_ms, direction, size = (np.asarray(values, dtype=np.int64) for values in list(ppi)[:3])
    if not gap_ms.ndim == 1 or not gap_ms.shape == direction.shape == size.shape:
        raise ValueError("PPI is not three lists of one length")
    if (gap_ms < 0).any() or (gap_ms > MAX_GAP_US // 1000).any() or (abs(direction) > 1).any():
        raise ValueError("a gap or a direction is out of range")
    if (size < 0).any() or (size > MAX_LENGTH).any():
        raise ValueError("a size is out of range")
    time_us = np.cumsum(gap_ms) * 1000
    kept = np.flatnonzero((size > 0) & (direction != 0))  # padding has the direction 0
    gap_us = np.diff(time_us[kept], prepend=time_us[kept][:1])
    app = plain(row["APP"])
    return _Record(
        number,
        _start_ns(row.get("TIME_FIRST")),
        (
            _address(row.get("SRC_IP")),
            _number(row.get("SRC_PORT"), fields.MAX_PORT),
            _address(row.get("DST_IP")),
            _number(row.get("DST_PORT"), fields.MAX_PORT),
            _number(row.get("PROTOCOL"), fields.MAX_PROTOCOL),
        ),
        (size * direction)[kept].tolist(),
        gap_us.tolist(),
        "other" if app is not None and app.endswith(_BACKGROUND) else app,
        plain_text(row.get("CATEGORY")),
    )


def _start_ns(value: Any) -> int | None:
    """Seconds since 1970, or a date and time in UTC without a zone; None where there is none."""
    if value in (None, ""):
        return None
    match = _TIME.fullmatch(str(value))
    if match is None:
        return fields.time_ns(value)
    return fields.time_ns(f"{match[1]}T{match[2]}:{match[3]}:{match[4]}")


def _date_ns(date: str) -> int:
    """The begin of ``YYYYMMDD`` in UTC; 0 for no date."""
    try:
        return max(fields.moment_ns(datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC)), 0)
    except ValueError:
        return 0


def _address(value: Any) -> str | None:
    """An address; None for the identifiers that later data sets have instead."""
    try:
        return str(ip_address(str(value)))
    except ValueError:
        return None


def _number(value: Any, most: int) -> int | None:
    return None if value in (None, "") else fields.integer(value, 0, most)


def _header(path: Path) -> list[str] | None:
    """The names of the columns of a day's CSV; None for an empty file."""
    with pa.input_stream(str(path)) as stream:
        head = bytes(stream.read(4096))
    if not head:
        return None
    return head.split(b"\n", 1)[0].decode("utf-8", "replace").strip("\r\ufeff").split(",")


def _is_day(path: Path) -> bool:
    try:
        names = _header(path)
    except (OSError, pa.ArrowException):
        return False
    return names is None or set(_NEEDED) <= set(names)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
