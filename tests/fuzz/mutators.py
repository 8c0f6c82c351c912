"""Bytes and a random generator in, spoiled bytes out: what needs no knowledge of the structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
EXTREMES = (
    *(0, 1, 3, 4, 7, 8, 11, 12, 16, 27, 28, 0x7FFF, 0xFFFF, 1 << 18, 1 << 24, 0x7FFFFFFF),
    *(0x80000000, 0xFFFFFFFC, 0xFFFFFFFF),
)


def flip(data: bytearray, rng: random.Random) -> None:
    """Turn one to sixteen bits."""
    for _ in range(rng.choice((1, 2, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    """Keep only the beginning."""
    del data[rng.randrange(len(data)) :]


def remove(data: bytearray, rng: random.Random) -> None:
    """Take out a piece."""
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 64)]


def repeat(data: bytearray, rng: random.Random) -> None:
    """Put a piece in again somewhere."""
    start, to = rng.randrange(len(data)), rng.randrange(len(data))
    data[to:to] = data[start : start + rng.choice((4, 8, 28, 64, 512))]


def extreme(data: bytearray, rng: random.Random) -> None:
    """Set an aligned word, such as a length, to an extreme, in either byte order."""
    size = rng.choice((1, 2, 4, 4))
    at = rng.randrange(max(len(data) // size, 1)) * size
    value = rng.choice(EXTREMES) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, rng.choice(ORDERS))


def near(data: bytearray, rng: random.Random) -> None:
    """Add a little to an aligned word."""
    size = rng.choice((1, 2, 4, 4))
    at = rng.randrange(max(len(data) // size, 1)) * size
    order = rng.choice(ORDERS)
    value = int.from_bytes(data[at : at + size], order) + rng.randint(-8, 8)
    data[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, order)


def noise(data: bytearray, rng: random.Random) -> None:
    """Replace a piece by random bytes."""
    start = rng.randrange(len(data))
    data[start : start + rng.randint(1, 64)] = rng.randbytes(rng.randint(1, 64))


IN_PLACE: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, extreme, near)
"""Mutations that leave everything else in its place, so that more of it is understood."""
ANY = (*IN_PLACE, cut, remove, repeat, noise)


def spoil(data: bytes, rng: random.Random, mutations: tuple[object, ...] = ANY) -> bytes:
    """One mutation of ``data``; the same for the same state of the generator."""
    spoiled = bytearray(data)
    if spoiled:
        mutation: Callable[[bytearray, random.Random], None] = rng.choice(mutations)  # type: ignore[assignment]
        mutation(spoiled, rng)
    return bytes(spoiled)
