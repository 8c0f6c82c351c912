"""Writes files and folders completely or not at all; all output of apptell goes through here.

A new file is written beside its final place under a temporary name, synced to the disk, and renamed over the
old one; on an error the old file is unchanged. A symbolic link in the file's place is refused, because its
creator would choose what is overwritten. A device or a pipe is written where it is.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import stat
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from apptell.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SHARED: Final = 0o666
"""Permissions of a new file, before the process's umask."""
PRIVATE: Final = 0o640
"""The same for records of traffic, which show who talked to whom."""
_NAME_CHARACTERS: Final = 40
"""Of the file's name that its temporary name begins with; a file name has 255 bytes."""
_SYNCED_FILES: Final = 64
"""Files of a folder that are synced one by one; beyond that all file systems are synced once."""
_IS_LINK: Final = "is a symbolic link; name its target instead"
_BINARY: Final = getattr(os, "O_BINARY", 0)
"""On Windows, files are opened as text without it."""
_OWN_STREAM: Final = re.compile(r"/dev/std(out|err)|(?:/dev/fd|/proc/self/fd)/(\d+)")
"""Links to streams of this process, which other users cannot change."""


def readable(name: str | os.PathLike[str]) -> str:
    r"""A file's name as text that every output can hold: bytes that are not UTF-8 are written ``\xff``."""
    try:
        data = os.fsencode(name)
    except UnicodeEncodeError:  # no file's name, but text with half a character
        data = os.fspath(name).encode("utf-8", "surrogatepass")
    return data.decode("utf-8", "backslashreplace")


