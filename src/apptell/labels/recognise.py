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
from apptell.labels.formats import networklog, nudt, pcapdroid_csv, public, table
from apptell.labels.formats.folders import CAPTURE_SUFFIXES, app_and_groups, bare_name
from apptell.labels.formats.pcapdroid import TrailerReader, has_trailers
from apptell.labels.formats.pktap import LINK_TYPES, PktapReader
from apptell.labels.join import DEFAULT_TOLERANCE_S
from apptell.labels.logfile import LogFile, first_line, head
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
    search = _Search(reader, options, [path for path in paths if path.is_file() and _is_log(path)])
    n_found = 0
    for root in paths:
        if not root.exists():
            raise LabelError(f"{root}: no such file or folder")
        for source in search.below(root):
            n_found += 1
            yield source
    if not n_found:
        raise LabelError(f"{paths[0] if paths else '(nothing)'}: no capture and no data set there")


@dataclass(slots=True)
class _Search:
    """Makes sources of files."""

    reader: Reader
    options: LabelOptions
    given_logs: Sequence[Path]
    """Logs that were named: they are for all captures."""
    _folder: Path | None = None
    _folder_logs: list[Path] = field(default_factory=list)

    def below(self, root: Path) -> Iterator[Source | public.PublicSource]:
        """A source for every capture or data-set file in a folder, or for one file."""
        kind, is_folder = self.options.kind, root.is_dir()
        app_list = nudt.app_list_of(root) if is_folder and kind in (None, "nudt") else None
        if app_list is not None:
            for capture in nudt.captures_of(root, app_list):
                groups = {**capture.groups, **self.options.groups}
                yield self._joined("nudt", capture.path, root, capture.logs, groups, app_list)
            return
        for path in sorted(p for p in root.rglob("*") if p.is_file()) if is_folder else [root]:
            found = self._data_set(path, root) or self._capture(path, root)
            if found is not None:
                yield found

    def _data_set(self, path: Path, root: Path) -> public.PublicSource | None:
        options, kind = self.options, None
        if path.suffix == ".parquet" and options.kind in (None, "fgnet") and public.is_fgnet(path):
            kind = "fgnet"
        if path.suffix == ".json" and options.kind in (None, "mirage"):
            kind = "mirage" if public.is_mirage(head(path)) else None
        if kind is None:
            return None
        return public.PublicSource(path, _name(path, root), kind, options.groups, options.rename)

    def _capture(self, path: Path, root: Path) -> Source | None:
        if not any(suffix in CAPTURE_SUFFIXES for suffix in path.suffixes):
            return None
        options, name = self.options, _name(path, root)
        app, groups = app_and_groups(path, root, options.pattern)
        groups = {**groups, **options.groups}
        logs = self.given_logs or self._beside(path)
        kind = options.kind or own_kind(path)
        if kind is None:
            kind = next((kind for log in logs if (kind := log_kind(log, options))), "folders")
        if kind == "folders":
            labeller = ConstantLabeller(options.rename.get(app, app))
            return Source(name, path, labeller, self.reader, groups)
        # The file's name is no label here, but it is one recording.
        groups.setdefault("session", name)
        if kind == "pktap":
            owners = OwnerLabeller(kind, has_uids=False, rename=options.rename)
            return Source(name, path, owners, self.reader, groups, annotate=PktapReader())
        if kind == "pcapdroid":
            lists = tuple(log for log in logs if log_kind(log, options) == "pcapdroid-csv")
            owners = OwnerLabeller(kind, lists=lists, rename=options.rename)
            return Source(name, path, owners, self.reader, groups, lists, annotate=TrailerReader())
        fitting = tuple(log for log in logs if log_kind(log, options) == kind)
        if not fitting:
            raise LabelError(f"{name}: no {kind} log beside it")
        return self._joined(kind, path, root, fitting, groups)

    def _joined(
        self,
        kind: str,
        path: Path,
        root: Path,
        logs: tuple[Path, ...],
        groups: Mapping[str, str],
        app_list: Path | None = None,
    ) -> Source:
        options = self.options
        columns, rename = tuple(options.columns.items()), tuple(options.rename.items())
        log = LogFile(kind, logs, columns, options.zone, rename, app_list)
        labeller = JoinLabeller(log, options.tolerance_s)
        return Source(_name(path, root), path, labeller, self.reader, groups, logs)

    def _beside(self, path: Path) -> list[Path]:
        """Logs for a capture: of its own name in its folder, else every log there."""
        if path.parent != self._folder:
            near = sorted(p for p in path.parent.iterdir() if _is_log(p) and p.is_file())
            self._folder = path.parent
            self._folder_logs = [log for log in near if log_kind(log, self.options) is not None]
        own = [log for log in self._folder_logs if bare_name(log) == bare_name(path)]
        return own or self._folder_logs


def log_kind(path: Path, options: LabelOptions) -> str | None:
    """Which kind of log a file is; None for none."""
    line = first_line(path)
    if options.kind == "table" or (options.columns and not table.is_zeek(line)):
        return "table"
    if pcapdroid_csv.is_pcapdroid_csv(line):
        return "pcapdroid-csv"
    if networklog.is_networklog_text(line) or networklog.is_networklog_csv(line):
        return "networklog"
    return "zeek" if table.is_zeek(line) else None


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


def _is_log(path: Path) -> bool:
    return path.suffix.lower() in _LOG_SUFFIXES


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path != root else path.name
