"""Memory for the columns of returned flows, reused when Arrow releases it.

A new page costs more than writing it. A reader that drops each batch before the next gets the same pages
again; if all batches are kept, nothing is reused.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SMALL: Final = 1 << 18
"""Below so many bytes Arrow's own pool is as good."""
_KEPT: Final = 4
"""Slabs that wait for their next use."""
_ALIGNMENT: Final = 64


class Slabs:
    """Slabs that wait for their next use."""

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def take(self, size: int) -> Slab:
        """A slab of ``size`` bytes or more."""
        if size < _SMALL:
            room = pa.allocate_buffer(size)
            return Slab(np.frombuffer(room, dtype=np.uint8), room)
        free = self._free
        for index in range(len(free)):
            if len(free[index]) >= size:
                memory = free.pop(index)
                break
        else:
            # to the next power of two, so that it fits the next batch too; untouched pages cost nothing
            memory = np.frombuffer(mmap.mmap(-1, 1 << (size - 1).bit_length()), dtype=np.uint8)
        lease = _Lease(memory, free)
        return Slab(memory, pa.foreign_buffer(memory.ctypes.data, len(memory), lease))


class _Lease:
    """Held by Arrow for as long as it needs a slab's memory; returns the memory when it is deleted."""

    __slots__ = ("_free", "_memory")

    def __init__(self, memory: NDArray[np.uint8], free: list[NDArray[np.uint8]]) -> None:
        self._memory = memory
        self._free = free

    def __del__(self) -> None:
        if len(self._free) < _KEPT:
            self._free.append(self._memory)


class Slab:
    """Memory to be cut into columns."""

    def __init__(self, memory: NDArray[np.uint8], buffer: pa.Buffer) -> None:
        self._memory = memory
        self._buffer = buffer
        self._used = 0

    @staticmethod
    def size(*columns: tuple[int, int]) -> int:
        """Bytes that columns of so many elements, each of so many bytes, need."""
        return sum(-(-n * width // _ALIGNMENT) * _ALIGNMENT for n, width in columns)

    def cut(self, n: int, dtype: Any) -> tuple[NDArray[Any], pa.Buffer]:
        """Room for n elements: the array that a kernel fills, and the same memory for Arrow."""
        size = n * np.dtype(dtype).itemsize
        at = self._used
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return self._memory[at : at + size].view(dtype), self._buffer.slice(at, size)

    def column(self, n: int, dtype: Any, kind: pa.DataType) -> tuple[NDArray[Any], pa.Array]:
        """Room for n numbers: the array that a kernel fills, and the same memory as an Arrow array."""
        values, buffer = self.cut(n, dtype)
        return values, pa.Array.from_buffers(kind, n, [None, buffer])
