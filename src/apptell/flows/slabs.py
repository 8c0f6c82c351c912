"""Memory for the columns of returned flows, reused when nobody holds it any more.

A new page costs more than writing it. A reader that drops each batch before the next gets the same pages
again; if all batches are kept, nothing is reused.
"""

from __future__ import annotations

import mmap
import weakref
from typing import TYPE_CHECKING, Any, Final

import numpy as np

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
        self._free: list[mmap.mmap] = []

    def take(self, size: int) -> Slab:
        """A slab of ``size`` bytes or more."""
        if size < _SMALL:
            return Slab(None)
        free = self._free
        for index in range(len(free)):
            if len(free[index]) >= size:
                space = free.pop(index)
                break
        else:
            # to the next power of two, so that it fits the next batch too; untouched pages cost nothing
            space = mmap.mmap(-1, 1 << (size - 1).bit_length())
        memory = np.frombuffer(space, dtype=np.uint8)  # which every part of it holds
        weakref.finalize(memory, _give_back, space, free).atexit = False
        return Slab(memory)


def _give_back(space: mmap.mmap, free: list[mmap.mmap]) -> None:
    """Called when nobody holds a slab's memory any more."""
    if len(free) < _KEPT:
        free.append(space)


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
