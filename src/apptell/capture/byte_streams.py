"""Reads bytes from files, pipes and file objects; a read returns what is available without waiting for more."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from apptell.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apptell.capture.window import ByteStream

POLL_S: Final = 0.05
"""How long to wait before looking again for bytes that are not there yet."""


class Stop:
    """Tells a waiting reader when to stop; wraps a callable or a ``threading.Event``."""

    def __init__(self, stop: Callable[[], bool] | threading.Event | None) -> None:
        self._ask = stop.is_set if isinstance(stop, threading.Event) else stop
        self.asked = False
        """Whether the answer was yes, or the wait was interrupted from the keyboard."""

    def __call__(self) -> bool:
        """Returns whether to stop; once true, it stays true."""
        if not self.asked and self._ask is not None:
            self.asked = bool(self._ask())
        return self.asked

    def wait(self, seconds: float = POLL_S) -> bool:
        """Waits ``seconds``; returns True if the reader must stop."""
        try:
            if not self() and seconds:
                time.sleep(seconds)
        except KeyboardInterrupt:
            self.asked = True
        return self()


class ObjectStream:
    """The bytes of a binary file object. Bytes that are ready in a pipe are returned immediately."""

    def __init__(self, file: BinaryIO | Any, stop: Stop, *, owned: bool) -> None:
        """``owned``: whether closing the stream closes the file.

        Raises:
            UsageError: the object gives text, or cannot be read.
        """
        # A BufferedReader's readinto waits until the whole view is full; readinto1 does not.
        read = getattr(file, "readinto1", None) or getattr(file, "readinto", None)
        if read is None and not hasattr(file, "read"):
            raise UsageError(
                f"a capture is read from a binary file object, not from {type(file).__name__}"
            )
        self._file = file
        self._readinto = read
        self._stop = stop
        self._owned = owned

    @property
    def stopped(self) -> bool:
        """Whether the stream ended because it was asked to."""
        return self._stop.asked

    def readinto(self, view: memoryview, /) -> int:
        """Put what is there into ``view``; 0 at the end."""
        while True:
            count = self._readinto(view) if self._readinto is not None else self._read(view)
            if count is not None:  # a non-blocking file object returns None when it has no data
                return int(count)
            if self._stop.wait():
                return 0

    def _read(self, view: memoryview) -> int | None:
        data = self._file.read(len(view))
        if data is None:
            return None
        if not isinstance(data, bytes | bytearray | memoryview):
            raise UsageError(
                "a capture is read from a file opened in binary mode, not in text mode"
            )
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Closes the file if the stream owns it."""
        if self._owned:
            self._file.close()


class GrowingStream:
    """A stream over a file that is still being written: at the end it waits for more bytes."""

    def __init__(self, stream: ByteStream, stop: Stop) -> None:
        self._stream = stream
        self._stop = stop

    @property
    def stopped(self) -> bool:
        """Whether the stream ended because it was asked to."""
        return self._stop.asked

    def readinto(self, view: memoryview, /) -> int:
        """Put what is there into ``view``, waiting for more to be written; 0 when it is stopped."""
        while True:
            count = self._stream.readinto(view)
            if count or self._stop.wait():
                return count

    def close(self) -> None:
        """Close the stream underneath."""
        self._stream.close()


def open_file(path: Path, stop: Stop) -> ObjectStream:
    """Opens a file for reading without a buffer.

    Raises:
        OSError: it cannot be opened.
    """
    return ObjectStream(path.open("rb", buffering=0), stop, owned=True)
