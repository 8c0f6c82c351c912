"""Finds sources of labelled flows in files and folders, and recognises their formats.

A format is recognised from content: the layout of a public dataset, owners that the capture itself names, or
    a log beside it. If there is none of these, the names of folder and file are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.errors import LabelError
from apptell.labels.file_names import LOG_SUFFIXES, bare_name, is_capture_name
from apptell.labels.format import CAPTURE_FILES, Candidate, LogFormat
from apptell.labels.options import LabelOptions
from apptell.labels.registry import formats
from apptell.labels.text_files import TextFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from apptell.dataset.reading import LabelledSource
    from apptell.labels.format import LabelFormat
    from apptell.labels.labelled_capture import LabelledFlowReader


class LabelSearch:
    """The sources of labelled flows below some paths, in order of name; may be iterated again.

    Every file that the user named has to be of use. A file of another name that looks like a label log and
    was not used is in ``unused`` afterwards.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        reader: LabelledFlowReader,
        options: LabelOptions | None = None,
        *,
        label_formats: Sequence[LabelFormat] | None = None,
    ) -> None:
        """Looks at no file yet.

        Args:
            paths: files and folders; a log among them is for all captures among them.
            reader: reads a capture's flows.
            options: the user's options.
            label_formats: the formats to ask, in this order; default: all that are registered, or the one
                that ``options.kind`` names.

        Raises:
            UsageError: no such format.
        """
        self._paths = list(paths)
        self._reader = reader
        self._options = options or LabelOptions()
        self._known = label_formats or formats()
        self._asked = label_formats or formats(self._options.kind)
        self.unused: dict[Path, str] = {}
        """Files beside captures that look like label logs and were not used, with the reason."""

    def __iter__(self) -> Iterator[LabelledSource]:
        """The sources.

        Raises:
            LabelError: nothing was found, a file that the user named is not usable, or a capture has no
                ground truth of the requested format.
        """
        for path in self._paths:
            if not path.exists():
                raise LabelError(f"{path}: no such file or folder")
        named_logs = self._named_logs()
        asked = self._asked
        if self._options.kind is not None:
            candidates = [
                Candidate(path, root, self._reader, self._options)
                for root in self._paths
                for path in _files_below(root)
            ]
            asked = [form.survey(candidates) for form in asked]
        search = _Search(self._reader, self._options, asked, self._known, named_logs)
        n_found = 0
        for root in self._paths:
            n_before = n_found
            for source in search.below(root):
                n_found += 1
                yield source
            if n_found == n_before and root.is_file() and root not in named_logs:
                wanted = self._options.kind or "label log, data set or capture"
                raise LabelError(f"{root}: not a file in a known format ({wanted})")
        if not n_found:
            place = self._paths[0] if self._paths else "(nothing)"
            raise LabelError(f"{place}: no capture and no dataset found; {self._expected()}")
        for log in named_logs:
            if log not in search.used:
                raise LabelError(
                    f"{log}: given as a label log, but no capture here takes labels from it"
                )
        if self._options.columns and not search.n_logs:
            raise LabelError(
                f"{self._paths[0]}: columns of a label table are named, "
                "but no capture here takes labels from one"
            )
        self.unused = search.unused()

    def _expected(self) -> str:
        """What the folder should hold, for a message."""
        if self._options.kind is None:
            return f"expected are {CAPTURE_FILES}, or the files of a public dataset"
        return f"labels of the kind {self._options.kind} come from {self._asked[0].files}"

    def _named_logs(self) -> dict[Path, TextFile]:
        """The logs among the paths; a text file that is neither log nor data set is refused."""
        logs = {}
        for path in self._paths:
            if not path.is_file() or is_capture_name(path) or not _is_text_name(path):
                continue
            candidate = Candidate(path, path, self._reader, self._options)
            log = TextFile(path)
            if _log_format(log, self._known, self._options) is not None:
                logs[path] = log
            elif not any(form.detect(candidate) for form in self._asked):
                raise LabelError(
                    f"{path}: not a label log in a known format; "
                    "for a table of your own, say what its columns mean",
                    argument="columns",
                )
        return logs


