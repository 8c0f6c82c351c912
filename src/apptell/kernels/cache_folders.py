"""Finds the folders for cached compiled code, excluding those that other users can write to.

Compiled code is loaded and run without further checks. Therefore a folder is used only if it belongs to this
user or to root and nobody else can write to it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from apptell.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE: Final = "NUMBA_CACHE_DIR"
_PACKAGE: Final = Path(__file__).parents[1]


def cache_folders() -> list[Path]:
    """Folders to look for compiled code in, the preferred one first. They need not exist.

    If the environment variable ``NUMBA_CACHE_DIR`` is set, it is a folder below that one. Otherwise they are
    the package's own ``__pycache__`` and then the user's cache folder, so that the package can be installed
    read-only.

    Raises:
        UsageError: other users can write to the folder that the variable names.
    """
    # several installs may share a folder: each has its own place in it
    place = f"{_PACKAGE.name}-{hashlib.sha256(os.fsencode(_PACKAGE)).hexdigest()[:16]}"
    named = os.environ.get(VARIABLE)
    if named:
        folder = Path(named)
        for each in (folder, folder / place):
            why = why_unsafe(each)
            if why is not None:
                raise UsageError(
                    f"{VARIABLE}: {each}: {why}; compiled code is only loaded from a folder that "
                    "nobody else can change"
                )
        return [folder / place]
    own = Path(__file__).parent / "__pycache__"
    user = _user_cache() / "kernels" / place
    return [folder for folder in (own, user) if why_unsafe(folder) is None]


def _user_cache() -> Path:
    """The folder of apptell below the user's folder for caches."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "apptell" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "apptell"
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "apptell"


def why_unsafe(folder: Path) -> str | None:
    """Why compiled code must not be loaded from a folder; None if it may be, or without such a folder."""
    try:
        found = folder.stat()
    except OSError:
        return None
    if not hasattr(os, "getuid"):  # Windows: the folder's access list is not looked at
        return None
    if found.st_uid not in (0, os.getuid()):
        return "the folder belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "other users can write to this folder"
    return None


def make_writable(folder: Path) -> bool:
    """Creates the folder, writable only for this user, if necessary; returns whether it is writable."""
    try:
        for each in (folder.parent, folder):
            each.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


@contextmanager
def private_files() -> Iterator[None]:
    """A context in which new files are not writable for others, whatever the umask of the process is."""
    mask = os.umask(0o022)
    os.umask(mask | 0o022)
    try:
        yield
    finally:
        os.umask(mask)
