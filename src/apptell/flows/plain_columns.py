"""Columns of a batch as they were made, which become Arrow arrays only where somebody asks for one.

To make or read an Arrow array takes some microseconds however few values it has. A live batch has few flows and
many columns, and most of them are only written to a record.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Coded(NamedTuple):
    """A column of n texts by their places in a list of those that occur."""

    codes: NDArray[Any]
    """Integers, shape (n,); -1 is null."""
    texts: Sequence[str | None]
    """What the codes stand for."""

    def to_arrow(self, kind: pa.DataType) -> pa.Array:
        """The texts as an Arrow array of strings, or of a dictionary of strings."""
        if pa.types.is_dictionary(kind):
            codes = pa.array(self.codes, kind.index_type, mask=self.codes < 0)
            return pa.DictionaryArray.from_arrays(codes, pa.array(self.texts, pa.string()))
        texts = pa.array(self.texts, pa.string())
        return texts.take(pa.array(self.codes, mask=self.codes < 0))

    def to_pylist(self) -> list[str | None]:
        """The texts; equal ones are one object."""
        texts = (*self.texts, None)
        return [texts[code] for code in self.codes.tolist()]

    def where(self, keep: NDArray[np.bool_]) -> Coded:
        """The same texts where ``keep``, shape (n,), is true, and null elsewhere."""
        return Coded(np.where(keep, self.codes, -1), self.texts)


class Masked(NamedTuple):
    """A column of n numbers, some of which are null."""

    numbers: NDArray[Any]
    """Shape (n,)."""
    is_null: NDArray[np.bool_]
    """Shape (n,)."""

    def to_arrow(self, kind: pa.DataType) -> pa.Array:
        """The numbers as an Arrow array."""
        del kind
        return pa.array(self.numbers, mask=self.is_null)

    def to_pylist(self) -> list[Any]:
        """The numbers."""
        pairs = zip(self.numbers.tolist(), self.is_null.tolist(), strict=True)
        return [None if is_null else number for number, is_null in pairs]

    def where(self, keep: NDArray[np.bool_]) -> Masked:
        """The same numbers where ``keep``, shape (n,), is true, and null elsewhere."""
        return Masked(self.numbers, self.is_null | ~keep)


class Text(NamedTuple):
    """A column of n texts in one buffer; an empty text is null."""

    ends: NDArray[np.int32]
    """Where text i begins, and ends as text i + 1 begins, in ``data``; shape (n + 1,)."""
    data: NDArray[np.uint8]
    """UTF-8."""

    def to_arrow(self, kind: pa.DataType) -> pa.Array:
        """The texts as an Arrow array of strings or bytes, which shares the memory."""
        ends = self.ends
        is_there = ends[1:] > ends[:-1]
        there = None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))
        buffers = [there, pa.py_buffer(ends), pa.py_buffer(self.data[: ends[-1]])]
        return pa.Array.from_buffers(kind, len(ends) - 1, buffers)

    def to_pylist(self) -> list[str | None]:
        """The texts."""
        return [None if not part else part.decode() for part in self.parts()]

    def parts(self) -> list[bytes]:
        """The bytes of each text, also of an empty one."""
        ends = self.ends.tolist()
        data = self.data[: ends[-1]].tobytes()
        return [data[begin:end] for begin, end in pairwise(ends)]


class Lists(NamedTuple):
    """A column of n lists."""

    ends: NDArray[np.int32]
    """Where list i begins, and ends as list i + 1 begins, in ``values``; shape (n + 1,)."""
    values: Any
    """The elements of all lists: an array, or ``Text`` of bytes that may be empty."""

    def to_arrow(self, kind: pa.DataType) -> pa.Array:
        """The lists as an Arrow array, which shares the memory."""
        values = self.values
        if isinstance(values, Text):
            buffers = [None, pa.py_buffer(values.ends), pa.py_buffer(values.data)]
            values = pa.Array.from_buffers(kind.value_type, len(values.ends) - 1, buffers)
        else:
            values = pa.array(values, kind.value_type)
        return pa.ListArray.from_arrays(pa.array(self.ends), values)

    def to_pylist(self) -> list[Any]:
        """The lists."""
        is_text = isinstance(self.values, Text)
        values = self.values.parts() if is_text else self.values.tolist()
        return [values[begin:end] for begin, end in pairwise(self.ends.tolist())]


Column = "pa.Array | NDArray[Any] | Coded | Masked | Text | Lists | list[Any] | None"
"""A column of n values: an Arrow array; numbers without a null; numbers; texts; any values; only nulls."""
_FEW: Final = 512
"""Rows from which Arrow chooses texts and lists in less time than Python."""
_MADE: Final = (Coded, Masked, Text, Lists)


def to_arrow(column: Any, kind: pa.DataType, n: int) -> pa.Array:
    """A column of n values as an Arrow array of a type."""
    if isinstance(column, pa.Array):
        return column
    if column is None:
        return pa.nulls(n, kind)
    if isinstance(column, _MADE):
        return column.to_arrow(kind)
    return pa.array(column, kind)


def to_list(column: Any, n: int) -> list[Any]:
    """A column of n values as Python has them."""
    if column is None:
        return [None] * n
    if isinstance(column, np.ndarray):
        values: list[Any] = column.tolist()
        return values
    if isinstance(column, pa.StringArray):  # several times as fast as to_pylist
        return list(column.to_numpy(zero_copy_only=False))
    return column if isinstance(column, list) else column.to_pylist()


def is_there(column: Any, n: int) -> NDArray[np.bool_]:
    """Which of n values are not null, shape (n,)."""
    if column is None:
        return np.zeros(n, dtype=bool)
    if isinstance(column, np.ndarray | Lists):
        return np.ones(n, dtype=bool)
    if isinstance(column, Text):
        return np.asarray(column.ends[1:] > column.ends[:-1])
    if isinstance(column, pa.Array):
        return np.asarray(column.is_valid())
    return np.array([value is not None for value in to_list(column, n)], dtype=bool)


def of_rows(column: Any, keep: NDArray[np.bool_], kind: pa.DataType) -> Any:
    """The values where ``keep``, shape (n,), is true, of a column of an Arrow type."""
    if column is None:
        return None
    if isinstance(column, np.ndarray):
        return column[keep]
    if isinstance(column, Coded):
        return Coded(column.codes[keep], column.texts)
    if isinstance(column, Masked):
        return Masked(column.numbers[keep], column.is_null[keep])
    if isinstance(column, list):
        return [value for value, is_kept in zip(column, keep.tolist(), strict=True) if is_kept]
    if len(keep) < _FEW and isinstance(column, Text | Lists):
        return _some(column, keep)
    return to_arrow(column, kind, len(keep)).filter(pa.array(keep))


def _some(column: Text | Lists, keep: NDArray[np.bool_]) -> Text | Lists:
    """The texts or lists where ``keep``, shape (n,), is true, without Arrow."""
    sizes = np.diff(column.ends)
    ends = np.zeros(np.count_nonzero(keep) + 1, dtype=np.int32)
    np.cumsum(sizes[keep], out=ends[1:])
    values = column[1]
    if isinstance(values, Text):
        return Lists(ends, _some(values, np.repeat(keep, sizes)))
    if isinstance(column, Lists):
        return Lists(ends, values[np.repeat(keep, sizes)])
    starts = column.ends.tolist()
    parts = [values[starts[row] : starts[row + 1]] for row in np.flatnonzero(keep).tolist()]
    return Text(ends, np.concatenate(parts) if parts else values[:0])
