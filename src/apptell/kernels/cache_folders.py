"""The folders where compiled code is kept, those that other users could write to left out.

Compiled code is loaded and run as it is found. So a folder counts only where it belongs to this user or to
root and nobody else may write to it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from numba.core import config
from numba.misc.appdirs import AppDirs

from apptell.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE: Final = "NUMBA_CACHE_DIR"
_PACKAGE: Final = Path(__file__).parents[1]


def cache_folders() -> list[Path]:
    """Folders to look for compiled code in, the preferred one first. They need not exist.

    That is a folder below the one that the environment variable ``NUMBA_CACHE_DIR`` names; else the package's
    own ``__pycache__``, then the user's cache folder, so that an install may be read-only.

    Raises:
        UsageError: other users can write to the folder that the variable names.
    """
    # several installs may share a folder: each has its own place in it
    place = f"{_PACKAGE.name}-{hashlib.sha256(os.fsencode(_PACKAGE)).hexdigest()[:16]}"
    named = config.CACHE_DIR  # type: ignore[attr-defined]
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
    user = Path(AppDirs(appname="apptell", appauthor=False).user_cache_dir) / "kernels" / place
    return [folder for folder in (own, user) if why_unsafe(folder) is None]


def why_unsafe(folder: Path) -> str | None:
    """Why compiled code may not be loaded from a folder; None where it may, or where there is no folder."""
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
    """Makes a folder that nobody else may write to where there is none; whether files can be written to it."""
    try:
        for each in (folder.parent, folder):
            each.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


@contextmanager
def private_files() -> Iterator[None]:
    """Files that are made within are not writable by others, whatever this process' file mode mask is."""
    mask = os.umask(0o022)
    os.umask(mask | 0o022)
    try:
        yield
    finally:
        os.umask(mask)
