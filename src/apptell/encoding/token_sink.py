"""Collects what the tokens of one flow mean, and which bytes they were read from; plain Python.

The kernels of ``structure`` write only hashes. To explain a verdict, a flow is read once more here, and every
hash is kept with the field that it stands for. Keys are made as ``tokens.mix`` makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from apptell.encoding.tokens import N_BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WORD: Final = 1 << 64
_MULTIPLIER: Final = 0x9E3779B97F4A7C15
_BUCKET_SEED: Final = 0x5BD1E995
SIDES: Final = ("to the server", "to the client")
"""In words, by the number of a side."""


class ByteSpan(NamedTuple):
    """Bytes of one payload segment of a flow."""

    segment: int
    """Place among the flow's kept segments, from 0."""
    start: int
    stop: int
    """Behind the last byte."""


class Meaning(NamedTuple):
    """What a token stands for."""

    token: int
    """1 to 65,535."""
    field: str
    """The kind of field, such as ``record``."""
    words: str
    """What was read there, such as ``handshake record 1 to the server, about 517 bytes``."""
    spans: tuple[ByteSpan, ...]
    """Where it was read; empty for bytes that were decrypted or decoded first (QUIC)."""


class ByteField(NamedTuple):
    """A protocol field that lies in one segment."""

    name: str
    span: ByteSpan


class TokenSink:
    """The meanings of one flow's tokens, and its protocol fields."""

    def __init__(self, names: str) -> None:
        self.names = names
        """What becomes of server names: ``on``, ``masked`` or ``hashed``."""
        self.meanings: dict[int, Meaning] = {}
        """By token, in the order in which they were read."""
        self.fields: list[ByteField] = []
        """In the order in which they were read; one may lie within another."""

    def put(self, key: int, field: str, words: str, spans: Sequence[ByteSpan] = ()) -> None:
        """Adds the token of a key. A token that two fields share is both."""
        token = fold(key, _BUCKET_SEED) >> 17 & (N_BUCKETS - 1)
        if token == 0:
            return
        before = self.meanings.get(token)
        if before is None:
            self.meanings[token] = Meaning(token, field, words, tuple(spans))
        elif before.words == words:
            self.meanings[token] = before._replace(spans=(*before.spans, *spans))
        elif words not in before.words.split("; or "):
            self.meanings[token] = before._replace(
                words=f"{before.words}; or {words}", spans=(*before.spans, *spans)
            )

    def mark(self, name: str, spans: Iterable[ByteSpan]) -> None:
        """Notes where a protocol field lies."""
        self.fields += [ByteField(name, span) for span in spans if span.stop > span.start]


class Chunk:
    """Some bytes of a flow, each with its place: a part of a stream, or of messages joined from records."""

    def __init__(self, data: bytes, places: Sequence[tuple[int, ByteSpan]]) -> None:
        """Takes bytes and their pieces: offset in ``data``, and the span that begins there."""
        self.data = data
        self.places = places
        """Offset in ``data`` of each piece, and where it lies."""

    def __len__(self) -> int:
        return len(self.data)

    def part(self, start: int, stop: int | None = None) -> Chunk:
        """The bytes from ``start`` to ``stop``, as far as they are there."""
        stop = len(self.data) if stop is None else min(stop, len(self.data))
        start = min(start, stop)
        places = []
        for at, span in self.places:
            first, last = max(at, start), min(at + span.stop - span.start, stop)
            if first < last:
                begin = span.start + first - at
                places.append((first - start, ByteSpan(span.segment, begin, begin + last - first)))
        return Chunk(self.data[start:stop], places)

    def number(self, at: int, width: int = 2) -> int:
        """A number in network order; of missing bytes as many as are there."""
        return int.from_bytes(self.data[at : at + width], "big")

    @property
    def spans(self) -> tuple[ByteSpan, ...]:
        """Where the bytes lie."""
        return tuple(span for _, span in self.places)

    @staticmethod
    def join(parts: Sequence[Chunk]) -> Chunk:
        """Several, one behind the other."""
        places, at = [], 0
        for part in parts:
            places += [(at + offset, span) for offset, span in part.places]
            at += len(part)
        return Chunk(b"".join(part.data for part in parts), places)


def fold(*values: int) -> int:
    """The key of several numbers: ``tokens.mix`` from the left, without a sign."""
    key = values[0] % _WORD
    for value in values[1:]:
        key = (key ^ value % _WORD) * _MULTIPLIER % _WORD
        key ^= key >> 29
    return key


def fold_bytes(key: int, data: bytes) -> int:
    """The key of another and of bytes, as ``tokens.hash_bytes`` makes it."""
    return fold(key, *(byte + 1 for byte in data), len(data))


def size_step(size: int) -> int:
    """The class of a size, as ``tokens.size_class`` has it."""
    if size <= 64:
        return size
    top = size.bit_length() - 1
    return 4 * top + (size >> (top - 2) & 3) + 41


def about(size: int) -> str:
    """A size in words: up to 64 exact, above that the class is known."""
    return f"{size:,} bytes" if size <= 64 else f"about {size:,} bytes"
