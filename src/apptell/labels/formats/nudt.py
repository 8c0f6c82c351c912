"""The NUDT_MobileTraffic folder, as its authors give it.

``<outer>/<user>/<date>/{netlog*.pcap, *.txt}``, and above them ``APPList.csv`` and ``userinfo.csv``. A
log's record is a biflow: time, the app's name (mostly Chinese), protocol, source, port, target, port; the
delimiter is not documented and is detected. A flow's record may be in another log of its day, so a day's logs
are read together; captures of IPv4 and of IPv6 share them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, ClassVar, Final

from apptell.errors import LabelError
from apptell.labels import fields
from apptell.labels.format import Candidate, LogFormat
from apptell.labels.log import protocol_number
from apptell.labels.naming import plain
from apptell.labels.text_files import TextFile, csv_records, text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from apptell.labels.labelled_capture import LabelledCapture
    from apptell.labels.log import Lines
    from apptell.labels.options import LabelOptions

APP_LIST: Final = "APPList.csv"
USER_INFO: Final = "userinfo.csv"
ALIASES: Final = {
    "dropbox": "dropbox",
    "猎豹安全": "cm security",
    "妲己": "dajibar",
    "手机卫士": "360mobilesafe",
    "贪吃蛇": "snake",
    "宾果消消": "bingo xiaoxiaoxiao",
}
"""Parts of six names that stand in the logs with other characters around them, and their English names."""
_CHINESE: Final = re.compile(r"[\u3400-\u9fff]")
_DELIMITERS: Final = ("\t", ",", ";", "|", " ")
_LEVELS_UP: Final = 3


_SNIFFED_LINES: Final = 50
"""Lines of a log from which its delimiter is detected."""
_LOCAL_DATE: Final = re.compile(r"\s*\d{4}[-/.]")
_TIME_OF_DAY: Final = re.compile(r"\d{1,2}:\d\d")


@dataclass(frozen=True)
class Nudt(LogFormat):
    """A folder of users' days, each with captures and the logs of that day."""

    app_list: Path | None = None
    """The data set's list of apps, once its folder is known."""
    name: ClassVar[str] = "nudt"
    files: ClassVar[str] = (
        "the folder of NUDT_MobileTraffic: APPList.csv, and below it "
        "USER/DATE/ with netlog*.pcap and *.txt"
    )
    is_start: ClassVar[bool | None] = True

    def detect(self, candidate: Candidate) -> bool:
        """Whether it is the data set's folder, or one below that."""
        return candidate.path.is_dir() and app_list_of(candidate.path) is not None

    def read(self, candidate: Candidate) -> Iterator[LabelledCapture]:
        """Every capture below the folder, user by user and day by day, with all logs of its day."""
        app_list = app_list_of(candidate.path) if candidate.path.is_dir() else None
        if app_list is None:
            if candidate.path == candidate.root:
                raise LabelError(
                    f"{candidate.path}: not a folder of NUDT_MobileTraffic ({APP_LIST})"
                )
            return
        info = app_list.with_name(USER_INFO)
        users = read_users(info) if info.is_file() else {}
        reader = replace(self, app_list=app_list)
        for day in sorted({path.parent for path in candidate.path.rglob("*.pcap")}):
            user, date = day.resolve().parent.name, day.resolve().name
            groups = {"user": user, "source": user, "day": date, **users.get(user, {})}
            logs = tuple(sorted(day.glob("*.txt")))
            for capture in sorted(day.glob("*.pcap")):
                inside = replace(candidate, path=capture)
                yield reader.joined(inside, logs, {**groups, **candidate.options.groups})

    def is_log(self, log: TextFile, options: LabelOptions) -> bool:  # noqa: ARG002
        """A log of this dataset is recognised only by its folder."""
        return False

    def is_zone_known(self, log: TextFile, options: LabelOptions) -> bool:  # noqa: ARG002
        """Whether its records do not begin with a date, which names no zone."""
        return not _LOCAL_DATE.match(log.first_line)

    def read_log(self, path: Path, lines: Lines, options: LabelOptions) -> None:
        """Adds a log's biflows; an app that the list lacks keeps its own name."""
        names = read_app_list(self.app_list) if self.app_list is not None else {}
        read_nudt_log(path, names, lines, options.zone, options.rename)


def app_list_of(folder: Path) -> Path | None:
    """The data set's list of apps, in a folder or above it; None when it is no part of the data set."""
    inside = folder.resolve()
    for above in (inside, *list(inside.parents)[:_LEVELS_UP]):
        if (above / APP_LIST).is_file():
            return above / APP_LIST
    return None


