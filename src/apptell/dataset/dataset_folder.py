"""Locks a dataset's folder for one writer, and records the files that a build may delete.

The file ``.apptell-build`` in the folder is both lock and record: it lists every file that a build creates,
before it is part of the dataset. Files of a killed build are deleted by that list, and never by a pattern of
names.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from typing import TYPE_CHECKING, Final

from apptell.dataset.manifest import INFO_FILE, SHARD_NAME
from apptell.errors import DatasetError, OutputError
from apptell.files import NewFile, lock_file, open_without_links

if TYPE_CHECKING:
    from pathlib import Path

RECORD_FILE: Final = ".apptell-build"
_HEAD: Final = "apptell dataset build: files in the making, one a line\n"
_MADE: Final = re.compile(rf"{SHARD_NAME.pattern}|\.[\w.-]{{1,60}}\.[0-9a-f]{{8}}\.tmp|README\.md")
"""Names that a build gives: a shard, a file before it has its place, the card."""
_MAX_RECORD_BYTES: Final = 16 << 20


class DatasetFolder:
    """A dataset's folder, locked; use ``close`` when done."""

    def __init__(self, path: Path) -> None:
        """Locks the folder; creates it if it is missing.

        Raises:
            DatasetError: it is a file, holds other things and no dataset, cannot be written, or another
                build is writing it.
        """
        self.path = path
        if path.exists() and not path.is_dir():
            raise DatasetError(f"{path}: is a file and not a dataset's folder")
        try:
            self._is_new = not path.exists()
            path.mkdir(parents=True, exist_ok=True)
            self._refuse_other_things()
            self.made = _recorded(path)
            """What an earlier build that was killed had made."""
            self._lock = open_without_links(path / RECORD_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DatasetError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            lock_file(self._lock)
        except OSError as error:
            os.close(self._lock)
            raise DatasetError(f"{path}: another build is writing it") from error

    @property
    def has_dataset(self) -> bool:
        """Whether the folder holds a dataset."""
        return (self.path / INFO_FILE).exists()

    def new_file(self, name: str) -> NewFile:
        """A new file of the folder; it is in the record until ``settle``.

        Raises:
            OutputError: it cannot be made.
        """
        file = NewFile(self.path / name)
        self.record(file.part.name)
        return file

    def scratch(self, what: str) -> Path:
        """The path of a file that is only used while building; it is in the record until ``settle``.

        Raises:
            OutputError: the record cannot be written.
        """
        path = self.path / f".{what}.{secrets.token_hex(4)}.tmp"
        self.record(path.name)
        return path

    def record(self, *names: str) -> None:
        """Puts names of files that this build makes into the record.

        Raises:
            OutputError: the record cannot be written.
        """
        text = "".join(f"{name}\n" for name in names)
        try:
            if not os.lseek(self._lock, 0, os.SEEK_END):
                text = _HEAD + text
            os.write(self._lock, text.encode())
            os.fsync(self._lock)
        except OSError as error:
            raise OutputError(f"{self.path / RECORD_FILE}: {error.strerror}") from error

    def settle(self, keep: set[str]) -> None:
        """Deletes the recorded files but those to keep, and empties the record.

        Raises:
            DatasetError: a file cannot be deleted.
        """
        for name in _recorded(self.path) - keep:
            self.delete(name)
        os.ftruncate(self._lock, 0)

    def delete(self, name: str) -> None:
        """Deletes one file, if it is a regular one.

        Raises:
            DatasetError: it cannot be deleted.
        """
        file = self.path / name
        try:
            if stat.S_ISREG(file.lstat().st_mode):
                file.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise DatasetError(f"{file}: cannot be deleted: {error.strerror}") from error

    def close(self) -> None:
        """Unlocks the folder; deletes it if it was created and stayed empty."""
        if self._is_new and {file.name for file in self.path.iterdir()} == {RECORD_FILE}:
            (self.path / RECORD_FILE).unlink()
            self.path.rmdir()
        os.close(self._lock)

    def _refuse_other_things(self) -> None:
        if self.has_dataset:
            return
        ours = _recorded(self.path) | {RECORD_FILE}
        strange = sorted(file.name for file in self.path.iterdir() if file.name not in ours)
        if strange:
            raise DatasetError(f"{self.path}: not empty and not a dataset ({strange[0]})")


def _recorded(folder: Path) -> set[str]:
    """Names of files that the record of a folder has, of the forms that a build gives."""
    file = folder / RECORD_FILE
    try:
        if not stat.S_ISREG(file.lstat().st_mode) or file.stat().st_size > _MAX_RECORD_BYTES:
            raise DatasetError(f"{file}: was not written by apptell; move it away")
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return set()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: was not written by apptell; move it away") from error
    if text and not text.startswith(_HEAD):
        raise DatasetError(f"{file}: was not written by apptell; move it away")
    return {name for name in text.removeprefix(_HEAD).splitlines() if _MADE.fullmatch(name)}
