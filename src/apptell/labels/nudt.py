"""The NUDT_MobileTraffic folder enters, as its authors give it; sources with labels and groups leave.

``<outer>/<user>/<date>/{*.pcap, *.txt}``, beside or above them ``APPList.csv`` and ``userinfo.csv``. A
log's record is a biflow: time, the app's Chinese name, protocol, source, port, target, port; the
delimiter is not documented and found out. A flow's record may be in another log of its day, so a day's
logs are read together.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from apptell.errors import LabelError
from apptell.labels.join import LogIndex
from apptell.labels.log import PROTOCOLS, Lines
from apptell.labels.naming import plain
from apptell.labels.source import JoinLabeller, Reader, Source
from apptell.labels.table import time_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from apptell.flows.schema import FlowBatch

APP_LIST: Final = "APPList.csv"
USER_INFO: Final = "userinfo.csv"
ALIASES: Final = {
    "dropbox": "dropbox",
    "猎豹安全": "cm security",
    "妲己": "dajibar",
    "手机卫士": "360mobilesafe",
    "贪吃蛇": "snake",
    "宾果消消": "bingo",
}
"""Names in the logs that are not in the app list, and the app list's English names for them."""
_CHINESE: Final = re.compile(r"[\u3400-\u9fff]")
_DELIMITERS: Final = ("\t", ",", ";", "|", " ")


@dataclass(slots=True)
class _Day:
    """One user's folder of one date, its logs read when its first capture is."""

    logs: Sequence[Path]
    names: Mapping[str, str]
    _index: LogIndex | None = field(default=None)

    def index(self) -> LogIndex:
        if self._index is None:
            lines = Lines()
            for log in self.logs:
                read_nudt_log(log, self.names, lines)
            self._index = LogIndex(lines.table(is_start=True))
        return self._index


@dataclass(slots=True)
class _DaySource(Source):
    """A capture of a day; what is read for it is read late."""

    day: _Day | None = None

    def flows(self) -> Iterator[FlowBatch]:
        """The labelled flows; the day's logs are read now."""
        if self.day is not None:
            self.labeller = JoinLabeller("nudt", self.day.index())
        return Source.flows(self)


def is_nudt(folder: Path) -> bool:
    """Whether a folder is this data set, or its packed outer folder."""
    return (folder / APP_LIST).is_file()


def nudt_sources(folder: Path, reader: Reader) -> Iterator[Source]:
    """Every capture of the data set, user by user and day by day.

    Raises:
        LabelError: the app list is missing or has no Chinese names.
    """
    names = read_app_list(folder / APP_LIST)
    users = read_users(folder / USER_INFO) if (folder / USER_INFO).is_file() else {}
    days = sorted({path.parent for path in folder.rglob("*.pcap")})
    for day in days:
        user, date = day.parent.name, day.name
        groups = {"user": user, "source": user, "day": date, **users.get(user, {})}
        logs = _Day(sorted(day.glob("*.txt")), names)
        empty = JoinLabeller("nudt", LogIndex(Lines().table()))
        for capture in sorted(day.glob("*.pcap")):
            name = str(capture.relative_to(folder))
            yield _DaySource(name, capture, empty, reader, groups, logs.logs, day=logs)


def read_app_list(path: Path) -> dict[str, str]:
    """English label by Chinese name (and by itself), aliases included.

    Raises:
        LabelError: the list cannot be read or has no column of Chinese names.
    """
    rows = _table(path)
    if len(rows) < 2:
        raise LabelError(f"{path}: an empty list of apps")
    head, body = rows[0], rows[1:]
    width = len(head)
    share = [sum(bool(_CHINESE.search(r[i])) for r in body if i < len(r)) for i in range(width)]
    lower = [name.lower() for name in head]
    chinese = next((i for i, n in enumerate(lower) if "chinese" in n), int(_argmax(share)))
    english = next((i for i, n in enumerate(lower) if "english" in n), None)
    if english is None:
        letters = [
            sum(
                any(c.isalpha() for c in r[i]) and not _CHINESE.search(r[i])
                for r in body
                if i < len(r)
            )
            for i in range(width)
        ]
        letters[chinese] = -1
        english = int(_argmax(letters))
    if not share[chinese]:
        raise LabelError(f"{path}: no column of Chinese names")
    names = dict(ALIASES)
    for row in body:
        if len(row) > max(chinese, english) and (label := plain(row[english])):
            names[row[chinese].strip().lower()] = label
            names.setdefault(label, label)
    return names


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


def read_nudt_log(path: Path, names: Mapping[str, str], lines: Lines) -> None:
    """Adds a log's biflows to ``lines``; an app that the list lacks keeps its own name.

    Raises:
        LabelError: the log cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise LabelError(f"{path}: cannot be read: {error}") from error
    rows = [row for row in text.splitlines() if row.strip()]
    delimiter = _sniff(rows[:50])
    for row in rows:
        cells = [cell.strip() for cell in row.split(delimiter) if cell.strip() or delimiter != " "]
        try:
            # The app's name may hold the delimiter: five fields from the right, one from the left.
            protocol, source, source_port, target, target_port = cells[-5:]
            name = delimiter.join(cells[1:-5]).lower()
            first = time_ns(cells[0])
            word = PROTOCOLS.get(protocol.lower(), 255)
            a, b = (source, int(source_port)), (target, int(target_port))
        except (ValueError, IndexError, OverflowError):
            lines.n_bad += 1
            continue
        lines.add(first, first, word, a, b, names.get(name) or plain(name))


def _sniff(rows: Sequence[str]) -> str:
    """The delimiter that cuts most rows into at least the seven fields of a record."""
    return max(_DELIMITERS, key=lambda d: sum(len(row.split(d)) >= 7 for row in rows))


def _table(path: Path) -> list[list[str]]:
    """Rows of a small CSV, UTF-8 or GB 18030."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise LabelError(f"{path}: cannot be read: {error}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("gb18030", errors="replace")
    return [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]


def _argmax(values: Sequence[int]) -> int:
    return max(range(len(values)), key=lambda i: values[i])
