"""Hashes parsed fields and their values into tokens.

A token is a hash of a field's number and of what was read there, so that no list of values has to be
known before. Only compiled code, which ``structure`` calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.kernels.compiled import inlined, subroutine

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_BUCKETS: Final = 1 << 16
"""Values of a token: 1 to N_BUCKETS - 1; 0 is none."""

# Fields. A number here is part of what a trained model knows: never give one another meaning.
TURN, TURN_EXACT, TURN_RECORDS, TURN_ORDER = 1, 2, 3, 4
RECORD, RECORD_VERSION, RECORD_ORDER = 5, 6, 7
DATA, DATA_EXACT, DATA_PAIR = 8, 9, 10
MESSAGE, KIND = 11, 12
HELLO, CIPHER, CIPHERS, EXTENSION, EXTENSIONS, EXTENSION_SIZE, EXTENSION_LIST = range(20, 27)
ALPN, NAME_PART, NAME_WORD, NAME_SIZE = range(30, 34)
SERVER_HELLO, SERVER_EXTENSION, SERVER_EXTENSIONS, CERTIFICATE = range(40, 44)
PREFIX, TURN_PREFIX, FRAMES, WORD, LETTERS, DATAGRAM, DATAGRAM_EXACT = range(50, 57)

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
_SHIFT: Final = np.uint64(29)


class Sink(NamedTuple):
    """Where the tokens of one flow go."""

    tokens: NDArray[np.uint16]
    """The tokens in the order they came, 0 behind them, shape (room,)."""
    filled: NDArray[np.int64]
    """How many there are, shape (1,)."""
    seen: NDArray[np.int64]
    """The flow in which each bucket was last put in, shape (N_BUCKETS,)."""


@inlined
def mix(value: Any, more: Any) -> Any:
    """Another number that depends on both: a step of a 64-bit multiplicative hash."""
    # Unsigned, which wraps: of signed products the compiler assumes that they never overflow.
    mixed = (np.uint64(value) ^ np.uint64(more)) * _MULTIPLIER
    return np.int64(mixed ^ (mixed >> _SHIFT))


@subroutine
def put(sink: Sink, flow: int, key: Any) -> None:
    """Adds the token of a key, once a flow, while there is room."""
    bucket = (mix(key, 0x5BD1E995) >> 17) & (N_BUCKETS - 1)
    if bucket == 0 or sink.seen[bucket] == flow:
        return
    at = sink.filled[0]
    if at < len(sink.tokens):
        sink.seen[bucket] = flow
        sink.tokens[at] = bucket
        sink.filled[0] = at + 1


@subroutine
def size_class(size: Any) -> Any:
    """A size in steps: up to 64 each its own, above four to each doubling."""
    if size <= 64:
        return size
    top = 6
    while (size >> (top + 1)) > 0:
        top += 1
    return 4 * top + ((size >> (top - 2)) & 3) + 41


@subroutine
def hash_bytes(key: Any, data: NDArray[np.uint8], start: Any, stop: Any) -> Any:
    """A key made of another and of data[start:stop]."""
    for at in range(start, stop):
        key = mix(key, np.int64(data[at]) + 1)
    return mix(key, stop - start)
