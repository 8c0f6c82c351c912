"""Files and folders enter, as a user names them; sources of labelled flows leave, their kind told.

A kind is told from content: the capture's own owners, a log beside it, the form of a data set; and when
nothing else speaks, the names of folder and file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.capture import open_capture
from apptell.errors import CaptureError, LabelError, UsageError
from apptell.labels import networklog, nudt, pcapdroid_csv, public, table
from apptell.labels.folders import CAPTURE_SUFFIXES, app_and_groups, bare_name
from apptell.labels.join import DEFAULT_TOLERANCE_S
from apptell.labels.pcapdroid import TrailerReader, has_trailers
from apptell.labels.pktap import LINK_TYPES, PktapReader
from apptell.labels.source import ConstantLabeller, JoinLabeller, OwnerLabeller, Reader, Source

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import tzinfo
    from pathlib import Path

KINDS: Final = (
    "folders", "pcapdroid", "pcapdroid-csv", "networklog", "table", "zeek", "pktap", "nudt", "fgnet",
    "mirage",
)  # fmt: skip
_LOG_SUFFIXES: Final = (".csv", ".txt", ".log", ".jsonl", ".json", ".tsv")


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """What a user can say about ground truth."""

    kind: str | None = None
    """One of KINDS; None recognises it."""
    tolerance_s: float = DEFAULT_TOLERANCE_S
    """How far a log's line may lie from its flow."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Meaning to column name of a label table."""
    zone: tzinfo | None = None
    """The phone's time zone, for logs that do not say theirs."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Lower-case package or title to label."""
    pattern: re.Pattern[str] | None = None
    """How the names of captures are made, for the kind ``folders``."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Groups of everything, such as ``network=home``."""


def sources(
    paths: Sequence[Path],
    reader: Reader,
    options: LabelOptions | None = None,
) -> Iterator[Source | public.PublicSource]:
    """A source for every capture or data-set file below the paths, in order of name.

    Args:
        paths: files and folders; a log among them is for all captures among them.
        reader: reads a capture's flows.
        options: what the user says.

    Raises:
        LabelError: nothing is there, or a capture has no ground truth of the kind asked for.
        UsageError: no such kind.
    """
    options = options or LabelOptions()
    if options.kind is not None and options.kind not in KINDS:
        raise UsageError(f"no kind of labels {options.kind!r}; there are {', '.join(KINDS)}")
    given_logs = [path for path in paths if path.is_file() and _is_log(path)]
    n_found = 0
    for root in paths:
        if not root.exists():
            raise LabelError(f"{root}: no such file or folder")
        if options.kind in (None, "nudt") and root.is_dir() and nudt.is_nudt(root):
            for source in nudt.nudt_sources(root, reader):
                n_found += 1
                yield source
            continue
        for path in sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]:
            found = _data_set(path, root, options) or _capture(
                path, root, given_logs, reader, options
            )
            if found is not None:
                n_found += 1
                yield found
    if not n_found:
        raise LabelError(f"{paths[0] if paths else '(nothing)'}: no capture and no data set there")


def _data_set(path: Path, root: Path, options: LabelOptions) -> public.PublicSource | None:
    name = _name(path, root)
    if options.kind in (None, "fgnet") and path.suffix == ".parquet" and public.is_fgnet(path):
        return public.PublicSource(path, name, "fgnet")
    if (
        options.kind in (None, "mirage")
        and path.suffix == ".json"
        and public.is_mirage(_head(path))
    ):
        return public.PublicSource(path, name, "mirage")
    return None


