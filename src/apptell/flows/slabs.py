"""Memory for the columns of returned flows, reused when nobody holds it any more.

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
"""Below so many bytes NumPy's own memory is as good."""
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
            return Slab(None)
        free = self._free
        for index in range(len(free)):
            if len(free[index]) >= size:
                memory = free.pop(index)
                break
        else:
            # to the next power of two, so that it fits the next batch too; untouched pages cost nothing
            memory = np.frombuffer(mmap.mmap(-1, 1 << (size - 1).bit_length()), dtype=np.uint8)
        lease = pa.foreign_buffer(memory.ctypes.data, len(memory), _Lease(memory, free))
        return Slab(np.frombuffer(lease, dtype=np.uint8))


class _Lease:
    """Held for as long as any column needs a slab's memory; returns the memory when it is deleted."""

    __slots__ = ("_free", "_memory")

    def __init__(self, memory: NDArray[np.uint8], free: list[NDArray[np.uint8]]) -> None:
        self._memory = memory
        self._free = free

    def __del__(self) -> None:
        if len(self._free) < _KEPT:
            self._free.append(self._memory)


class Slab:
    """Memory to be cut into columns; without any, each column has its own."""

    def __init__(self, memory: NDArray[np.uint8] | None) -> None:
        self._memory = memory
        self._used = 0

    @staticmethod
    def size(*columns: tuple[int, int]) -> int:
        """Bytes that columns of so many elements, each of so many bytes, need."""
        return sum(-(-n * width // _ALIGNMENT) * _ALIGNMENT for n, width in columns)

    def column(self, n: int, dtype: Any) -> NDArray[Any]:
        """Room for n elements, which is held until nobody needs the array or a part of it."""
        if self._memory is None:
            return np.empty(n, dtype=dtype)
        size = n * np.dtype(dtype).itemsize
        at = self._used
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return self._memory[at : at + size].view(dtype)
