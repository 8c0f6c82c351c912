"""Gives each distinct text a small number, so that what is known of a name is found without the text.

A text is recognised by a keyed hash of 128 bits (``flows.hashing``). Texts are kept one behind the other, as an
Arrow string column has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from apptell.flows.hashing import text_hash
from apptell.flows.plain_columns import Text, to_arrow
from apptell.kernels.compiled import kernel
from apptell.kernels.machine_code import Held

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.hashing import HashKey

NO_NAME: Final = -1
"""The number of an empty text, and of a null."""
_FIRST: Final = 1024
"""Names that there is room for at first."""
_TEXT_BYTES: Final = 32
"""Bytes of a usual name."""


class Texts(NamedTuple):
    """A column of n texts as kernels take it."""

    ends: NDArray[np.int32]
    """Where text i begins and text i + 1 too, in ``data``; shape (n + 1,)."""
    data: NDArray[np.uint8]

    @classmethod
    def of(cls, column: Any, n: int | None = None) -> Texts:
        """The texts of a string column, an Arrow array or one of ``flows.plain_columns`` with n values.

        A null counts as an empty text. The column's memory is not copied.
        """
        if isinstance(column, Text):
            return cls(column.ends, column.data)
        n = len(column) if n is None else n
        column = to_arrow(column, pa.string(), n)
        if column.null_count == n:
            return cls(np.zeros(n + 1, np.int32), np.zeros(0, np.uint8))
        if column.null_count:
            column = column.fill_null("")
        _, ends, data = column.buffers()
        numbers = np.frombuffer(ends, np.int32)[column.offset : column.offset + n + 1]
        empty = data is None or not data.size
        return cls(numbers, np.zeros(0, np.uint8) if empty else np.frombuffer(data, np.uint8))

    def __len__(self) -> int:
        return len(self.ends) - 1


class _Room(NamedTuple):
    """The memory of some names."""

    buckets: NDArray[np.int32]
    """Numbers of names by their hashes, open addressing; -1 is free. A power of two of them."""
    hashes: NDArray[np.uint64]
    """Of each name, shape (room, 2)."""
    ends: NDArray[np.int32]
    """Of each name in ``data``, shape (room + 1,)."""
    data: NDArray[np.uint8]


@kernel(allocates=False)
def hash_two(
    ends: NDArray[np.int32],
    data: NDArray[np.uint8],
    other_ends: NDArray[np.int32],
    other_data: NDArray[np.uint8],
    secret: HashKey,
    hashes: NDArray[np.uint64],
    other_hashes: NDArray[np.uint64],
) -> None:
    """The keyed hashes of two columns of n texts, shape (n, 2) each."""
    for row in range(len(hashes)):
        hashes[row, 0], hashes[row, 1] = text_hash(data, ends[row], ends[row + 1], secret)
        first, second = text_hash(other_data, other_ends[row], other_ends[row + 1], secret)
        other_hashes[row, 0], other_hashes[row, 1] = first, second


@kernel(allocates=False)
def _number_texts(
    ends: NDArray[np.int32],
    data: NDArray[np.uint8],
    secret: HashKey,
    room: _Room,
    n_known: int,
    numbers: NDArray[np.int32],
) -> int:
    """The number of each text, new ones after the known; how many are known then. All have room."""
    buckets, hashes, known_ends, known = room
    mask = np.uint64(len(buckets) - 1)
    for row in range(len(ends) - 1):
        begin, end = np.int64(ends[row]), np.int64(ends[row + 1])
        if end <= begin:
            numbers[row] = -1
            continue
        first, second = text_hash(data, begin, end, secret)
        at = first & mask
        while True:
            number: Any = np.int64(buckets[np.int64(at)])
            if number < 0:
                number = n_known
                n_known += 1
                buckets[np.int64(at)] = number
                hashes[number, 0], hashes[number, 1] = first, second
                place = np.int64(known_ends[number])
                for byte in range(end - begin):
                    known[place + byte] = data[begin + byte]
                known_ends[number + 1] = place + end - begin
                break
            if hashes[number, 0] == first and hashes[number, 1] == second:
                break
            at = (at + np.uint64(1)) & mask
        numbers[row] = number
    return n_known


@kernel(allocates=False)
def _fill_buckets(hashes: NDArray[np.uint64], n: int, buckets: NDArray[np.int32]) -> None:
    """Puts n known names into buckets that are free."""
    mask = np.uint64(len(buckets) - 1)
    for number in range(n):
        at = hashes[number, 0] & mask
        while buckets[np.int64(at)] >= 0:
            at = (at + np.uint64(1)) & mask
        buckets[np.int64(at)] = number


class KnownNames:
    """Numbers names in the order in which they are first met.

    Args:
        secret: key of the hashes.
    """

    def __init__(self, secret: HashKey) -> None:
        self._secret = secret
        self._n = 0
        self._room = _Room(
            np.zeros(0, np.int32),
            np.zeros((0, 2), np.uint64),
            np.zeros(1, np.int32),
            np.zeros(0, np.uint8),
        )
        self._make_room(_FIRST, _FIRST * _TEXT_BYTES)

    def __len__(self) -> int:
        return self._n

    @property
    def texts(self) -> Texts:
        """All names, by number."""
        return Texts(self._room.ends[: self._n + 1], self._room.data)

    def numbers(self, column: Any, n: int | None = None) -> NDArray[np.int32]:
        """The numbers of n texts (``Texts.of``), shape (n,); NO_NAME of a null and of an empty text."""
        ends, data = texts = Texts.of(column, n)
        numbers = np.empty(len(texts), np.int32)
        if ends[-1] > ends[0]:
            self._make_room(len(texts), int(ends[-1] - ends[0]))
            self._n = _number_texts(ends, data, self._secret, self._held, self._n, numbers)
        else:
            numbers.fill(NO_NAME)
        return numbers

    def name(self, number: int) -> str:
        """The text of a number."""
        begin, end = self._room.ends[number : number + 2]
        return self._room.data[begin:end].tobytes().decode()

    def column(self, numbers: NDArray[np.int32]) -> pa.Array:
        """A string column of the names with these numbers; null for NO_NAME."""
        n = self._n
        ends, data = self.texts
        known = pa.StringArray.from_buffers(n, pa.py_buffer(ends), pa.py_buffer(data))
        return known.take(pa.array(numbers, mask=numbers < 0))

    def keep(self, numbers: NDArray[Any]) -> NDArray[np.int32]:
        """Forgets all names but these; the new number of each old one, NO_NAME of those forgotten."""
        kept = self.column(numbers.astype(np.int32))
        renumbered = np.full(self._n, NO_NAME, np.int32)
        self.__init__(self._secret)  # type: ignore[misc]
        renumbered[numbers] = self.numbers(kept)
        return renumbered

    def _make_room(self, n: int, n_bytes: int) -> None:
        """Room for so many more names."""
        if len(self._room.hashes) >= self._n + n and self._room.ends[self._n] + n_bytes <= len(
            self._room.data
        ):
            return
        buckets, hashes, ends, data = self._room
        wanted, there = self._n + n, len(hashes)
        if wanted > there:
            there = 1 << (wanted - 1).bit_length()
            hashes = np.concatenate([hashes, np.empty((there - len(hashes), 2), np.uint64)])
            ends = np.concatenate([ends, np.zeros(there + 1 - len(ends), np.int32)])
            buckets = np.full(4 * there, -1, np.int32)
            _fill_buckets(hashes, self._n, buckets)
        wanted = int(ends[self._n]) + n_bytes
        if wanted > len(data):
            more = max(wanted, 2 * len(data)) - len(data)
            data = np.concatenate([data, np.empty(more, np.uint8)])
        self._room = _Room(buckets, hashes, ends, data)
        self._held = Held(self._room)
