"""Writes the files of a report into a folder; replaces only files that a report wrote.

``.apptell-report`` lists the files that reports wrote there, with the SHA-256 of each. If a file has another
content, it belongs to the user and nothing is written.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import OutputError
from apptell.files import write_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

RECORD_FILE: Final = ".apptell-report"
_MAX_RECORD_BYTES: Final = 16 << 20


def write_report_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes the files of a report, all or none.

    Args:
        folder: created if it is missing.
        files: name to content.

    Raises:
        OutputError: a file of one of these names exists and was not written by a report, or the folder cannot
            be written.
    """
    known = check_report_folder(folder, files)
    new = {name: hashlib.sha256(_bytes(content)).hexdigest() for name, content in files.items()}
    _record(folder, known, new)
    write_files(folder, files)


@contextmanager
def report_file(path: Path) -> Iterator[None]:
    """Lets the block write one file of a report, completely or not at all, and records it.

    Raises:
        OutputError: the file exists and was not written by a report.
    """
    known = check_report_folder(path.parent, [path.name])
    yield
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    _record(path.parent, known, {path.name: digest})


def _record(folder: Path, known: Mapping[str, list[str]], new: Mapping[str, str]) -> None:
    """Notes contents beside those of before: a report that is killed half way may be written again."""
    record = {
        **known,
        **{name: [*known.get(name, [])[-1:], digest] for name, digest in new.items()},
    }
    text = json.dumps({"files": record}, indent=1, ensure_ascii=False) + "\n"
    write_files(folder, {RECORD_FILE: text})


def check_report_folder(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Refuses a folder that a report must not be written to; called before long work.

    Args:
        folder: may be absent.
        names: files of the report.

    Returns:
        SHA-256 of the contents that each file of earlier reports may have.

    Raises:
        OutputError: a file of one of these names exists and was not written by a report.
    """
    known = _recorded(folder)
    for name in names:
        file = folder / name
        if (file.exists() or file.is_symlink()) and not _is_own(file, known.get(name, [])):
            raise OutputError(
                f"{file}: was not written by a report, or was changed since; "
                "move it away, or choose another folder"
            )
    return known


def _recorded(folder: Path) -> dict[str, list[str]]:
    """SHA-256 of the contents that each file of a report may have."""
    file = folder / RECORD_FILE
    if not file.exists() and not file.is_symlink():
        return {}
    try:
        if file.is_symlink() or file.stat().st_size > _MAX_RECORD_BYTES:
            raise ValueError("a link, or too large")  # noqa: TRY301
        found: Any = json.loads(file.read_bytes())["files"]
        return {str(name): [str(digest) for digest in digests] for name, digests in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OutputError(
            f"{file}: not a valid list of report files; move it away: {error}"
        ) from error


def _is_own(file: Path, digests: list[str]) -> bool:
    if file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() in digests


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
