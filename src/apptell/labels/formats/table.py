"""A table of (time, 5-tuple, app) enters, as CSV, JSON lines or Zeek's conn.log; a log leaves.

Which column means what is said by the caller: ``time=ts,app=package,...``. Zeek's own names are known.
"""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, tzinfo
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import LabelError, UsageError
from apptell.labels.log import PROTOCOLS, Lines
from apptell.labels.naming import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import TextIO

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


def is_zeek(head: str) -> bool:
    """Whether a file's first line begins a Zeek log in tabs, or a JSON line of conn.log."""
    return head.startswith("#separator") or ('"id.orig_h"' in head and head.startswith("{"))


def read_table(path: Path, columns: Mapping[str, str], zone: tzinfo | None = None) -> Lines:
    """The rows of a table; rows without time, tuple or app in order are counted in ``n_bad``.

    Args:
        path: CSV (delimiter found out), JSON lines, or a Zeek log in tabs.
        columns: meaning to column name; absent ones have the meaning's own name.
        zone: of times that name none; None takes UTC.

    Raises:
        LabelError: the file cannot be read, or has no such column.
    """
    names = {meaning: columns.get(meaning, meaning) for meaning in MEANINGS}
    lines = Lines()
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            there: set[str] | None = None
            for row in _rows(file, lines):
                if there is None:
                    there = set(row)
                    missing = [names[need] for need in _NEEDED if names[need] not in there]
                    if missing:
                        have = ", ".join(sorted(map(str, there)))
                        raise LabelError(f"{path}: no column {missing[0]!r}; there are {have}")
                try:
                    _add(lines, {m: row.get(column) for m, column in names.items()}, zone)
                except (ValueError, TypeError, OverflowError):
                    lines.n_bad += 1
    except (OSError, csv.Error) as error:
        raise LabelError(f"{path}: cannot be read: {error}") from error
    return lines


def is_start_only(lines: Lines) -> bool:
    """Whether the table says only when connections began: no ends, and hardly a tuple twice."""
    if any(last > first for first, last in zip(lines.first_ns, lines.last_ns, strict=True)):
        return False
    ends = zip(lines.address_a, lines.port_a, lines.address_b, lines.port_b, strict=True)
    return len(set(ends)) > 0.7 * len(lines.app)


def _rows(file: TextIO, lines: Lines) -> Iterator[dict[str, Any]]:
    head = file.readline()
    file.seek(0)
    if head.startswith("{"):
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                lines.n_bad += 1
                continue
            if isinstance(row, dict):
                yield row
    elif head.startswith("#separator"):
        names: list[str] = []
        for line in file:
            if line.startswith("#fields"):
                names = line.rstrip("\r\n").split("\t")[1:]
            elif not line.startswith("#") and line.strip():
                yield dict(zip(names, line.rstrip("\r\n").split("\t"), strict=False))
    else:
        delimiter = max(",;\t|", key=head.count)
        yield from csv.DictReader(file, delimiter=delimiter)


def _add(lines: Lines, row: Mapping[str, Any], zone: tzinfo | None) -> None:
    first = time_ns(row["time"], zone)
    last = first
    if str(row["end"]) not in _ABSENT:
        last = time_ns(row["end"], zone)
    elif str(row["duration"]) not in _ABSENT:
        last = first + round(float(row["duration"]) * 1e9)
    app = None if str(row["app"]) in _ABSENT else label_text(str(row["app"]))
    word = "" if str(row["protocol"]) in _ABSENT else str(row["protocol"]).lower()
    ports = int(row["source_port"]), int(row["target_port"])
    if not all(0 <= port < 65536 for port in ports):
        raise ValueError("no port")
    lines.add(
        first,
        max(first, last),
        PROTOCOLS.get(word, 255) if word else 0,
        (str(row["source"]), ports[0]),
        (str(row["target"]), ports[1]),
        app,
    )


def label_text(text: str) -> str | None:
    """``App/Activity`` as a label: each part plain, at most one activity."""
    app, _, activity = text.partition("/")
    parts = [part for part in (plain(app), plain(activity)) if part]
    return "/".join(parts) or None


def time_ns(value: Any, zone: tzinfo | None = None) -> int:
    """A time in ns since 1970 UTC, from seconds, ms, us or ns (told by size) or ISO 8601.

    A time of ISO 8601 that names no zone is in ``zone``, or UTC.

    Raises:
        ValueError: it is none of these.
    """
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        parsed = datetime.fromisoformat(text)
        parsed = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=zone or UTC)
        return round(parsed.timestamp() * 1_000_000) * 1000
    for scale in (1_000_000_000, 1_000_000, 1000, 1):
        if abs(number) * scale < 1e19:  # the year 2286
            # Fraction: a float of ns since 1970 is right to 200 ns only
            return int(Fraction(text) * scale)
    raise ValueError("no time")
