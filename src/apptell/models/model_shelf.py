"""Keeps the versions of a model in plain folders, and says which of them is in use.

    DIR/NAME/VERSION/      a model's folder
    DIR/NAME/current       the version in use: one line of text, not a link
    DIR/NAME/challenger    the version that runs in its shadow, where there is one
    DIR/NAME/history.json  the versions that were promoted, oldest first

Every file is replaced whole, so that a process that follows ``current`` sees the old or the new version.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from apptell.errors import ModelError, UsageError
from apptell.files import make_folder, new_folder, open_without_links, write_file
from apptell.models.model import Model, load_model
from apptell.models.model_folder import FILES, read_model

CURRENT: Final = "current"
CHALLENGER: Final = "challenger"
HISTORY: Final = "history.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LARGEST_LINE: Final = 256
_LARGEST_HISTORY: Final = 1 << 20
_LARGEST_FILE: Final = 512 << 20
MOST_HISTORY: Final = 1000
"""Promotions that are remembered."""


class ModelShelf:
    """The versions of one model.

    Args:
        folder: ``DIR/NAME``; it need not exist yet.

    Raises:
        UsageError: NAME has other characters than letters, digits, dots, hyphens and underscores.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        _check_name(self.folder.name, "model")

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.folder.name

    def versions(self) -> list[str]:
        """All versions: numbers in their order, then others by name.

        Raises:
            ModelError: there is no such folder.
        """
        try:
            entries = list(self.folder.iterdir())
        except OSError as error:
            raise ModelError(f"{self.folder}: {error.strerror}") from error
        found = [
            entry.name
            for entry in entries
            if _NAME.fullmatch(entry.name) and not entry.is_symlink() and entry.is_dir()
        ]
        return sorted(
            found,
            key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name),
        )

    @property
    def current(self) -> str | None:
        """The version in use; None where none was promoted.

        Raises:
            ModelError: the file is no name of a version.
        """
        return self._line(CURRENT)

    @property
    def challenger(self) -> str | None:
        """The version that runs in the shadow of the one in use; None for none.

        Raises:
            ModelError: the file is no name of a version.
        """
        return self._line(CHALLENGER)

    def path(self, version: str) -> Path:
        """The folder of a version.

        Raises:
            UsageError: it cannot be the name of one, or there is none.
        """
        _check_name(version, "version")
        path = self.folder / version
        if path.is_symlink() or not path.is_dir():
            there = ", ".join(self.versions()) or "none"
            raise UsageError(f"{self.folder}: no version {version!r}; available: {there}")
        return path

    def load(self, version: str, *, threads: int | None = None) -> Model:
        """A version, ready to run.

        Raises:
            UsageError: there is no such version.
            ModelError: it is damaged.
        """
        return load_model(self.path(version), threads=threads)

    def add(self, model: str | Path, version: str | None = None) -> str:
        """Copies a model's folder; it is not promoted.

        Args:
            model: the folder.
            version: its name; default: the next number.

        Returns:
            The version.

        Raises:
            ModelError: the model is damaged.
            UsageError: this cannot be the name of a version.
            OutputError: the version exists, or cannot be written.
        """
        load_model(model)
        make_folder(self.folder)
        numbers = [int(name) for name in self.versions() if name.isdecimal()]
        version = str(max(numbers, default=0) + 1) if version is None else version
        _check_name(version, "version")
        if version in (CURRENT, CHALLENGER, HISTORY):
            raise UsageError(f"{version!r} cannot be the name of a version")
        with new_folder(self.folder / version) as fresh:
            for name in FILES:
                source = Path(model, name)
                if source.exists():
                    (fresh / name).write_bytes(_read(source, _LARGEST_FILE))
            read_model(fresh)
        return version

    def promote(self, version: str) -> None:
        """Makes a version the one in use, if it can be loaded. It is a challenger no longer.

        Raises:
            UsageError: there is no such version.
            ModelError: it is damaged.
            OutputError: the folder cannot be written.
        """
        self.load(version)
        history = self._history()
        if self.current != version:
            history.append({"version": version, "when": _now()})
        write_file(self.folder / HISTORY, json.dumps(history[-MOST_HISTORY:], indent=1) + "\n")
        if self.challenger == version:
            self.challenge(None)
        write_file(self.folder / CURRENT, f"{version}\n")

    def rollback(self) -> str:
        """Makes the version in use that was before the present one; returns it.

        Raises:
            UsageError: there was none.
            ModelError: it is damaged.
            OutputError: the folder cannot be written.
        """
        history = self._promoted()
        if len(history) < 2:
            raise UsageError(f"{self.folder}: no version was in use before {self.current or 'now'}")
        history.pop()
        version = str(history[-1]["version"])
        self.load(version)
        write_file(self.folder / CURRENT, f"{version}\n")
        write_file(self.folder / HISTORY, json.dumps(history, indent=1) + "\n")
        return version

    def challenge(self, version: str | None) -> None:
        """Makes a version the challenger; None for no challenger any more.

        Raises:
            UsageError: there is no such version, or it is the one in use.
            ModelError: it is damaged.
            OutputError: the folder cannot be written.
        """
        if version is not None:
            self.load(version)
            if version == self.current:
                raise UsageError(f"version {version!r} is in use; it cannot challenge itself")
        write_file(self.folder / CHALLENGER, f"{version or ''}\n")

    @property
    def before(self) -> str | None:
        """The version that a rollback makes the one in use; None for none.

        Raises:
            ModelError: a file of the shelf is damaged.
        """
        found = self._promoted()
        return str(found[-2]["version"]) if len(found) > 1 else None

    def promotions(self) -> list[dict[str, Any]]:
        """The versions that were promoted and not rolled back, oldest first: ``version`` and ``when``.

        Raises:
            ModelError: the file is damaged.
        """
        return self._history()

    def _promoted(self) -> list[dict[str, Any]]:
        """The promotions up to that of the version in use."""
        history, current = self._history(), self.current
        while history and history[-1]["version"] != current:
            history.pop()
        return history

    def _line(self, name: str) -> str | None:
        path = self.folder / name
        try:
            line = _read(path, _LARGEST_LINE).decode().strip()
        except UnicodeDecodeError as error:
            raise ModelError(f"{path}: not the name of a version") from error
        except FileNotFoundError:
            return None
        if line and not _NAME.fullmatch(line):
            raise ModelError(f"{path}: not the name of a version")
        return line or None

    def _history(self) -> list[dict[str, Any]]:
        path = self.folder / HISTORY
        try:
            found = json.loads(_read(path, _LARGEST_HISTORY))
        except FileNotFoundError:
            return []
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path}: not valid JSON") from error
        if not isinstance(found, list) or not all(
            isinstance(each, dict) and isinstance(each.get("version"), str) for each in found
        ):
            raise ModelError(f"{path}: not a list of versions")
        return found


def shelves(folder: str | Path) -> list[ModelShelf]:
    """The models of a registry, by name: folders with a file ``current``, or with versions.

    Raises:
        ModelError: there is no such folder, or it is that of one model.
    """
    try:
        entries = sorted(Path(folder).iterdir())
    except OSError as error:
        raise ModelError(f"{folder}: {error.strerror}") from error
    if any(entry.name == CURRENT and entry.is_file() for entry in entries):
        raise ModelError(f"{folder}: the folder of one model; a registry is the folder above it")
    return [
        ModelShelf(entry)
        for entry in entries
        if _NAME.fullmatch(entry.name) and not entry.is_symlink() and entry.is_dir()
    ]


def _check_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a {what}: letters, digits, dots, hyphens and underscores can"
        )


def _read(path: Path, largest: int) -> bytes:
    """A regular file's content.

    Raises:
        FileNotFoundError: there is none.
        ModelError: it cannot be read, is a link, or is too large.
    """
    try:
        # without O_NONBLOCK, opening a pipe would wait for its writer
        with os.fdopen(open_without_links(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            content = stream.read(largest + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > largest:
        raise ModelError(f"{path}: more than {largest:,} bytes")
    return content


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