class _Search:
    """Makes sources of files."""

    def __init__(
        self,
        reader: LabelledFlowReader,
        options: LabelOptions,
        asked: Sequence[LabelFormat],
        known: Sequence[LabelFormat],
        named_logs: dict[Path, TextFile],
    ) -> None:
        self._reader = reader
        self._options = options
        self._asked = asked
        """Formats that may read a candidate."""
        self._known = known
        """Formats of which a file may be a log."""
        self._named_logs = named_logs
        """Logs that the user named: they are for all captures."""
        self.used: set[Path] = set()
        """Files that sources take labels from."""
        self.n_logs = 0
        """Label logs that captures take labels from, each counted once for each of them."""
        self._beside: dict[Path, list[TextFile]] = {}
        """The text files of each folder with captures."""

    def below(self, root: Path) -> Iterator[LabelledSource]:
        """The sources in a folder, or of one file."""
        if root.is_dir():
            whole = self._sources(Candidate(root, root, self._reader, self._options))
            if whole is not None:
                yield from whole
                return
        for path in _files_below(root):
            if path in self._named_logs:
                continue
            yield from self._sources(self._candidate(path, root)) or ()

    def _candidate(self, path: Path, root: Path) -> Candidate:
        candidate = Candidate(path, root, self._reader, self._options)
        if not _is_text_name(path) and candidate.is_capture:
            candidate.has_named_logs = bool(self._named_logs)
            candidate.logs = list(self._named_logs.values()) or self._logs_beside(path)
        return candidate

    def _sources(self, candidate: Candidate) -> Iterator[LabelledSource] | None:
        """The sources of the first format that recognises a candidate; None where none does."""
        forced = self._options.kind is not None
        for form in self._asked:
            if (forced and candidate.path.is_file()) or form.detect(candidate):
                return self._noted(form.read(candidate))
        return None

    def _noted(self, sources: Iterator[LabelledSource]) -> Iterator[LabelledSource]:
        for source in sources:
            logs = getattr(source, "logs", ())
            self.n_logs += len(logs)
            self.used.update(source.files, logs)
            yield source

    def _logs_beside(self, path: Path) -> list[TextFile]:
        """Logs for a capture: those in its folder with its name, else every log there."""
        if path.parent not in self._beside:
            near = sorted(p for p in path.parent.iterdir() if _is_text_name(p) and p.is_file())
            self._beside[path.parent] = [TextFile(log) for log in near]
        logs = [
            log
            for log in self._beside[path.parent]
            if _log_format(log, self._known, self._options) is not None
        ]
        own = [log for log in logs if bare_name(log.path) == bare_name(path)]
        return own or logs

    def unused(self) -> dict[Path, str]:
        """Text files beside captures that no source took labels from, with the reason.

        Empty if the user chose the format.
        """
        found: dict[Path, str] = {}
        if self._options.kind is not None:
            return found
        for logs in self._beside.values():
            for log in logs:
                if log.path in self.used or log.path.name.upper().startswith("README"):
                    continue
                form = _log_format(log, self._known, self._options)
                found[log.path] = (
                    "not a label log in a known format"
                    if form is None
                    else f"a label log ({form.name}) that no capture beside it needs"
                )
        return found


def _files_below(root: Path) -> list[Path]:
    """The files in a folder and its folders, sorted; a file itself."""
    if not root.is_dir():
        return [root]
    return sorted(path for path in root.rglob("*") if path.is_file())


def _log_format(
    log: TextFile, label_formats: Sequence[LabelFormat], options: LabelOptions
) -> LogFormat | None:
    """The first format of which a text file is a log."""
    for form in label_formats:
        if isinstance(form, LogFormat) and form.is_log(log, options):
            return form
    return None


def _is_text_name(path: Path) -> bool:
    return path.suffix.lower() in LOG_SUFFIXES
