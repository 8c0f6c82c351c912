"""Lists the reports in a folder, and reads their files; what is in them is data and never trusted.

A report is a folder with a ``report.html``, as ``evaluate``, ``compare``, ``audit``, ``reproduce`` and
``drift`` write it. Links are not followed, and nothing outside the folder is read.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from apptell.errors import OutputError
from apptell.files import open_without_links, readable
from apptell.watch.found_folder import FOUND_FILE
from apptell.web.flat_figures import figures_of

PAGE: Final = "report.html"
FIGURES: Final = "metrics.json"
KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".parquet": "application/vnd.apache.parquet",
}
"""Endings of files that are served, with their media types."""
MOST_BYTES: Final = 64 << 20
"""Of one file."""
_MOST_FIGURE_BYTES: Final = 8 << 20
_MOST_REPORTS: Final = 500
_MOST_FOLDERS: Final = 5000
_DEPTH: Final = 3


@dataclass(frozen=True, slots=True)
class Report:
    """A report in the folder."""

    name: str
    """Its path in the folder, with slashes; a dot for the folder itself."""
    modified_ns: int
    files: tuple[str, ...]
    """Names of the files that are served."""
    figures: dict[str, float]
    """The numbers in its ``metrics.json``; a nested one has its keys joined by dots."""


class ReportShelf:
    """The reports in a folder.

    Args:
        folder: with reports, at most three folders deep.

    Raises:
        OutputError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise OutputError(f"{folder}: no such folder of reports")
        self.folder = folder.resolve()

    def reports(self) -> list[Report]:
        """The reports, newest first."""
        found = [self._report(path, files) for path, files in self._folders_with(PAGE)]
        return sorted(found, key=lambda report: (-report.modified_ns, report.name))

    def found_folders(self) -> list[tuple[str, Path, int]]:
        """The folders that ``discover`` wrote, newest first: name, folder, and time of writing in ns."""
        found = [
            (self._name(path), path, (path / FOUND_FILE).lstat().st_mtime_ns)
            for path, _ in self._folders_with(FOUND_FILE)
        ]
        return sorted(found, key=lambda each: (-each[2], each[0]))

    def _folders_with(self, file: str) -> list[tuple[Path, list[str]]]:
        """The folders that have a regular file of this name, and the names of all their files."""
        found: list[tuple[Path, list[str]]] = []
        walk = os.walk(self.folder)  # does not follow links
        for seen, (place, folders, files) in enumerate(walk):
            path = Path(place)
            deep = len(path.relative_to(self.folder).parts)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if deep >= _DEPTH:
                folders.clear()
            if file in files and _is_file(path / file):
                found.append((path, files))
            if len(found) >= _MOST_REPORTS or seen >= _MOST_FOLDERS:
                break
        return found

    def _name(self, path: Path) -> str:
        """A folder's path in this folder."""
        return readable(path.relative_to(self.folder).as_posix())

    def _report(self, path: Path, files: list[str]) -> Report:
        served = tuple(
            sorted(name for name in files if _is_served(name) and readable(name) == name)
        )
        name = self._name(path)
        modified = (path / PAGE).lstat().st_mtime_ns
        return Report(name, modified, served, self._figures(path / FIGURES))

    def _figures(self, path: Path) -> dict[str, float]:
        try:
            found = json.loads(_read(path, _MOST_FIGURE_BYTES))
        except (OSError, ValueError, RecursionError, OutputError):
            return {}
        return figures_of(found)

    def read(self, path: str) -> tuple[bytes, str]:
        """The content of a file of a report, and its media type.

        Args:
            path: in the folder, with slashes.

        Raises:
            OutputError: there is no such file that may be served.
        """
        parts = path.split("/")
        if any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
            raise OutputError("there is no such file")
        file = self.folder.joinpath(*parts)
        try:
            is_inside = file.parent.resolve(strict=True) == file.parent
            if not is_inside or not _is_served(parts[-1]) or not _is_file(file):
                raise OutputError("there is no such file")
            return _read(file, MOST_BYTES), KINDS[file.suffix.lower()]
        except (OSError, ValueError) as error:
            raise OutputError("there is no such file") from error


def _is_served(name: str) -> bool:
    return Path(name).suffix.lower() in KINDS and not name.startswith(".")


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _read(path: Path, most: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be read, or is a link.
        OutputError: it is too large, or no regular file.
    """
    with os.fdopen(open_without_links(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise OutputError(f"{path.name}: is larger than {most:,} bytes, or no file")
        return stream.read(most)
