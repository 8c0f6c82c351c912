"""Decompresses gzip, bzip2, xz, Zstandard and LZ4; the kind is detected from the content.

Consecutive members are one stream, as in the formats' own tools (RFC 1952, section 2.2; the xz file format,
section 2; RFC 8878, section 3). Bytes that precede damage are returned before the error is raised.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Any, Final

import lz4.frame
import zstandard

from apptell.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable

    from apptell.capture.window import ByteStream

MAGIC_BYTES: Final = 6
"""Bytes that suffice to detect every kind."""
MEMORY_LIMIT: Final = 128 << 20
"""Memory limit for a decompressor's dictionary or window: the default limit of ``zstd -d``, and twice the
need of ``xz -9``. Files that need more are refused.
"""
_INPUT_BYTES: Final = 64 << 10
_FIRST_INPUT_BYTES: Final = 512
"""Bytes passed to a new member first. Members may be tiny, and the bytes that they do not use are copied."""
_OUTPUT_BYTES: Final = 256 << 10
_ZSTD_INPUT_BYTES: Final = (64, 2 << 10)
"""Least and most bytes given to Zstandard: four of them may hold a block of 128 KiB."""
_SKIPPABLE_HEADER: Final = 8
_DAMAGE: Final = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError, RuntimeError)
"""What the libraries raise for bytes that they cannot decompress."""
_NEEDS_MEMORY: Final = ("too much memory", "memory usage limit")
"""Words of the libraries' messages for a dictionary or window above the limit."""


class _Gzip:
    """One gzip member, with the interface of the standard library's other decompressors."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)
        self._broken: zlib.error | None = None

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    @property
    def needs_input(self) -> bool:
        return self._broken is None and not self._decoder.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._broken is not None:
            raise self._broken
        data = self._decoder.unconsumed_tail + data
        before = self._decoder.copy()
        try:
            return self._decoder.decompress(data, max_length)
        except zlib.error as error:
            self._broken = error
            return _up_to_damage(before, data)


def _up_to_damage(decoder: Any, data: bytes) -> bytes:
    """The output of ``data`` before the first invalid byte, which zlib itself would not return."""
    pieces = []
    step = len(data) // 2
    while step:
        trial = decoder.copy()
        try:
            pieces.append(trial.decompress(data[:step]))
        except zlib.error:
            step //= 2
            continue
        decoder, data = trial, data[step:]
        step = min(step, len(data) // 2)
    return b"".join(pieces)


class _Zstandard:
    """One Zstandard frame, with the interface of the standard library's decompressors."""

    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor(max_window_size=MEMORY_LIMIT).decompressobj()
        self._waiting = b""
        self._step = _ZSTD_INPUT_BYTES[0]

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data + self._waiting

    @property
    def needs_input(self) -> bool:
        return not self._waiting

    def decompress(self, data: bytes, max_length: int) -> bytes:
        # The output is bounded by the input: python-zstandard cannot bound it otherwise. So a stream that
        # swells is read in small steps.
        data = self._waiting + data
        self._waiting = data[self._step :]
        output = self._decoder.decompress(data[: self._step])
        least, most = _ZSTD_INPUT_BYTES
        self._step = least if len(output) > max_length else min(2 * self._step, most)
        return output


def compression(head: bytes) -> tuple[str, Callable[[], Any]] | None:
    """Detects the kind of compression from the first bytes; returns it with a decompressor for one member."""
    if head[:3] == b"\x1f\x8b\x08":
        return "gzip", _Gzip
    if head[:3] == b"BZh" and head[3:4].isdigit():
        return "bzip2", bz2.BZ2Decompressor
    if head[:6] == b"\xfd7zXZ\x00":
        return "xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT)
    if head[:4] == b"\x28\xb5\x2f\xfd":
        return "zstd", _Zstandard
    if head[:4] == b"\x04\x22\x4d\x18":
        return "lz4", lz4.frame.LZ4FrameDecompressor
    if _is_skippable(head):
        return "zstd", _Zstandard
    return None


def _is_skippable(head: bytes) -> bool:
    """Whether a frame to be skipped begins there, of Zstandard or LZ4 alike."""
    return head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50


