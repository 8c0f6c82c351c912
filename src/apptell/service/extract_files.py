"""Writes packets to pcapng files that are rotated by size; of its own files the oldest are deleted.

A file's name has its number and the time at which it was begun, as dumpcap names the files of a ring. Existing
files are never replaced.
"""

from __future__ import annotations

import io
import os
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from apptell.capture.pcapng_writer import PcapngWriter
from apptell.errors import OutputError, UsageError
from apptell.files import PRIVATE, open_without_links

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apptell.capture.batch import PacketBatch

_FLUSH_BYTES: Final = 1 << 18
_BLOCK_BYTES: Final = 1024
"""What a packet takes in a file beside its frame, at most, with its comment."""
_RETRY_S: Final = 1.0
"""Time after a failure in which nothing is tried."""
_ATTEMPTS: Final = 1000
"""Numbers that are tried for the name of a new file."""


class ExtractFiles:
    """The files of one run.

    Args:
        path: gives folder, beginning and suffix of their names.
        max_bytes: size at which the next file is begun.
        max_files: files that are kept.
        say: called once, with the first error.

    Raises:
        UsageError: the path has no name.
        OutputError: its folder does not exist or cannot be written to.
    """

    def __init__(
        self, path: Path, max_bytes: int, max_files: int, say: Callable[[str], None]
    ) -> None:
        if not path.name or path.is_dir():
            raise UsageError(f"{path}: is a folder; name a file in it")
        if not path.parent.is_dir():
            raise OutputError(f"{path}: there is no folder {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"{path}: the folder {path.parent} cannot be written to")
        self.written = 0
        """Packets that are in files, also in those that were deleted."""
        self.failed = 0
        """Packets that could not be written."""
        self.n_files = 0
        """Files that were begun."""
        self._path, self._max_bytes, self._max_files, self._say = path, max_bytes, max_files, say
        self._kept: deque[tuple[Path, os.stat_result]] = deque()
        self._serial = self._size = self._pending = 0
        self._buffer = io.BytesIO()
        self._number = 0
        self._retry_s = 0.0
        self._has_said = False
        self._handle = -1
        self._begin()

    @property
    def names(self) -> str:
        """A pattern of their names."""
        return str(self._path.with_name(f"{self._path.stem}_*{self._path.suffix}"))

    def write(
        self, packets: PacketBatch, row: int, capture: str, comment: str, known: int | None
    ) -> int | None:
        """Writes a packet.

        Args:
            packets: some packets.
            row: the one to write.
            capture: name of their source.
            comment: what is said of its flow.
            known: the file in which it was said last.

        Returns:
            The number of the file, in which the comment stands now; None if it could not be written.
        """
        if self._retry_s and time.monotonic() < self._retry_s:
            self.failed += 1
            return None
        size = self._size + self._buffer.tell() + int(packets.captured[row]) + _BLOCK_BYTES
        if size > self._max_bytes and self._size + self._pending:
            self.flush()
            self._end()
        self._writer.write(packets, row, capture, comment if known != self._serial else None)
        self._pending += 1
        serial = self._serial
        if self._buffer.tell() >= _FLUSH_BYTES:
            self.flush()
        return serial

    def flush(self) -> None:
        """Writes what has gathered; on an error it is lost, and the file ends before it."""
        if not self._pending:
            return
        pending, self._pending = self._pending, 0
        try:
            if self._handle < 0:
                self._open()
            view = self._buffer.getbuffer()
            at = 0
            while at < len(view):
                at += os.write(self._handle, view[at:])
        except OSError as error:
            self.failed += pending
            self._retry_s = time.monotonic() + _RETRY_S
            if not self._has_said:
                self._has_said = True
                self._say(
                    f"{self._path}: {error.strerror}: packets of chosen flows are lost until it can be "
                    "written"
                )
            self._undo()
            return
        self.written += pending
        self._retry_s = 0.0
        self._size += at
        del view
        self._buffer.seek(0)
        self._buffer.truncate()
        while len(self._kept) > self._max_files:  # only now: a full disk must cost no older file
            _delete(*self._kept.popleft())

    def close(self) -> None:
        """Ends the last file."""
        self.flush()
        self._end()

    def _begin(self) -> None:
        self._serial += 1
        self._size = self._pending = 0
        self._buffer = io.BytesIO()
        self._writer = PcapngWriter(self._buffer)

    def _open(self) -> None:
        """Opens a file that did not exist.

        Raises:
            OSError: it cannot be opened.
        """
        begun = time.strftime("%Y%m%d%H%M%S", time.gmtime())
        for number in range(self._number + 1, self._number + _ATTEMPTS):
            name = f"{self._path.stem}_{number:05}_{begun}{self._path.suffix}"
            path = self._path.with_name(name)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                self._handle = open_without_links(path, flags, PRIVATE)
            except FileExistsError:
                continue
            break
        else:
            raise FileExistsError(0, "no free name for a file")
        self._number = number
        self.n_files += 1
        self._kept.append((path, os.fstat(self._handle)))

    def _undo(self) -> None:
        """Takes away what was written in part, and ends the file."""
        if self._handle >= 0:
            with suppress(OSError):  # a file that ends within a block is readable up to there
                os.ftruncate(self._handle, self._size)
            if not self._size:
                _delete(*self._kept.pop())
                self._number -= 1
                self.n_files -= 1
        self._end()

    def _end(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self._begin()


def _delete(path: Path, own: os.stat_result) -> None:
    """Deletes a file, unless another one has taken its place."""
    with suppress(OSError):  # it is gone already, or the folder is no longer ours
        if os.path.samestat(path.lstat(), own):
            path.unlink()
