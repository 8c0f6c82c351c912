"""PCAPdroid's list of connections enters (CSV, all three generations); a log to join by leaves.

``IPProto,SrcIP,SrcPort,DstIp,DstPort,UID,App[,PackageName],Proto,Status,Info,BytesSent,BytesRcvd,PktsSent,
PktsRcvd,FirstSeen,LastSeen[,Malicious]``. Nothing is quoted and App and Info may hold commas, so a line is
taken apart from both ends. Times are epoch milliseconds before version 1.7.0, ISO 8601 with zone after.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from apptell.errors import LabelError
from apptell.labels.log import Lines
from apptell.labels.naming import label_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HEAD: Final = ("IPProto", "SrcIP", "SrcPort", "DstIp", "DstPort", "UID", "App")
_STATUS: Final = re.compile(
    r"^(new|connecting|active|connected|open|closed|error|unreachable|reset|"
    r"socket error|client error|closing|unknown)$",
    re.IGNORECASE,
)
# A package has two parts at least, each begins with a letter; "android" is the one exception.
_PACKAGE: Final = re.compile(r"^(?:[A-Za-z]\w*(?:\.[A-Za-z]\w*)+|android|root|netd)$")
_TIME: Final = re.compile(r"^(?:\d{10,16}|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d))$")


def is_pcapdroid_csv(head: str) -> bool:
    """Whether a file's first line is that of a list of connections (also a translated header)."""
    return head.lstrip("\ufeff").startswith("IPProto,SrcIP,SrcPort,")


def read_pcapdroid_csv(path: Path, rename: Mapping[str, str] | None = None) -> Lines:
    """The connections of a list; lines that are not of the format are counted in ``n_bad``.

    Raises:
        LabelError: the file cannot be read, or is no such list.
    """
    lines = Lines()
    for fields in _rows(path, lines):
        first, last, uid, app, package = fields[5:10]
        label = label_of(uid=int(uid), package=package, name=str(app), rename=rename)
        lines.add(
            int(first),
            int(last),
            int(fields[0]),
            (fields[1], fields[2]),
            (fields[3], fields[4]),
            label,
        )
    return lines


@lru_cache(maxsize=16)
def packages_of(paths: tuple[Path, ...]) -> dict[int, tuple[str, str]]:
    """Title and package by uid, where the lists have packages (since 1.7.4).

    Raises:
        LabelError: a file cannot be read, or is no such list.
    """
    packages: dict[int, tuple[str, str]] = {}
    for path in paths:
        body, has_package = _body(path)
        for line in body if has_package else ():
            left = line.split(",", 6)
            if len(left) < 7 or not left[5].isdigit() or int(left[5]) in packages:
                continue
            try:
                row = _row(line, has_package=True)
            except ValueError:
                continue
            if row[9] is not None:
                packages[row[7]] = row[8], row[9]
    return packages


_Row = tuple[int, str, int, str, int, int, int, int, str, str | None]


def _body(path: Path) -> tuple[list[str], bool]:
    """The lines behind the header, and whether they have packages."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise LabelError(f"{path}: cannot be read: {error}") from error
    head, _, body = text.partition("\n")
    if not is_pcapdroid_csv(head):
        raise LabelError(f"{path}: not PCAPdroid's list of connections (first line {head[:60]!r})")
    return body.splitlines(), "PackageName" in head.split(",")


def _rows(path: Path, lines: Lines) -> list[_Row]:
    body, has_package = _body(path)
    rows = []
    for line in body:
        if not line.strip():
            continue
        try:
            rows.append(_row(line, has_package=has_package))
        except ValueError:
            lines.n_bad += 1
    return rows


def _row(line: str, *, has_package: bool) -> _Row:
    """One line taken apart: six fields from the left, six from the right, the rest by what it is."""
    left = line.split(",", 6)
    if len(left) < 7:
        raise ValueError("too few fields")
    protocol, source, source_port, target, target_port, uid, rest = left
    right = rest.split(",")
    # The last column, Malicious, came late and may be absent: what ends the line then is a time.
    while right and not _TIME.match(right[-1].strip()):
        right.pop()
    if len(right) < 6:
        raise ValueError("no times")
    first, last = _time_ns(right[-2]), _time_ns(right[-1])
    if any(not number.strip().isdigit() for number in right[-6:-2]):
        raise ValueError("no counters")
    app, package = _app(right[:-6], has_package=has_package)
    return (
        int(protocol),
        source,
        int(source_port),
        target,
        int(target_port),
        first,
        max(first, last),
        int(uid),
        app,
        package,
    )


def _app(middle: list[str], *, has_package: bool) -> tuple[str, str | None]:
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
    text = text.strip()
    if text.isdigit():
        return int(text) * 1_000_000
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError("a time without zone")
    return round(parsed.timestamp() * 1000) * 1_000_000
