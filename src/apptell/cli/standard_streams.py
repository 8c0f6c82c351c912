"""Standard streams that show data safely and report a write error in one line.

Standard error is always cleaned (``apptell.records.terminal``): people read it, in a terminal or in a log.
Standard output is cleaned where it is a terminal; a pipe or a file gets the data as it is.
"""

import io
import os
import select
import stat
import sys
import threading
from typing import TextIO, cast

from apptell.errors import OutputError
from apptell.records.terminal import clean

_BUFFERED = 8192
"""Characters after which a stream that is no terminal is written."""


class StandardStream(io.TextIOBase):
    """A standard stream: UTF-8, written through its file descriptor.

    Args:
        name: for messages.
        descriptor: its file descriptor.
        is_for_people: whether it is always cleaned, written at once, and no error when it cannot be written.
    """

    def __init__(self, name: str, descriptor: int, *, is_for_people: bool = False) -> None:
        super().__init__()
        self._name, self._descriptor, self._is_for_people = name, descriptor, is_for_people
        self._waiting: list[str] = []
        self._n_waiting = 0
        self._is_gone = False
        self._lock = threading.RLock()
        try:
            self._mode = os.fstat(descriptor).st_mode
        except OSError:
            self._mode = 0  # closed: a file opened later may get its number
        self._is_terminal = bool(self._mode) and os.isatty(descriptor)
        self._cleans = is_for_people or self._is_terminal
        self.drawn = cast("TextIO", _Drawn(self))
        """The same stream for text that ``TerminalConsole`` has cleaned and coloured."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What text is written as."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Bytes of file names that are no UTF-8 are written as escapes."""
        return "backslashreplace"

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._is_terminal

    def fileno(self) -> int:
        """Its file descriptor."""
        return self._descriptor

    def write(self, text: str) -> int:
        """Writes text from data.

        Raises:
            OutputError: it cannot be written; what was waiting is lost.
            BrokenPipeError: its reader has gone.
        """
        if not isinstance(text, str):  # how click finds out what a stream takes
            raise TypeError("a standard stream takes text")
        self.put(clean(text) if self._cleans else text)
        return len(text)

    def put(self, text: str) -> None:
        """Writes text as it is; raises as ``write`` does."""
        with self._lock:
            self._waiting.append(text)
            self._n_waiting += len(text)
            if (
                (self._is_terminal or self._is_for_people) and "\n" in text
            ) or self._n_waiting >= _BUFFERED:
                self.flush()

    def flush(self) -> None:
        """Writes what is waiting; raises as ``write`` does."""
        with self._lock:
            data = "".join(self._waiting).encode("utf-8", "backslashreplace")
            self._waiting, self._n_waiting = [], 0
            if not data or self._is_gone:
                return
            try:
                self._write_all(data)
            except BrokenPipeError:
                self._is_gone = True
                if not self._is_for_people:
                    raise
            except OSError as error:
                if not self._is_for_people:
                    raise OutputError(f"{self._name}: {error.strerror}") from error

    def _write_all(self, data: bytes) -> None:
        if not self._mode:
            raise OSError(0, "is closed")
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:
                    select.select([], [self._descriptor], [])
        except OSError:
            self._take_back(len(data) - len(view))
            raise

    def _take_back(self, n_bytes: int) -> None:
        """Leaves no half of a text in a file, so that it can be written again."""
        if n_bytes and stat.S_ISREG(self._mode):
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            if end == os.fstat(self._descriptor).st_size:
                os.ftruncate(self._descriptor, end - n_bytes)
                os.lseek(self._descriptor, end - n_bytes, os.SEEK_SET)


class _Drawn(io.TextIOBase):
    """A standard stream for text that is clean."""

    def __init__(self, stream: StandardStream) -> None:
        super().__init__()
        self._stream = stream
        self.isatty, self.fileno = stream.isatty, stream.fileno  # type: ignore[method-assign]
        self.flush = stream.flush  # type: ignore[method-assign]

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._stream.put(text)
        return len(text)


def install() -> None:
    """Replaces ``sys.stdout`` and ``sys.stderr`` with such streams, unless they were replaced already."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = cast("TextIO", StandardStream("standard output", 1))
    if sys.stderr is sys.__stderr__:
        sys.stderr = cast("TextIO", StandardStream("standard error", 2, is_for_people=True))
