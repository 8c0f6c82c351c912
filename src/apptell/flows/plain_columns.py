"""Columns of a batch as they were made, which become Arrow arrays only where somebody asks for one.

To make or read an Arrow array takes some microseconds however few values it has. A live batch has few flows and
many columns, and most of them are only written to a record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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

    def to_arrow(self) -> pa.Array:
        """The texts as an Arrow array."""
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

    def to_arrow(self) -> pa.Array:
        """The numbers as an Arrow array."""
        return pa.array(self.numbers, mask=self.is_null)

    def to_pylist(self) -> list[Any]:
        """The numbers."""
        pairs = zip(self.numbers.tolist(), self.is_null.tolist(), strict=True)
        return [None if is_null else number for number, is_null in pairs]

    def where(self, keep: NDArray[np.bool_]) -> Masked:
        """The same numbers where ``keep``, shape (n,), is true, and null elsewhere."""
        return Masked(self.numbers, self.is_null | ~keep)


Column = "pa.Array | NDArray[Any] | Coded | Masked | list[Any] | None"
"""A column of n values: an Arrow array; numbers without a null; texts; numbers; any values; only nulls."""


def to_arrow(column: Any, kind: pa.DataType, n: int) -> pa.Array:
    """A column of n values as an Arrow array of a type."""
    if isinstance(column, pa.Array):
        return column
    if column is None:
        return pa.nulls(n, kind)
    if isinstance(column, Coded | Masked):
        return column.to_arrow()
    return pa.array(column, kind)


def to_list(column: Any, n: int) -> list[Any]:
    """A column of n values as Python has them."""
    if column is None:
        return [None] * n
    if isinstance(column, np.ndarray):
        values: list[Any] = column.tolist()
        return values
    return column if isinstance(column, list) else column.to_pylist()


def of_rows(column: Any, keep: NDArray[np.bool_]) -> Any:
    """The values where ``keep``, shape (n,), is true."""
    if column is None:
        return None
    if isinstance(column, np.ndarray):
        return column[keep]
    if isinstance(column, Coded | Masked):
        return type(column)(column[0][keep], *(_part(each, keep) for each in column[1:]))
    if isinstance(column, list):
        return [value for value, is_kept in zip(column, keep.tolist(), strict=True) if is_kept]
    return column.filter(pa.array(keep))


def _part(each: Any, keep: NDArray[np.bool_]) -> Any:
    return each[keep] if isinstance(each, np.ndarray) else each
