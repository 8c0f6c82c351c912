"""Reads log files of one format when needed, and indexes them for joining.

A log of many captures is read once: each process keeps the index of the last log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from apptell.errors import LabelError
from apptell.labels.join import LogIndex
from apptell.labels.log import Lines
from apptell.labels.text_files import TextFile

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.labels.options import LabelOptions

_SHARE_OF_STARTS: Final = 0.7
"""Where this share of a table's tuples occur once, its lines are the beginnings of connections."""


class LogReader(Protocol):
    """A reader of logs of one format; see ``LogFormat`` for its members."""

    @property
    def name(self) -> str:
        """The format's name."""

    @property
    def is_start(self) -> bool | None:
        """Whether a line is written once, when its connection begins; None looks at the lines."""

    def read_log(self, path: Path, lines: Lines, options: LabelOptions) -> None:
        """Adds the lines of one log."""

    def is_zone_known(self, log: TextFile, options: LabelOptions) -> bool:
        """Whether the times of a log are in a known zone."""


@dataclass(frozen=True, slots=True)
class LogFiles:
    """Logs whose lines are joined to captures together."""

    reader: LogReader
    paths: tuple[Path, ...]
    options: LabelOptions
    every: bool = False
    """Whether each file has to name an app, because the user named it; otherwise one of them has to."""
    stamps: tuple[tuple[int, int], ...] = field(init=False, default=())
    """Size and modification time of each file: a log that has changed is read again."""

    def __post_init__(self) -> None:
        """Notes the files as they are now; one that is missing is reported when it is read."""
        stats = [path.stat() for path in self.paths if path.is_file()]
        object.__setattr__(self, "stamps", tuple((s.st_size, s.st_mtime_ns) for s in stats))

    @property
    def kind(self) -> str:
        """The format's name."""
        return self.reader.name

    @property
    def is_zone_known(self) -> bool:
        """Whether the times of all logs are in a known zone."""
        if self.options.zone is not None:
            return True
        return all(self.reader.is_zone_known(TextFile(path), self.options) for path in self.paths)

    def index(self) -> LogIndex:
        """The logs made ready for joining.

        Raises:
            LabelError: a file cannot be read or is not of its format, or no line names an app.
        """
        if not _kept or _kept[0][0] != self:
            _kept[:] = [(self, _index(self))]
        return _kept[0][1]


_kept: list[tuple[LogFiles, LogIndex]] = []
"""The logs that were read last."""


def _index(logs: LogFiles) -> LogIndex:
    lines = Lines()
    for path in logs.paths:
        n_before, n_bad_before = len(lines), lines.n_bad
        logs.reader.read_log(path, lines, logs.options)
        if logs.every and not any(lines.app[n_before:]):
            raise _no_app(path, len(lines) - n_before, lines.n_bad - n_bad_before, lines.first_bad)
    if not any(lines.app):
        name = logs.paths[0] if logs.paths else f"(no {logs.kind} log)"
        raise _no_app(name, len(lines), lines.n_bad, lines.first_bad)
    is_start = logs.reader.is_start
    return LogIndex(lines.table(is_start=_is_start_only(lines) if is_start is None else is_start))


def _no_app(name: Path | str, n_lines: int, n_bad: int, first_bad: str) -> LabelError:
    """The error of a log, or of all of them, that names no app."""
    if not n_bad:
        return LabelError(f"{name}: no line names an app")
    return LabelError(
        f"{name}: no line names an app; {n_bad} of {n_lines + n_bad} cannot be read, the first of them: "
        f"{first_bad}"
    )


def _is_start_only(lines: Lines) -> bool:
    """Whether a log has only the beginnings of connections: no ends, and hardly any tuple twice."""
    if any(last > first for first, last in zip(lines.first_ns, lines.last_ns, strict=True)):
        return False
    ends = zip(lines.address_a, lines.port_a, lines.address_b, lines.port_b, strict=True)
    return len(set(ends)) > _SHARE_OF_STARTS * len(lines.app)
