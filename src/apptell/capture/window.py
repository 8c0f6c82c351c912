"""Buffers the unread bytes of a stream for the scanning kernels.

Files are read and never mapped, so a file that shrinks during reading only ends earlier. There is one buffer,
or several that are filled in turn. A buffer grows to hold the largest record and never beyond
``MAX_WINDOW_BYTES``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from apptell.errors import CaptureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BYTES: Final = 4 << 20
"""Bytes asked of a stream at a time."""
RECORD_LIMIT: Final = 16 << 20
"""The largest record or block that is read; a longer one is damage."""
MAX_WINDOW_BYTES: Final = 2 * RECORD_LIMIT
"""The largest buffer: one record of the limit, with room to double into."""


class ByteStream(Protocol):
    """Where bytes come from: a file, a pipe, a socket, a decompressor."""

    @property
    def stopped(self) -> bool:
        """Whether it ended on request; a cut record is then not damage."""

    def readinto(self, view: memoryview, /) -> int:
        """Put what is there into ``view``, waiting for the first byte; 0 at the end.

        Raises:
            CaptureError: the stream is damaged.
            OSError: it cannot be read.
        """

    def close(self) -> None:
        """Give back what the stream holds."""


class Window:
    """The unread bytes of a stream: ``buffer[start:end]``.

    Args:
        stream: where they come from.
        name: what error messages call it.
        size: bytes of a buffer at first.
        n_buffers: buffers that are filled in turn, once their bytes were handed out.
    """

    def __init__(
        self, stream: ByteStream, name: str, size: int = BLOCK_BYTES, n_buffers: int = 1
    ) -> None:
        self.stream = stream
        self.name = name
        """What error messages call the stream."""
        self.buffer: NDArray[np.uint8] = np.empty(size, dtype=np.uint8)
        self._others: deque[NDArray[np.uint8]] = deque(maxlen=n_buffers - 1)
        """The other buffers; the one that was filled first comes first."""
        self.is_handed_out = False
        """Whether packets that lie in ``buffer`` were handed out."""
        self.start = 0
        self.end = 0
        self.position = 0
        """Where ``buffer[0]`` lies in the stream, bytes."""
        self.damage: CaptureError | None = None
        """Why the stream ended, when it did not simply end."""

    def __len__(self) -> int:
        return self.end - self.start

    def at(self, index: int) -> str:
        """How messages name the place of ``buffer[index]``."""
        return f"at byte {self.position + index}"

    def reopen(self, stream: ByteStream) -> None:
        """Discards the buffered bytes and continues with another stream, a decompressor's."""
        self.stream = stream
        self.start = self.end = self.position = 0
        self.damage = None

    def release(self) -> None:
        """Give the buffer back: the stream is done with."""
        self.buffer = np.empty(0, dtype=np.uint8)
        self._others.clear()
        self.start = self.end = 0

    def peek(self, size: int) -> bytes:
        """The first unread bytes, at most ``size`` of them."""
        return self.buffer[self.start : min(self.start + size, self.end)].tobytes()

    def fill(self) -> bool:
        """Read once more behind the unread bytes, which move to the front.

        Returns:
            False when the stream has ended; ``damage`` then says whether it broke.
        """
        if self.damage is not None:
            return False
        if self.start:
            unread = len(self)
            before, self.buffer = self.buffer, self._next_buffer()
            self.buffer[:unread] = before[self.start : self.end]
            self.position += self.start
            self.start, self.end = 0, unread
        if self.end == len(self.buffer):
            grown = np.empty(min(2 * self.end, MAX_WINDOW_BYTES), dtype=np.uint8)
            grown[: self.end] = self.buffer
            self.buffer = grown
        try:
            count = self.stream.readinto(self.buffer[self.end :].data)
        except CaptureError as error:
            self.damage = error
            return False
        except OSError as error:
            self.damage = CaptureError(f"{self.name}: {error.strerror or error}")
            return False
        self.end += count
        return count > 0

    def _next_buffer(self) -> NDArray[np.uint8]:
        """The buffer to go on with: another one if packets of this one were handed out."""
        others, size = self._others, len(self.buffer)
        if not self.is_handed_out or not others.maxlen:
            return self.buffer
        self.is_handed_out = False
        is_full = len(others) == others.maxlen
        oldest = others.popleft() if is_full else np.empty(0, dtype=np.uint8)
        others.append(self.buffer)
        return oldest if len(oldest) >= size else np.empty(size, dtype=np.uint8)

    def fill_to(self, size: int) -> bool:
        """Read until ``size`` bytes are unread; False when the stream ends before."""
        while len(self) < size:
            if not self.fill():
                return False
        return True
