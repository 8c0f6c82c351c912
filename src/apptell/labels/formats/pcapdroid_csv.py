"""PCAPdroid's list of connections beside a capture: CSV of all three generations.

``IPProto,SrcIP,SrcPort,DstIp,DstPort,UID,App[,PackageName],Proto,Status,Info,BytesSent,BytesRcvd,PktsSent,
PktsRcvd,FirstSeen,LastSeen[,Malicious]``. Nothing is quoted and App and Info may hold commas, so a line is
taken apart from both ends. Times are epoch milliseconds before version 1.7.0, ISO 8601 with zone after.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from apptell.errors import LabelError
from apptell.labels import fields
from apptell.labels.format import LogFormat
from apptell.labels.naming import label_of
from apptell.labels.text_files import TextFile, text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from apptell.labels.log import Lines
    from apptell.labels.options import LabelOptions

_HEAD: Final = "IPProto,SrcIP,SrcPort,"
_STATUS: Final = re.compile(
    r"^(new|connecting|active|connected|open|closed|error|unreachable|reset|"
    r"socket error|client error|closing|unknown)$",
    re.IGNORECASE,
)
# A package has two parts at least, each begins with a letter; "android" is the one exception.
_PACKAGE: Final = re.compile(r"^(?:[A-Za-z]\w*(?:\.[A-Za-z]\w*)+|android|root|netd)$")
_TIME: Final = re.compile(
    r"^(?:[0-9]{10,16}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2}))$"
)
_MILLISECONDS: Final = re.compile(r"[0-9]{10,16}")
_COUNTER: Final = re.compile(r"[0-9]{1,20}")


class PcapdroidCsv(LogFormat):
    """A list of connections: one line each, with its beginning and its end."""

    name: ClassVar[str] = "pcapdroid-csv"
    files: ClassVar[str] = "captures with PCAPdroid's list of connections (.csv) beside them"

    def is_log(self, log: TextFile, options: LabelOptions) -> bool:  # noqa: ARG002
        """Whether the first line is the list's."""
        return is_pcapdroid_csv(log.first_line)

    def read_log(self, path: Path, lines: Lines, options: LabelOptions) -> None:
        """Adds the connections of a list."""
        read_pcapdroid_csv(path, lines, options.rename)


def is_pcapdroid_csv(first_line: str) -> bool:
    """Whether a file's first line is that of a list of connections (also a translated header)."""
    return first_line.startswith(_HEAD)


def read_pcapdroid_csv(path: Path, lines: Lines, rename: Mapping[str, str] | None = None) -> None:
    """Adds the connections of a list; lines that are not of the format are passed over.

    Raises:
        LabelError: the file cannot be read, or is no such list.
    """
    labels: dict[tuple[int, str, str | None], str | None] = {}
    for number, row in _rows(path):
        if isinstance(row, ValueError):
            lines.pass_over(number, row)
            continue
        owner = row.uid, row.title, row.package
        if owner not in labels:
            labels[owner] = label_of(
                uid=row.uid, package=row.package, name=row.title or None, rename=rename
            )
        label = labels[owner]
        lines.add(row.first_ns, row.last_ns, row.protocol, row.source, row.target, label)


@lru_cache(maxsize=16)
def packages_of(paths: tuple[Path, ...]) -> dict[int, tuple[str, str]]:
    """Title and package by uid, where the lists have packages (since 1.7.4).

    Raises:
        LabelError: a file cannot be read, or is no such list.
    """
    packages: dict[int, tuple[str, str]] = {}
    for path in paths:
        for _, row in _rows(path):
            if not isinstance(row, ValueError) and row.package is not None:
                packages.setdefault(row.uid, (row.title, row.package))
    return packages


class _Row(NamedTuple):
    protocol: int
    source: tuple[str, int]
    target: tuple[str, int]
    uid: int
    title: str
    package: str | None
    first_ns: int
    last_ns: int


def _rows(path: Path) -> Iterator[tuple[int, _Row | ValueError]]:
    """Number and content of each line behind the header, or why it has none."""
    lines = text_lines(path)
    head = next(lines, "")
    if not is_pcapdroid_csv(head):
        raise LabelError(f"{path}: not PCAPdroid's list of connections (first line {head[:60]!r})")
    has_package = "PackageName" in head.split(",")
    for number, line in enumerate(lines, 2):
        if line.strip():
            try:
                yield number, _row(line, has_package=has_package)
            except ValueError as error:
                yield number, error


_cached: Final = lru_cache(maxsize=1 << 14)
"""Most fields of a list occur on many of its lines."""
_integer: Final = _cached(fields.integer)
_uid: Final = _cached(fields.uid)


def _row(line: str, *, has_package: bool) -> _Row:
    """One line taken apart: six fields from the left, six from the right, the rest by what it is."""
    left = line.split(",", 6)
    if len(left) < 7:
        raise ValueError("too few fields")
    protocol, source, source_port, target, target_port, uid, rest = left
    right = rest.split(",")
    # The last column, Malicious, came late and may be absent: what ends the line then is a time.
    while right and not _TIME.match(fields.ascii_digits(right[-1].strip())):
        right.pop()
    if len(right) < 6:
        raise ValueError("no times")
    if not all(map(_is_counter, right[-6:-2])):
        raise ValueError("no counters")
    first_ns, last_ns = _time_ns(right[-2]), _time_ns(right[-1])
    title, package = _app(tuple(right[:-6]), has_package=has_package)
    return _Row(
        _integer(protocol, 0, fields.MAX_PROTOCOL),
        (source, _integer(source_port, 0, fields.MAX_PORT)),
        (target, _integer(target_port, 0, fields.MAX_PORT)),
        _uid(uid),
        title,
        package,
        first_ns,
        max(first_ns, last_ns),
    )


@_cached
def _is_counter(text: str) -> bool:
    return _COUNTER.fullmatch(fields.ascii_digits(text.strip())) is not None


@_cached
def _app(middle: tuple[str, ...], *, has_package: bool) -> tuple[str, str | None]:
    """App and package out of ``App[,PackageName],Proto,Status,Info``, commas in App and in Info.

    The anchor is Status, one of few words; Info's commas come after it, App's before it.
    """
    if len(middle) < (4 if has_package else 3):
        raise ValueError("too few fields")
    least = 3 if has_package else 2
    at = next((i for i in range(least, len(middle)) if _STATUS.match(middle[i].strip())), None)
    if at is None:  # a translated status: take the layout without commas in App
        at = least
    if not has_package:
        return ",".join(middle[: at - 1]).strip(), None
    package = middle[at - 2].strip()
    return ",".join(middle[: at - 2]).strip(), package if _PACKAGE.match(package) else None


def _time_ns(text: str) -> int:
    """Epoch milliseconds, or ISO 8601 with zone, as ns since 1970 UTC."""
    text = fields.ascii_digits(text.strip())
    if _MILLISECONDS.fullmatch(text):
        return fields.milliseconds_ns(text)
    return fields.iso_ns(text)
