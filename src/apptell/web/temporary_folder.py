"""A temporary folder that the next server deletes if this one is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

from apptell.errors import OutputError
from apptell.files import open_append

PREFIX: Final = "apptell-try-"
LOCK: Final = "in-use"
_PRIVATE: Final = 0o600
_BEGIN_S: Final = 60.0
"""A folder that is younger may not be locked yet."""


class TemporaryFolder:
    """A folder that only this user can enter. While it is used, the file ``LOCK`` in it is locked.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self) -> None:
        _delete_abandoned(Path(tempfile.gettempdir()))
        try:
            self._place = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        except OSError as error:
            raise OutputError(f"no temporary folder: {error.strerror}") from error
        self.path = Path(self._place.name)
        self._lock = open_append(self.path / LOCK, _PRIVATE)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def delete(self) -> None:
        """Deletes it with everything in it."""
        self._place.cleanup()
        os.close(self._lock)


def _delete_abandoned(place: Path) -> None:
    """Deletes folders of servers of this user that were killed."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            of = folder.lstat()
            if not stat.S_ISDIR(of.st_mode) or of.st_uid != os.geteuid():
                continue
            lock = folder / LOCK
            if time.time() - lock.lstat().st_mtime < _BEGIN_S:
                continue
            handle = open_append(lock, _PRIVATE)
        except (OSError, OutputError):
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # its server is running
        finally:
            os.close(handle)
