"""A table of (time, 5-tuple, app) beside a capture, as CSV or JSON lines, and Zeek's conn.log.

The caller maps meanings to columns: ``time=ts,app=package,...``. Zeek's own names are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from apptell.errors import LabelError, UsageError
from apptell.labels import fields
from apptell.labels.format import LogFormat
from apptell.labels.log import protocol_number
from apptell.labels.naming import label_text
from apptell.labels.text_files import TextFile, csv_records, json_object, text_lines

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import tzinfo
    from pathlib import Path

    from apptell.labels.log import Lines
    from apptell.labels.options import LabelOptions

MEANINGS: Final = (
    "time", "end", "duration", "protocol", "source", "source_port", "target", "target_port", "app",
)  # fmt: skip
"""What a column can mean; ``end``, ``duration`` and ``protocol`` may be absent."""
_NEEDED: Final = ("time", "source", "source_port", "target", "target_port", "app")
ZEEK: Final = {
    "time": "ts",
    "duration": "duration",
    "protocol": "proto",
    "source": "id.orig_h",
    "source_port": "id.orig_p",
    "target": "id.resp_h",
    "target_port": "id.resp_p",
    "app": "app",
}
_ABSENT: Final = ("", "-", "(empty)", "null", "None", "NULL")
_MAX_ADDRESS_CHARS: Final = 64
_MAX_COLUMNS: Final = 100
"""Names of columns that are remembered and shown."""


class TableLog(LogFormat):
    """A table whose columns the user has named."""

    name: ClassVar[str] = "table"
    files: ClassVar[str] = (
        "captures with a table (.csv, .jsonl, .txt) of times, addresses, ports and apps beside them"
    )
    is_start: ClassVar[bool | None] = None

    def is_log(self, log: TextFile, options: LabelOptions) -> bool:
        """Whether the user asks for tables, or a column that the user names stands in the first line."""
        if options.kind == self.name:
            return True
        named = any(column in log.first_line for column in options.columns.values())
        return named and not _is_zeek(log.head)

    def read_log(self, path: Path, lines: Lines, options: LabelOptions) -> None:
        """Adds the rows of a table."""
        read_table(path, lines, options.columns, options.zone, options.rename)


class ZeekLog(LogFormat):
    """Zeek's conn.log with a column of apps, in tabs or as JSON lines."""

    name: ClassVar[str] = "zeek"
    files: ClassVar[str] = "captures with a Zeek log that has a column app beside them"
    is_start: ClassVar[bool | None] = None

    def is_log(self, log: TextFile, options: LabelOptions) -> bool:  # noqa: ARG002
        """Whether it begins with Zeek's own head, or with a JSON line of conn.log."""
        return _is_zeek(log.head)

    def read_log(self, path: Path, lines: Lines, options: LabelOptions) -> None:
        """Adds the connections of a log."""
        read_table(path, lines, {**ZEEK, **options.columns}, options.zone, options.rename)


def parse_columns(text: str) -> dict[str, str]:
    """``time=ts,app=package`` as a mapping.

    Raises:
        UsageError: a part is not MEANING=COLUMN.
    """
    columns = {}
    for part in text.split(","):
        meaning, equals, column = part.partition("=")
        if not equals or meaning.strip() not in MEANINGS or not column.strip():
            known = ", ".join(MEANINGS)
            raise UsageError(f"columns: {part!r} is not MEANING=COLUMN; meanings are {known}")
        columns[meaning.strip()] = column.strip()
    return columns


def _is_zeek(head: str) -> bool:
    return head.startswith("#separator") or ('"id.orig_h"' in head and head.startswith("{"))


def read_table(
    path: Path,
    lines: Lines,
    columns: Mapping[str, str],
    zone: tzinfo | None = None,
    rename: Mapping[str, str] | None = None,
) -> None:
    """Adds the rows of a table; rows without time, tuple or app in order are passed over.

    Args:
        path: CSV (the delimiter is detected), JSON lines, or a Zeek log in tabs.
        lines: what they are added to.
        columns: meaning to column name; absent ones have the meaning's own name.
        zone: of times that name none; None takes UTC.
        rename: label to label.

    Raises:
        LabelError: the file cannot be read, or has no such column.
    """
    names = {meaning: columns.get(meaning, meaning) for meaning in MEANINGS}
    needed = [names[need] for need in _NEEDED]
    head = TextFile(path).head
    if head.startswith("{"):
        rows = _json_rows(path, lines, needed)
    elif head.startswith("#separator"):
        rows = _tab_rows(path, needed)
    else:
        rows = _csv_rows(path, max(",;\t|", key=head.split("\n", 1)[0].count), needed)
    for number, row in rows:
        try:
            _add(lines, {m: row.get(column) for m, column in names.items()}, zone, rename or {})
        except ValueError as error:
            lines.pass_over(number, error)


def _csv_rows(
    path: Path, delimiter: str, needed: list[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and cells of each record, by column name."""
    records = csv_records(text_lines(path), delimiter)
    names = next(records, [])
    _check_columns(path, names, needed)
    for number, record in enumerate(records, 2):
        if any(record):
            yield number, dict(zip(names, record, strict=False))


def _tab_rows(path: Path, needed: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    names: list[str] = []
    for number, line in enumerate(text_lines(path), 1):
        if line.startswith("#fields"):
            names = line.split("\t")[1:]
            _check_columns(path, names, needed)
        elif not line.startswith("#") and line.strip():
            yield number, dict(zip(names, line.split("\t"), strict=False))


def _json_rows(path: Path, lines: Lines, needed: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects may lack a column each; a column that all lack is the user's mistake."""
    there: set[str] = set()
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json_object(line)
        except ValueError as error:
            lines.pass_over(number, error)
            continue
        if len(there) < _MAX_COLUMNS:
            there.update(row)
        yield number, row
    if there:
        _check_columns(path, there, needed)


def _check_columns(path: Path, there: Collection[str], needed: list[str]) -> None:
    missing = [name for name in needed if name not in there]
    if missing:
        have = ", ".join(sorted(there)[:_MAX_COLUMNS])
        raise LabelError(f"{path}: no column {missing[0]!r}; the columns are {have}")


def _add(
    lines: Lines, row: Mapping[str, Any], zone: tzinfo | None, rename: Mapping[str, str]
) -> None:
    first = fields.time_ns(row["time"], zone)
    last = first
    if not _is_absent(row["end"]):
        last = fields.time_ns(row["end"], zone)
    elif not _is_absent(row["duration"]):
        last = first + fields.duration_ns(row["duration"])
    app = None if _is_absent(row["app"]) else label_text(str(row["app"]))
    ends = [_end(row["source"], row["source_port"]), _end(row["target"], row["target_port"])]
    word = "" if _is_absent(row["protocol"]) else str(row["protocol"])
    known = None if app is None else rename.get(app, app)
    lines.add(first, last, protocol_number(word), ends[0], ends[1], known)


def _end(address: Any, port: Any) -> tuple[str, int]:
    if not isinstance(address, str) or not 0 < len(address) <= _MAX_ADDRESS_CHARS:
        raise ValueError(f"{str(address)[:_MAX_ADDRESS_CHARS]!r} is not an address")
    return address, fields.integer(port, 0, fields.MAX_PORT)


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value in _ABSENT)