def read_app_list(path: Path) -> dict[str, str]:
    """English label by Chinese name, and by itself.

    The columns are detected by their headers, else by content: names differ from each other and are short,
    which categories and descriptions are not.

    Raises:
        LabelError: the list cannot be read or has no column of Chinese names.
    """
    rows = _table(path)
    if len(rows) < 2:
        raise LabelError(f"{path}: an empty list of apps")
    head, body = [cell.lower() for cell in rows[0]], rows[1:]
    columns = [[row[i].strip() if i < len(row) else "" for row in body] for i in range(len(head))]

    def choose(word: str, *, is_chinese: bool) -> int | None:
        named = [i for i, name in enumerate(head) if word in name and "categor" not in name]
        fitting = [
            i
            for i, column in enumerate(columns)
            if any(map(_CHINESE.search, column)) == is_chinese
            and any(map(str.upper, column))
            and any(cell.lower() != cell.upper() or _CHINESE.search(cell) for cell in column)
        ]
        found = [i for i in named if "descri" not in head[i]] or fitting
        return max(found, key=lambda i: _nameness(columns[i]), default=None)

    chinese, english = choose("chinese", is_chinese=True), choose("english", is_chinese=False)
    if chinese is None or not any(map(_CHINESE.search, columns[chinese])):
        raise LabelError(f"{path}: no column of Chinese names")
    if english is None:
        raise LabelError(f"{path}: no column of English names")
    names: dict[str, str] = {}
    for one, other in zip(columns[chinese], columns[english], strict=True):
        if label := plain(other):
            names[one.lower()] = label
            names.setdefault(label, label)
    return names


def _nameness(column: Sequence[str]) -> tuple[float, float]:
    """How much a column is one of names: share of different cells, then shortness."""
    return round(len(set(column)) / len(column), 1), -float(median(map(len, column)))


def read_users(path: Path) -> dict[str, dict[str, str]]:
    """Groups by user id: device (brand and model), brand, version (of Android)."""
    rows = _table(path)
    if not rows:
        return {}
    lower = [name.lower() for name in rows[0]]

    def column(*words: str) -> int | None:
        return next((i for i, n in enumerate(lower) if any(word in n for word in words)), None)

    user, brand = column("user", "id"), column("brand")
    model, version = column("model"), column("version", "android")
    users: dict[str, dict[str, str]] = {}
    for row in rows[1:]:
        cell = {
            key: row[i].strip()
            for key, i in (("user", user), ("brand", brand), ("model", model), ("version", version))
            if i is not None and i < len(row) and row[i].strip()
        }
        if "user" in cell:
            groups: dict[str, str] = {key: cell[key] for key in ("brand", "version") if key in cell}
            device = " ".join(cell[key] for key in ("brand", "model") if key in cell)
            users[cell["user"]] = {**groups, "device": device} if device else groups
    return users


def name_of(label: str, names: Mapping[str, str]) -> str | None:
    """The list's English name for the app of a log's record; a record's own name where there is none."""
    label = label.strip().lower()
    if label in names:
        return names[label]
    alias = next((english for part, english in ALIASES.items() if part in label), None)
    return alias or plain(label)


def read_nudt_log(
    path: Path,
    names: Mapping[str, str],
    lines: Lines,
    zone: tzinfo | None = None,
    rename: Mapping[str, str] | None = None,
) -> None:
    """Adds a log's biflows; an app that the list lacks keeps its own name.

    Raises:
        LabelError: the log cannot be read.
    """
    first = [row for row, _ in zip(text_lines(path), range(_SNIFFED_LINES), strict=False)]
    delimiter = max(_DELIMITERS, key=lambda d: sum(len(row.split(d)) >= 7 for row in first))
    for number, row in enumerate(text_lines(path), 1):
        if not row.strip():
            continue
        cells = [cell.strip() for cell in row.split(delimiter) if cell.strip() or delimiter != " "]
        try:
            fields.enough(cells, 7)
            # The app's name may hold the delimiter: five fields from the right, the time from the left.
            protocol, source, source_port, target, target_port = cells[-5:]
            start_ns, width = _time(cells, zone)
            app = name_of(delimiter.join(cells[width:-5]), names)
            a = source, fields.integer(source_port, 0, fields.MAX_PORT)
            b = target, fields.integer(target_port, 0, fields.MAX_PORT)
            known = None if app is None else (rename or {}).get(app, app)
            lines.add(start_ns, start_ns, protocol_number(protocol), a, b, known)
        except ValueError as error:
            lines.pass_over(number, error)


def _time(cells: Sequence[str], zone: tzinfo | None) -> tuple[int, int]:
    """A record's time and how many cells it takes: a date and a time of day may be two."""
    if _TIME_OF_DAY.match(cells[1]):
        return fields.time_ns(f"{cells[0]} {cells[1]}", zone), 2
    return fields.time_ns(cells[0], zone), 1


def _table(path: Path) -> list[list[str]]:
    """Rows of a small CSV, UTF-8 or GB 18030."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise LabelError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("gb18030", errors="replace")
    return [row for row in csv_records(text.split("\n")) if any(cell.strip() for cell in row)]