class NewFile(io.RawIOBase):
    """A binary stream to a file that is moved into place when it is complete; see ``new_file``."""

    def __init__(self, path: Path, mode: int = SHARED) -> None:
        super().__init__()
        self.path = path
        self._part: Path | None = None
        self._at = 0
        self._is_over = False
        try:
            self._handle = self._open(mode)
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}") from error

    def _open(self, mode: int) -> int:
        own = _own_stream(self.path)
        if own is not None:
            return own
        try:
            old: os.stat_result | None = self.path.lstat()
        except FileNotFoundError:
            old = None
        if old is not None:
            if stat.S_ISLNK(old.st_mode):
                raise OSError(0, _IS_LINK)
            if stat.S_ISDIR(old.st_mode):
                raise OSError(0, "Is a directory")
            if not stat.S_ISREG(old.st_mode):
                return open_without_links(self.path, os.O_WRONLY)
        name = f".{self.path.name[:_NAME_CHARACTERS]}.{secrets.token_hex(4)}.tmp"
        self._part = self.path.with_name(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        if old is None:
            return open_without_links(self._part, flags, mode)
        handle = open_without_links(self._part, flags, 0o600)
        if hasattr(os, "fchmod"):  # not on Windows
            os.fchmod(handle, stat.S_IMODE(old.st_mode) & 0o777)
        return handle

    def writable(self) -> bool:
        """Returns true."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._at

    def write(self, data: Any) -> int:
        """Writes all of the data. After an error, further data is discarded.

        Raises:
            OutputError: it cannot be written.
            BrokenPipeError: the reader of the pipe has closed it.
        """
        view = memoryview(data).cast("B")
        n = len(view)
        try:
            while view and not self._is_over:
                view = view[os.write(self._handle, view) :]
        except BrokenPipeError:
            self.abandon()
            raise
        except OSError as error:
            self.abandon()
            raise OutputError(f"{self.path}: {error.strerror}") from error
        self._at += n
        return n

    def sync(self) -> None:
        """Syncs the file to the disk, still under its temporary name.

        Raises:
            OutputError: it cannot be written.
        """
        if self._is_over or self._part is None:
            return
        try:
            os.fsync(self._handle)
        except OSError as error:
            self.abandon()
            raise OutputError(f"{self.path}: {error.strerror}") from error

    @property
    def part(self) -> Path:
        """The temporary path until the file is in its place."""
        return self._part or self.path

    def place(self, path: Path | None = None) -> None:
        """Moves the file into its place and closes it.

        Args:
            path: another place in the same folder, for a file named after its content.

        Raises:
            OutputError: it cannot be put there.
        """
        if self._is_over:
            return
        self.sync()
        if self._part is not None:
            try:
                self._part.replace(path or self.path)
                _sync(self.path.parent)
            except OSError as error:
                self.abandon()
                raise OutputError(f"{self.path}: {error.strerror}") from error
        self._end()

    def abandon(self) -> None:
        """Deletes the new file, so that an old file is unchanged. May be called repeatedly."""
        if self._is_over:
            return
        if self._part is not None:
            self._part.unlink(missing_ok=True)
        self._end()

    def _end(self) -> None:
        self._is_over = True
        os.close(self._handle)


@contextmanager
def new_file(
    path: Path, *, mode: int = SHARED, keeps_on: tuple[type[Exception], ...] = ()
) -> Iterator[BinaryIO]:
    """A binary stream to a file, which takes its place when the block ends.

    Args:
        path: the file. An old file is unchanged until then, and also after an error.
        mode: permissions of a new file, reduced by the umask; an old file's permissions are kept.
        keeps_on: errors of the input, after which what was written is kept.

    Raises:
        OutputError: it cannot be written, or is a symbolic link or a folder.
    """
    file = NewFile(path, mode)
    try:
        yield cast("BinaryIO", file)
    except keeps_on:
        file.place()
        raise
    except BaseException:
        file.abandon()
        raise
    file.place()


def write_file(path: Path, content: str | bytes | memoryview, *, mode: int = SHARED) -> None:
    """Writes a file; text as UTF-8.

    Raises:
        OutputError: as for ``new_file``.
    """
    with new_file(path, mode=mode) as file:
        file.write(_bytes(content))


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes files of a folder, which is created if missing; all are on disk before any is moved into place.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    make_folder(folder)
    with ExitStack() as stack:
        opened = []
        for name, content in files.items():
            file = NewFile(folder / name)
            stack.callback(file.abandon)
            file.write(_bytes(content))
            file.sync()
            opened.append(file)
        for file in opened:
            file.place()


@contextmanager
def new_folder(path: Path, *, may_replace: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """An empty folder to write into, which is moved into place when the block ends.

    Args:
        path: the folder.
        may_replace: tells whether an existing folder may be replaced; called again when the new one is
            complete. None: there must be none.

    Raises:
        OutputError: something else is in its place, or the folder cannot be written.
    """

    def check() -> None:
        if path.is_symlink() or (path.exists() and (may_replace is None or not may_replace(path))):
            raise OutputError(f"{path}: already exists and is not replaced")

    check()
    make_folder(path.parent)
    prefix = f".{path.name[:_NAME_CHARACTERS]}."
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as aside:
            fresh = Path(aside, "new")
            fresh.mkdir()
            yield fresh
            _sync_files(fresh)
            check()
            old = Path(aside, "old")
            if path.exists():
                path.rename(old)
            try:
                fresh.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise
            _sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Creates a folder and its parents if they are missing.

    Raises:
        OutputError: it cannot be made, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error


def lock_file(handle: int) -> None:
    """Locks an open file for this process, until the file is closed or the process ends.

    Args:
        handle: a descriptor that is open for writing.

    Raises:
        OSError: another process has locked it.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # on Windows
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def open_without_links(path: Path, flags: int, mode: int = PRIVATE) -> int:
    """A file descriptor to a path that is no symbolic link, not passed on to other programs.

    Raises:
        OSError: it cannot be opened, or is a symbolic link (ELOOP).
    """
    no_links = getattr(os, "O_NOFOLLOW", 0)
    if not no_links and path.is_symlink():  # on Windows
        raise OSError(errno.ELOOP, "is a symbolic link", str(path))
    return os.open(path, flags | no_links | getattr(os, "O_CLOEXEC", 0) | _BINARY, mode)


def open_append(path: Path, mode: int = PRIVATE) -> int:
    """A file descriptor that appends to a file, a device or a pipe.

    Raises:
        OutputError: it cannot be opened, or is a symbolic link.
    """
    try:
        own = _own_stream(path)
        if own is not None:
            return own
        return open_without_links(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode)
    except OSError as error:
        reason = _IS_LINK if error.errno == errno.ELOOP else error.strerror
        raise OutputError(f"{path}: {reason}") from error


def _own_stream(path: Path) -> int | None:
    """A copy of the file descriptor of this process that a path stands for."""
    own = _OWN_STREAM.fullmatch(str(path))
    return os.dup(int(own[2] or {"out": 1, "err": 2}[own[1]])) if own else None


def _sync_files(folder: Path) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    if len(files) > _SYNCED_FILES:
        os.sync()
        return
    for file in files:
        _sync(file)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _bytes(content: str | bytes | memoryview) -> bytes | memoryview:
    return content.encode() if isinstance(content, str) else content