def _capture(
    path: Path,
    root: Path,
    given_logs: Sequence[Path],
    reader: Reader,
    options: LabelOptions,
) -> Source | None:
    if not any(suffix in CAPTURE_SUFFIXES for suffix in path.suffixes):
        return None
    app, groups = app_and_groups(path, root, options.pattern)
    groups = {**groups, **options.groups}
    name = _name(path, root)
    logs = list(given_logs) or [log for log in _beside(path) if log_kind(log, options) is not None]
    kind = options.kind or _kind(path, logs, options)
    if kind == "folders":
        return Source(name, path, ConstantLabeller(options.rename.get(app, app)), reader, groups)
    # The file's name is no label here, but it is one recording.
    groups.setdefault("session", name)
    if kind == "pktap":
        labeller = OwnerLabeller(kind, has_uids=False, rename=options.rename)
        return Source(name, path, labeller, reader, groups, annotate=PktapReader())
    if kind == "pcapdroid":
        packages: dict[int, str] = {}
        lists = [log for log in logs if pcapdroid_csv.is_pcapdroid_csv(_head(log))]
        for log in lists:
            packages.update(pcapdroid_csv.read_packages(log))
        owners = OwnerLabeller(kind, packages=packages, rename=options.rename)
        return Source(name, path, owners, reader, groups, lists, annotate=TrailerReader())
    fitting = [log for log in logs if log_kind(log, options) == kind]
    if not fitting:
        raise LabelError(f"{name}: no {kind} log beside it")
    return Source(name, path, _join(kind, fitting[0], options), reader, groups, fitting[:1])


def log_kind(path: Path, options: LabelOptions) -> str | None:
    """Which kind of log a file is; None for none."""
    head = _head(path).split("\n", 1)[0]
    if pcapdroid_csv.is_pcapdroid_csv(head):
        return "pcapdroid-csv"
    if networklog.is_networklog_text(head) or networklog.is_networklog_csv(head):
        return "networklog"
    if table.is_zeek(head):
        return "zeek"
    return "table" if options.columns or options.kind == "table" else None


def _join(kind: str, log: Path, options: LabelOptions) -> JoinLabeller:
    is_zone_known, is_start = True, False
    if kind == "pcapdroid-csv":
        lines = pcapdroid_csv.read_pcapdroid_csv(log, options.rename)
    elif kind == "networklog" and networklog.is_networklog_csv(_head(log).split("\n", 1)[0]):
        lines = networklog.read_networklog_csv(log, options.zone, options.rename)
        is_zone_known = options.zone is not None
    elif kind == "networklog":
        lists = [p for p in log.parent.glob("*.csv") if pcapdroid_csv.is_pcapdroid_csv(_head(p))]
        packages = pcapdroid_csv.read_packages(lists[0]) if lists else {}
        lines = networklog.read_networklog_text(log, packages, options.rename)
    else:
        columns = {**(table.ZEEK if kind == "zeek" else {}), **options.columns}
        lines = table.read_table(log, columns)
        is_start = table.is_start_only(lines)
    if not any(lines.app):
        raise LabelError(f"{log}: no line names an app")
    return JoinLabeller.of(
        kind,
        lines.table(is_start=is_start),
        tolerance_s=options.tolerance_s,
        is_zone_known=is_zone_known,
    )


def _kind(
    path: Path,
    logs: Sequence[Path],
    options: LabelOptions,
) -> str:
    own = own_kind(path)
    if own is not None:
        return own
    for log in logs:
        kind = log_kind(log, options)
        if kind is not None:
            return kind
    return "folders"


def own_kind(path: Path) -> str | None:
    """``pcapdroid`` or ``pktap`` when a capture's first packets name their owners."""
    try:
        with open_capture(path, batch_packets=4096) as packets:
            batch = next(iter(packets), None)
            if batch is None or not len(batch):
                return None
            if int(batch.link_type[0]) in LINK_TYPES:
                return "pktap"
            owners = [batch.owners[at] for at in np.unique(batch.owner) if at >= 0]
            # Darwin's process blocks name a process; PCAPdroid names a package, or a uid alone.
            if any(owner.name and not owner.package for owner in owners):
                return "pktap"
            return "pcapdroid" if owners or has_trailers(batch) else None
    except CaptureError:
        return None  # whoever reads its flows will say what is wrong


def _beside(path: Path) -> list[Path]:
    """Logs for a capture: of its own name in its folder, else every log there."""
    near = sorted(p for p in path.parent.iterdir() if p.is_file() and _is_log(p))
    own = [p for p in near if bare_name(p) == bare_name(path)]
    return own or near


def _is_log(path: Path) -> bool:
    return path.suffix.lower() in _LOG_SUFFIXES


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path != root else path.name


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("utf-8", errors="replace").lstrip("\ufeff")
    except OSError:
        return ""