class DecompressedStream:
    """The content of a compressed stream."""

    def __init__(self, stream: ByteStream, head: bytes, name: str) -> None:
        """``head``: the bytes that were read of ``stream`` to tell its kind."""
        self._stream = stream
        self._name = name
        self._input = head
        self._at = 0
        """Where the bytes of ``_input`` begin that no decompressor has."""
        self._consumed = len(head)
        self._output = memoryview(b"")
        self._scratch = memoryview(bytearray(_INPUT_BYTES))
        self._decoder: Any = None
        self._step = _FIRST_INPUT_BYTES
        self._skip = 0
        """Bytes left of a frame to be skipped."""
        self._ended = False
        self._damage: CaptureError | None = None

    @property
    def stopped(self) -> bool:
        """Whether the stream ended because it was asked to."""
        return self._stream.stopped

    def close(self) -> None:
        """Close the stream underneath, and give back what was decompressed."""
        self._stream.close()
        self._decoder = None
        self._input, self._at = b"", 0
        self._output = memoryview(b"")
        self._ended = True

    def readinto(self, view: memoryview, /) -> int:
        """Put decompressed bytes into ``view``; 0 at the end.

        Raises:
            CaptureError: the compressed bytes are damaged, cut short, or need more than ``MEMORY_LIMIT``.
        """
        while not self._output:
            if self._damage is not None:
                raise self._damage
            if self._ended:
                return 0
            self._advance(len(view))
        count = min(len(view), len(self._output))
        view[:count] = self._output[:count]
        self._output = self._output[count:]
        return count

    def _advance(self, room: int) -> None:
        """Decompresses once, continues with the next member, or detects the end."""
        if self._skip:
            self._skip_on()
            return
        if self._decoder is None:
            self._next_member()
            return
        data = b""
        if self._decoder.needs_input:
            if not self._left() and not self._read():
                self._cut_short()
                return
            data = self._input[self._at : self._at + self._step]
            self._at += len(data)
            self._step = min(2 * self._step, _INPUT_BYTES)
        try:
            self._output = memoryview(self._decoder.decompress(data, min(room, _OUTPUT_BYTES)))
        except _DAMAGE as error:
            if any(words in str(error).lower() for words in _NEEDS_MEMORY):
                self._fail(
                    f"more than {MEMORY_LIMIT >> 20} MiB of memory are needed to decompress it"
                )
            else:
                self._fail(f"compressed data is damaged ({error})")
            return
        if self._decoder.eof:
            unused = self._decoder.unused_data or b""  # lz4 returns None for no data
            if len(unused) <= len(data):
                self._at -= len(unused)
            else:
                self._input, self._at = unused + self._input[self._at :], 0
            self._decoder = None

    def _next_member(self) -> None:
        """Begins the next member, or detects the end. Zeros between members are padding."""
        while True:
            if self._left() and not self._input[self._at]:
                self._at = len(self._input) - len(self._input[self._at :].lstrip(b"\0"))
            if self._left() >= _SKIPPABLE_HEADER or not self._read():
                break
        head = self._input[self._at : self._at + _SKIPPABLE_HEADER]
        if not head:
            self._ended = True
        elif _is_skippable(head) and len(head) == _SKIPPABLE_HEADER:
            self._at += _SKIPPABLE_HEADER
            self._skip = int.from_bytes(head[4:], "little")
        elif (found := compression(head)) is None:
            self._fail("the data after the compressed data is not compressed")
        else:
            self._decoder, self._step = found[1](), _FIRST_INPUT_BYTES

    def _skip_on(self) -> None:
        """Pass over a frame that holds nothing."""
        if not self._left() and not self._read():
            self._cut_short()
            return
        count = min(self._skip, self._left())
        self._at += count
        self._skip -= count

    def _left(self) -> int:
        """Compressed bytes that no decompressor has."""
        return len(self._input) - self._at

    def _read(self) -> bool:
        """Reads more compressed bytes; returns False at the end."""
        try:
            count = self._stream.readinto(self._scratch)
        except OSError as error:
            self._damage = CaptureError(f"{self._name}: {error.strerror or error}")
            return False
        self._input = self._input[self._at :] + self._scratch[:count].tobytes()
        self._at = 0
        self._consumed += count
        return count > 0

    def _cut_short(self) -> None:
        self._ended = True
        if self._damage is None and not self._stream.stopped:
            self._fail("compressed data is cut short")

    def _fail(self, what: str) -> None:
        self._damage = CaptureError(f"{self._name}: {what} near byte {self._consumed}")
        self._decoder = None
