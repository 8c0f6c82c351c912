"""Writes records as a table for people, one line for each record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich.text import Text

from apptell.records.terminal import TerminalConsole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import tzinfo

    import pyarrow as pa

_PLAIN_WIDTH: Final = 132
"""Characters of a line when the table does not go to a terminal."""
_LEAST_REST: Final = 12
"""Characters of the column that takes what is left of the line, at least."""
_GOOD_REST: Final = 30
"""Characters for which a narrow terminal goes without columns."""
_ROW = dict[str, Any]
_TIME_TEXT: Final = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    width: int
    """Characters; 0 takes what is left of the line."""
    text: Callable[[_ROW], str]
    """What a record shows."""
    right: bool = False
    """Whether it stands at the right edge."""
    is_whole: Callable[[_ROW], bool] = lambda _: False
    """Whether a record's text is never cut; the column is as wide as such texts of the first records are."""
    style: Callable[[_ROW], str] = lambda _: ""
    """A Rich style for a record."""
    short: Callable[[str], str] | None = None
    """A shorter text, for terminals on which the table is too wide."""
    spare: int = 0
    """When such a terminal goes without the column: 1 first; 0 for never, unless it is empty."""


class TableWriter:
    """Writes a heading, then one line for each record.

    On a terminal on which the first records do not fit, columns that are empty in them are left out, then times
    are shortened, then columns are left out in the order of ``Column.spare``. Names are cut last, and numbers
    and addresses never.
    """

    def __init__(self, stream: TextIO, columns: Sequence[Column]) -> None:
        """Begins a table; the heading is written with the first records."""
        self._console = TerminalConsole(stream, soft_wrap=True)
        self._width = self._console.width if self._console.is_terminal else _PLAIN_WIDTH
        self._columns = [(column, column.width) for column in columns]
        self._begun = False

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes some records."""
        rows = batch.to_pylist()
        if not self._begun:
            self._begun = True
            if self._console.is_terminal and rows:
                self._columns = _narrowed(self._columns, rows, self._width)
            fixed = sum(width for _, width in self._columns) + 2 * (len(self._columns) - 1)
            rest = max(self._width - fixed, _LEAST_REST)
            self._columns = [
                (c, max([w or rest, *(len(c.text(row)) for row in rows if c.is_whole(row))]))
                for c, w in self._columns
            ]
            self._line([(c.title, w, c.right, "bold") for c, w in self._columns])
        for row in rows:
            self._line([_cell(c, w, row) for c, w in self._columns])

    def close(self) -> None:
        """Does nothing, because all records are written."""
        self._console.file.flush()

    def _line(self, cells: list[tuple[str, int, bool, str]]) -> None:
        line = Text()
        for number, (shown, width, right, style) in enumerate(cells):
            last = number == len(cells) - 1
            padded = shown.rjust(width) if right else shown if last else shown.ljust(width)
            line.append(padded, style)
            if not last:
                line.append("  ")
        self._console.print(line)


def _cell(column: Column, width: int, row: _ROW) -> tuple[str, int, bool, str]:
    text = column.text(row)
    shown = text if column.right or column.is_whole(row) else fit(text, width)
    return shown, width, column.right, column.style(row)


def _narrowed(
    columns: list[tuple[Column, int]], rows: list[_ROW], most: int
) -> list[tuple[Column, int]]:
    """The columns, and their widths, with which records fit into a line of ``most`` characters, if any do."""

    def wanted(column: Column, width: int) -> int:
        whole = max((len(column.text(row)) for row in rows if column.is_whole(row)), default=0)
        return max(width or min(_longest(column, rows), _GOOD_REST), whole)

    def is_wide() -> bool:
        return sum(wanted(*each) for each in columns) + 2 * (len(columns) - 1) > most

    if is_wide():
        columns = [(c, w) for c, w in columns if any(c.text(row) for row in rows)]
    if is_wide():
        columns = [(_shortened(c), w) for c, w in columns]
        columns = [(c, w and min(w, max(len(c.title), _longest(c, rows)))) for c, w in columns]
    for spare in sorted({c.spare for c, _ in columns} - {0}):
        if is_wide():
            columns = [(c, w) for c, w in columns if c.spare != spare]
    return columns


def _longest(column: Column, rows: list[_ROW]) -> int:
    return max(len(column.text(row)) for row in rows)


def _shortened(column: Column) -> Column:
    short, text = column.short, column.text
    return column if short is None else replace(column, text=lambda row: short(text(row)))


def fit(text: str, width: int) -> str:
    """Text that fits: unprintable characters (a server name may hold any) as ?, the middle cut."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    if len(shown) <= width:
        return shown
    head = (width - 1) // 2
    return f"{shown[:head]}…{shown[len(shown) - (width - 1 - head) :]}"


