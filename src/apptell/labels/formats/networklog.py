"""Network Log's text file or its exported CSV enters; a log to join by leaves.

Text, a line per packet: ``timestamp_ms,in,out,uid,src,sport,dst,dport,len[,proto]``. CSV: ``Timestamp,
AppName,AppPackage,AppUid,In interface,Out interface,Source,Source Port,Destination,Destination Port,
Length``, with the time in the phone's zone and no word about which. Lines are stamped when logged, up to
2 s off the packet.
"""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final

from apptell.errors import LabelError
from apptell.labels.log import PROTOCOLS, Lines
from apptell.labels.naming import SYSTEM, is_system_uid, label_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TEXT: Final = re.compile(
    r"^\d{10,16},[^,]*,[^,]*,-?\d+,[0-9A-Fa-f:.%]+,\d*,[0-9A-Fa-f:.%]+,\d*,\d+"
)
_CSV: Final = ("Timestamp", "AppName", "AppPackage", "AppUid", "Source", "Destination")
_GONE: Final = "uninstalled app"
OTHER_PROTOCOL: Final = 255


def is_networklog_text(head: str) -> bool:
    """Whether a file's first line is a packet of Network Log's text file."""
    return bool(_TEXT.match(head))


def is_networklog_csv(head: str) -> bool:
    """Whether a file's first line is the header of Network Log's exported CSV."""
    names = {name.strip('" \r\n\ufeff') for name in head.split(",")}
    return set(_CSV) <= names


def read_networklog_text(
    path: Path,
    packages: Mapping[int, str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> Lines:
    """The packets of a text file; the label is the uid's package, else ``uid-10123``.

    Args:
        path: the file.
        packages: package by uid, since the text file has uids alone.
        rename: package to label.

    Raises:
        LabelError: the file cannot be read, or no line is of the format.
    """
    lines = Lines()
    labels: dict[int, str | None] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.strip():
                    _add_text(lines, line, labels, packages or {}, rename)
    except OSError as error:
        raise LabelError(f"{path}: cannot be read: {error}") from error
    if not lines.app:
        raise LabelError(f"{path}: not a line of Network Log in it")
    return lines


def _add_text(
    lines: Lines,
    line: str,
    labels: dict[int, str | None],
    packages: Mapping[int, str],
    rename: Mapping[str, str] | None,
) -> None:
    fields = line.rstrip("\r\n").split(",")
    try:
        time_ns, uid = int(fields[0]) * 1_000_000, int(fields[3])
        a, b = (fields[4], int(fields[5] or 0)), (fields[6], int(fields[7] or 0))
        word = fields[9].strip().lower() if len(fields) > 9 else ""
        int(fields[8])
    except (ValueError, IndexError):
        lines.n_bad += 1
        return
    protocol = PROTOCOLS.get(word, OTHER_PROTOCOL) if word else 0
    if uid not in labels:
        package = packages.get(uid)
        if package is None and uid >= 0 and not is_system_uid(uid):
            package = f"uid-{uid}"
        labels[uid] = label_of(uid=max(uid, -1), package=package, name=None, rename=rename)
    lines.add(time_ns, time_ns, protocol, a, b, labels[uid])


def read_networklog_csv(
    path: Path, zone: tzinfo | None = None, rename: Mapping[str, str] | None = None
) -> Lines:
    """The packets of an exported CSV.

    Args:
        path: the file.
        zone: the phone's time zone; None takes UTC and leaves the rest to the clock offset.
        rename: package or title to label.

    Raises:
        LabelError: the file cannot be read, or lacks a column.
    """
    lines = Lines()
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in _CSV if name not in (rows.fieldnames or ())]
            if missing:
                raise LabelError(f"{path}: not Network Log's export: no column {missing[0]!r}")
            for row in rows:
                try:
                    _add_csv(lines, row, zone or UTC, rename)
                except (ValueError, TypeError, KeyError):
                    lines.n_bad += 1
    except (OSError, csv.Error) as error:
        raise LabelError(f"{path}: cannot be read: {error}") from error
    return lines


def _add_csv(
    lines: Lines, row: dict[str, str], zone: tzinfo, rename: Mapping[str, str] | None
) -> None:
    moment = datetime.strptime(row["Timestamp"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=zone)
    time_ns = round(moment.timestamp() * 1000) * 1_000_000
    name, package, uid = row["AppName"].strip(), row["AppPackage"].strip(), int(row["AppUid"])
    if name.lower() == _GONE and not is_system_uid(uid):
        label = None
    elif is_system_uid(uid):
        label = SYSTEM
    else:
        label = label_of(uid=max(uid, -1), package=package or None, name=name, rename=rename)
    a = row["Source"], int(row["Source Port"] or 0)
    b = row["Destination"], int(row["Destination Port"] or 0)
    lines.add(time_ns, time_ns, 0, a, b, label)
