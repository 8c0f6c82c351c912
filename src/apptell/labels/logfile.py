"""Log files of one kind, and what is said of them, enter; an index to join by leaves, read when asked for.

A log beside many captures is read once: the index of the last log is kept, in each process its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from apptell.errors import LabelError
from apptell.labels.formats import networklog, nudt, pcapdroid_csv, table
from apptell.labels.join import LogIndex
from apptell.labels.log import Lines

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LogFile:
    """Logs whose lines are joined to captures together."""

    kind: str
    """``pcapdroid-csv``, ``networklog``, ``table``, ``zeek`` or ``nudt``."""
    paths: tuple[Path, ...]
    columns: tuple[tuple[str, str], ...] = ()
    """Meaning and column name of a label table."""
    zone: tzinfo | None = None
    """The phone's time zone, for logs that do not say theirs."""
    rename: tuple[tuple[str, str], ...] = ()
    """Lower-case package or title, and its label."""
    app_list: Path | None = None
    """NUDT's list of apps."""
    stamps: tuple[tuple[int, int], ...] = field(init=False, default=())
    """Size and time of change of each file: a log that was written anew is read anew."""

    def __post_init__(self) -> None:
        """Notes the files as they are now; one that is missing is said when it is read."""
        stats = [path.stat() for path in self.paths if path.is_file()]
        object.__setattr__(self, "stamps", tuple((s.st_size, s.st_mtime_ns) for s in stats))

    @property
    def is_zone_known(self) -> bool:
        """Whether the times of the log are in a known zone."""
        if self.zone is not None:
            return True
        lines = [first_line(path) for path in self.paths]
        if self.kind == "nudt":
            return not any(nudt.is_local_time(line) for line in lines)
        return self.kind != "networklog" or not any(map(networklog.is_networklog_csv, lines))

    def index(self) -> LogIndex:
        """The log made ready for joining.

        Raises:
            LabelError: a file cannot be read or is not of its kind, or no line names an app.
        """
        return _index(self)


@lru_cache(maxsize=1)
def _index(log: LogFile) -> LogIndex:
    lines, is_start = Lines(), log.kind == "nudt"
    rename = dict(log.rename)
    if log.kind == "nudt" and log.app_list is not None:
        names = nudt.read_app_list(log.app_list)
        for path in log.paths:
            nudt.read_nudt_log(path, names, lines, log.zone)
    for path in () if log.kind == "nudt" else log.paths:
        lines.extend(_lines(log, path, rename))
    if log.kind in ("table", "zeek", "nudt"):  # these know no packages and titles
        lines.app = [app and rename.get(app, app) for app in lines.app]
    if log.kind in ("table", "zeek"):
        is_start = table.is_start_only(lines)
    if not any(lines.app) and log.kind != "nudt":
        raise LabelError(f"{log.paths[0]}: no line names an app")
    return LogIndex(lines.table(is_start=is_start))


def _lines(log: LogFile, path: Path, rename: dict[str, str]) -> Lines:
    if log.kind == "pcapdroid-csv":
        return pcapdroid_csv.read_pcapdroid_csv(path, rename)
    if log.kind == "networklog":
        if networklog.is_networklog_csv(first_line(path)):
            return networklog.read_networklog_csv(path, log.zone, rename)
        lists = [p for p in path.parent.glob("*.csv") if pcapdroid_csv.is_pcapdroid_csv(head(p))]
        packages = pcapdroid_csv.packages_of(tuple(sorted(lists)))
        known = {uid: package for uid, (_, package) in packages.items()}
        return networklog.read_networklog_text(path, known, rename)
    columns = {**(table.ZEEK if log.kind == "zeek" else {}), **dict(log.columns)}
    return table.read_table(path, columns, log.zone)


def head(path: Path) -> str:
    """The beginning of a file as text; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("utf-8", errors="replace").lstrip("\ufeff")
    except OSError:
        return ""


def first_line(path: Path) -> str:
    """The first line of a file as text."""
    return head(path).split("\n", 1)[0]