def human_bytes(n_bytes: float) -> str:
    """A number of bytes for people: ``999 B``, ``1.2 kB``, ``3.4 MB``; decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def _time(time: Any) -> str:
    if isinstance(time, int):
        time = datetime.fromtimestamp(time // 1_000_000_000, UTC)
    return str(time.strftime(_TIME_TEXT))


def _time_of_day(text: str) -> str:
    return text[len("2026-01-01 ") :]


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _app_style(row: _ROW) -> str:
    return "dim" if row["app"] is None or row["app"] == "other" else "bold green"


def _server(row: _ROW) -> str:
    return _server_name(row) or _endpoint(row["server_address"], row["server_port"])


def _server_name(row: _ROW) -> str | None:
    """The most informative name of a server."""
    name: str | None = row["server_name"] or row["http_host"] or row["dns_name"]
    return name


def _app(row: _ROW) -> str:
    """The app, or what else is known."""
    guess = f"({row['best_guess']}?)" if row["best_guess"] else "-"
    return row["app_name"] or row["app"] or row["service"] or guess


def _flow_server(row: _ROW) -> str:
    name: str | None = row.get("server_name")
    return name or _endpoint(row["server_address"], row["server_port"])


def _is_always(_: _ROW) -> bool:
    return True


_CLIENT: Final = Column(
    "client",
    21,
    lambda r: _endpoint(r["client_address"], r["client_port"]),
    is_whole=_is_always,
)


def in_zone(columns: Sequence[Column], zone: tzinfo, name: str) -> tuple[Column, ...]:
    """The same columns with times in a time zone.

    Args:
        columns: those of a table, whose first one is the time.
        zone: the time zone.
        name: how the heading names it.
    """
    text = columns[0].text

    def local(row: _ROW) -> str:
        time = datetime.strptime(text(row), _TIME_TEXT).replace(tzinfo=UTC)
        return time.astimezone(zone).strftime(_TIME_TEXT)

    title = f"time ({name})"
    return (replace(columns[0], title=title, text=local, width=max(19, len(title))), *columns[1:])


def _kind_of_service(record: _ROW) -> str:
    """What kind of service a flow without an app went to, as ``--category`` selects it."""
    return (record["service_kind"] or "") if record["app"] is None else ""


_CATEGORY: Final = Column(
    "category", 12, lambda r: r["category"] or _kind_of_service(r), style=_app_style, spare=2
)

VERDICT_COLUMNS: Final[tuple[Column, ...]] = (
    Column("time (UTC)", 19, lambda r: _time(r["time"]), style=lambda _: "dim", short=_time_of_day),
    _CLIENT,
    Column("proto", 5, lambda r: r["protocol"], style=lambda _: "dim", spare=1),
    Column("server", 0, _server, is_whole=lambda r: not _server_name(r)),
    Column("app or service", 20, _app, style=_app_style),
    _CATEGORY,
    Column("evidence", 8, lambda r: r["evidence"] or "", style=lambda _: "dim", spare=3),
    Column(
        "confidence",
        10,
        lambda r: "" if r["confidence"] is None else f"{r['confidence']:.3f}",
        right=True,
        style=_app_style,
    ),
)
"""What ``identify`` shows on a terminal."""

EXPLAINED_COLUMNS: Final[tuple[Column, ...]] = (
    _CLIENT,
    Column("server", 32, _server),
    Column("app or service", 20, _app, style=_app_style),
    Column("evidence", 8, lambda r: r["evidence"] or "", style=lambda _: "dim"),
    Column("reason", 0, lambda r: r["reason"] or "", is_whole=_is_always),
)
"""What ``identify --explain`` shows on a terminal."""

FLOW_COLUMNS: Final[tuple[Column, ...]] = (
    Column(
        "time (UTC)",
        19,
        lambda r: _time(r["time"] if "time" in r else r["start_ns"]),
        style=lambda _: "dim",
        short=_time_of_day,
    ),
    _CLIENT,
    Column("server", 0, _flow_server, is_whole=lambda r: not r.get("server_name")),
    Column(
        "packets", 8, lambda r: str(r["packets_to_server"] + r["packets_to_client"]), right=True
    ),
    Column(
        "payload",
        8,
        lambda r: str(r["payload_packets_to_server"] + r["payload_packets_to_client"]),
        right=True,
        spare=3,
    ),
    Column(
        "bytes",
        9,
        lambda r: human_bytes(r["bytes_to_server"] + r["bytes_to_client"]),
        right=True,
    ),
    Column("client by", 9, lambda r: r["client_by"] or "", spare=1),
    Column("ended by", 9, lambda r: r["end_reason"] or "", spare=2),
)
"""What ``flows`` shows on a terminal."""

SUMMARY_COLUMNS: Final[tuple[Column, ...]] = (
    Column(
        "client",
        39,
        lambda r: r["client"] or "all clients",
        style=lambda r: "" if r["client"] else "bold",
    ),
    Column(
        "app or service",
        24,
        lambda r: r["app_name"] or r["app"] or r["service"] or "-",
        style=_app_style,
    ),
    _CATEGORY,
    Column("flows", 9, lambda r: f"{r['flows']:,}", right=True),
    Column("packets", 11, lambda r: f"{r['packets']:,}", right=True),
    Column("bytes", 10, lambda r: human_bytes(r["bytes"]), right=True),
)
"""What ``identify --summary`` shows on a terminal."""
