"""Network Log's text file or its exported CSV beside a capture.

Text, a line per packet: ``timestamp_ms,in,out,uid,src,sport,dst,dport,len[,proto]``. CSV: ``Timestamp,
AppName,AppPackage,AppUid,In interface,Out interface,Source,Source Port,Destination,Destination Port,
Length``, with the time in the phone's zone, which is not named. Lines are stamped when logged, up to 2 s off
the packet.
"""

from __future__ import annotations

import re
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, ClassVar, Final

from apptell.errors import LabelError
from apptell.labels import fields
from apptell.labels.format import Candidate, LogFormat
from apptell.labels.formats.pcapdroid_csv import is_pcapdroid_csv, packages_of
from apptell.labels.log import protocol_number
from apptell.labels.naming import SYSTEM, is_system_uid, label_of
from apptell.labels.text_files import TextFile, csv_records, text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from apptell.labels.labelled_capture import LabelledCapture
    from apptell.labels.log import Lines
    from apptell.labels.options import LabelOptions

_TEXT: Final = re.compile(
    r"^\d{10,16},[^,]*,[^,]*,-?\d+,[0-9A-Fa-f:.%]+,\d*,[0-9A-Fa-f:.%]+,\d*,\d+"
)
_CSV: Final = (
    "Timestamp", "AppName", "AppPackage", "AppUid", "Source", "Source Port", "Destination",
    "Destination Port",
)  # fmt: skip
_GONE: Final = "uninstalled app"
_MAX_LENGTH: Final = 2**32


class NetworkLog(LogFormat):
    """A log of packets: text with uids, or an export with packages."""

    name: ClassVar[str] = "networklog"
    files: ClassVar[str] = "captures with Network Log's text file or CSV beside them"

    def is_log(self, log: TextFile, options: LabelOptions) -> bool:  # noqa: ARG002
        """Whether the first line is a packet of the text file, or the header of the export."""
        return bool(_TEXT.match(fields.ascii_digits(log.first_line))) or _is_export(log.first_line)

    def is_zone_known(self, log: TextFile, options: LabelOptions) -> bool:  # noqa: ARG002
        """The text file counts milliseconds since 1970; the export names no zone."""
        return not _is_export(log.first_line)

    def read(self, candidate: Candidate) -> Iterator[LabelledCapture]:
        """The capture; lists of connections that have packages for the log's uids are noted as used."""
        for source in super().read(candidate):
            lists = {path for log in source.logs for path in _lists_beside(log)}
            source.logs = tuple(dict.fromkeys((*source.logs, *sorted(lists))))
            yield source

    def read_log(self, path: Path, lines: Lines, options: LabelOptions) -> None:
        """Adds the packets of a log; the text file's uids have the packages of PCAPdroid's lists beside it."""
        if _is_export(TextFile(path).first_line):
            read_export(path, lines, options.zone, options.rename)
            return
        packages = packages_of(_lists_beside(path))
        read_text(
            path, lines, {uid: package for uid, (_, package) in packages.items()}, options.rename
        )


def _lists_beside(path: Path) -> tuple[Path, ...]:
    """PCAPdroid's lists of connections in a log's folder."""
    near = sorted(path.parent.glob("*.csv"))
    return tuple(file for file in near if is_pcapdroid_csv(TextFile(file).first_line))


def _is_export(first_line: str) -> bool:
    return set(_CSV) <= {name.strip('" \ufeff') for name in first_line.split(",")}


def read_text(
    path: Path,
    lines: Lines,
    packages: Mapping[int, str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> None:
    """Adds the packets of a text file; the label is the uid's package, else ``uid-10123``.

    Args:
        path: the file.
        lines: what they are added to.
        packages: package by uid, since the text file has only uids.
        rename: package to label.

    Raises:
        LabelError: the file cannot be read.
    """
    labels: dict[int, str | None] = {}
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        try:
            parts = fields.enough(line.split(","), 9)
            time_ns, uid = fields.milliseconds_ns(parts[0]), fields.uid(parts[3])
            a = parts[4], fields.port(parts[5])
            b = parts[6], fields.port(parts[7])
            fields.integer(parts[8], 0, _MAX_LENGTH)
            protocol = protocol_number(parts[9]) if len(parts) > 9 else 0
            if uid not in labels:
                package = (packages or {}).get(uid)
                labels[uid] = label_of(uid=uid, package=package, name=None, rename=rename)
            lines.add(time_ns, time_ns, protocol, a, b, labels[uid])
        except ValueError as error:
            lines.pass_over(number, error)


def read_export(
    path: Path,
    lines: Lines,
    zone: tzinfo | None = None,
    rename: Mapping[str, str] | None = None,
) -> None:
    """Adds the packets of an exported CSV.

    Args:
        path: the file.
        lines: what they are added to.
        zone: the phone's time zone; None takes UTC and leaves the rest to the clock offset.
        rename: package or title to label.

    Raises:
        LabelError: the file cannot be read, or lacks a column.
    """
    records = csv_records(text_lines(path))
    head = [name.strip() for name in next(records, [])]
    missing = [name for name in _CSV if name not in head]
    if missing:
        raise LabelError(f"{path}: not Network Log's export: no column {missing[0]!r}")
    columns = [head.index(name) for name in _CSV]
    for number, record in enumerate(records, 2):
        if not any(record):
            continue
        try:
            cells = fields.enough(record, max(columns) + 1)
            _add_export(lines, [cells[column] for column in columns], zone or UTC, rename)
        except ValueError as error:
            lines.pass_over(number, error)


def _add_export(
    lines: Lines, cells: Sequence[str], zone: tzinfo, rename: Mapping[str, str] | None
) -> None:
    stamp, title, package, uid_text, source, source_port, target, target_port = cells
    time_ns = fields.iso_ns(stamp, zone)
    title, package, uid = title.strip(), package.strip(), fields.uid(uid_text)
    if is_system_uid(uid):
        label: str | None = SYSTEM
    elif title.lower() == _GONE:
        label = None
    else:
        label = label_of(uid=uid, package=package or None, name=title or None, rename=rename)
    ends = (source, fields.port(source_port)), (target, fields.port(target_port))
    lines.add(time_ns, time_ns, 0, *ends, label)
