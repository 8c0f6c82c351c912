"""Tracks which bytes of a flow's streams may be kept.

A mask lists the bytes that are kept, and never the bytes to remove: a byte that no parser has accepted is
zeroed, unless the policy keeps unparsed bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MAX_STREAM_BYTES: Final = 1 << 18
"""Bytes between a side's first and last kept segment; those further on are looked at by themselves."""
_UNKNOWN, _KNOWN, _CONTESTED = 0, 1, 2
# Host names of two parts or more.
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)+[A-Za-z][A-Za-z0-9-]{1,24}"
)
_HOST_TEXT: Final = re.compile(rb"[A-Za-z0-9_.-]*")
_HOST_BYTES: Final = frozenset(each for each in range(256) if _HOST_TEXT.fullmatch(bytes([each])))
_HTTP_HOST: Final = re.compile(rb"(?im)^(?:host|:authority):[ \t]*([^\r\n]+)")
_HTTP_FIELDS: Final = (b"host:", b":authority:")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a mask keeps."""

    masks_names: bool = True
    """Names of servers are removed wherever they are parsed."""
    framing_only: bool = True
    """Only the framing of parsed protocols is kept: lengths, types, codes, verbs."""
    keeps_unknown: bool = False
    """Unparsed bytes are kept, except host names in text; ciphertext is kept."""


NAMES_ONLY: Final = Policy(framing_only=False, keeps_unknown=True)
"""Removes names and keeps everything else, to measure a model without names."""


@dataclass(slots=True)
class Stream:
    """The bytes of one side of a connection, or of one datagram."""

    data: bytearray
    state: bytearray
    """Of each byte whether it is known, a hole, or was sent in two versions."""
    keep: bytearray
    """1 for each byte that is kept."""
    unknown: list[tuple[int, int]] = field(default_factory=list)
    """Ranges that no parser accepted."""

    def __len__(self) -> int:
        return len(self.data)

    def has(self, at: int, n: int) -> bool:
        """Whether ``n`` bytes from ``at`` on are all known."""
        return at + n <= len(self.data) and self.state.count(_KNOWN, at, at + n) == n

    def number(self, at: int, n: int) -> int:
        """A big-endian number; the caller checked that it is known."""
        return int.from_bytes(self.data[at : at + n], "big")

    def set(self, at: int, stop: int, *, kept: bool) -> None:
        """Marks the bytes from ``at`` to before ``stop`` as kept or not kept."""
        stop = min(stop, len(self.keep))
        if at < stop:
            self.keep[at:stop] = (b"\1" if kept else b"\0") * (stop - at)

    def leave(self, at: int, stop: int, policy: Policy) -> None:
        """Marks bytes that were not parsed."""
        self.set(at, stop, kept=policy.keeps_unknown)
        self.unknown.append((at, min(stop, len(self.data))))

    def tail(self, at: int) -> Stream:
        """The bytes from ``at`` on, as a separate stream."""
        return Stream(self.data[at:], self.state[at:], self.keep[at:])


class Places:
    """Where the bytes of a message lie, that is spread over records or datagrams."""

    def __init__(self) -> None:
        self._runs: list[tuple[Stream, int, int]] = []

    def add(self, stream: Stream, begin: int, stop: int) -> None:
        """The next bytes lie in ``stream`` from ``begin`` to before ``stop``."""
        stop = min(stop, len(stream))
        if begin >= stop:
            return
        if self._runs and self._runs[-1][0] is stream and self._runs[-1][2] == begin:
            begin = self._runs.pop()[1]
        self._runs.append((stream, begin, stop))

    def content(self) -> bytes:
        """The bytes up to the first that is not known."""
        found = bytearray()
        for stream, begin, stop in self._runs:
            n = stop - begin
            if not stream.has(begin, n):
                n = next(i for i in range(n) if stream.state[begin + i] != _KNOWN)
                return bytes(found + stream.data[begin : begin + n])
            found += stream.data[begin:stop]
        return bytes(found)

    def keep(self, at: int, stop: int) -> None:
        """Keeps the bytes ``at`` to before ``stop`` of the message."""
        for stream, begin, end in self._runs:
            n = end - begin
            if at < n and stop > 0:
                stream.set(begin + max(at, 0), begin + min(stop, n), kept=True)
            at, stop = at - n, stop - n
            if stop <= 0:
                return

    def part(self, at: int, stop: int) -> Places:
        """Where the bytes ``at`` to before ``stop`` lie."""
        found = Places()
        for stream, begin, end in self._runs:
            n = end - begin
            if at < n and stop > 0:
                found.add(stream, begin + max(at, 0), begin + min(stop, n))
            at, stop = at - n, stop - n
        return found


def join(
    offsets: Sequence[int], blobs: Sequence[bytes]
) -> list[tuple[Stream, list[tuple[int, int]]]]:
    """The streams of one side, each with the numbers of its segments and their places in it.

    Segments lie where their offsets say, whatever their order; bytes that differ between two segments are
    never kept. Only far-away segments make a separate stream.
    """
    base = min(offsets, default=0)
    near = [i for i, at in enumerate(offsets) if at - base + len(blobs[i]) <= _MAX_STREAM_BYTES]
    groups = [near] if near else []
    groups += [[i] for i in range(len(blobs)) if i not in set(near)]
    found = []
    for group in groups:
        start = min(offsets[i] for i in group)
        size = max(offsets[i] - start + len(blobs[i]) for i in group)
        stream = Stream(bytearray(size), bytearray(size), bytearray(size))
        places = [(i, offsets[i] - start) for i in group]
        for i, at in places:
            _lay(stream, at, blobs[i])
        found.append((stream, places))
    return found


def _lay(stream: Stream, at: int, blob: bytes) -> None:
    stop = at + len(blob)
    if stream.state.count(_UNKNOWN, at, stop) == len(blob):
        stream.data[at:stop] = blob
        stream.state[at:stop] = b"\1" * len(blob)
        return
    for place, byte in enumerate(blob, at):
        if stream.state[place] == _UNKNOWN:
            stream.data[place], stream.state[place] = byte, _KNOWN
        elif stream.data[place] != byte:
            stream.state[place] = _CONTESTED


def masked(stream: Stream, at: int, blob: bytes) -> bytes:
    """A segment in which zeros replace the bytes that are not kept."""
    stop = at + len(blob)
    own = np.frombuffer(blob, dtype=np.uint8)
    data = np.frombuffer(bytes(stream.data[at:stop]), dtype=np.uint8)
    keep = np.frombuffer(bytes(stream.keep[at:stop]), dtype=np.uint8)
    state = np.frombuffer(bytes(stream.state[at:stop]), dtype=np.uint8)
    return (
        np.where((keep == 1) & (state == _KNOWN) & (data == own), own, 0).astype(np.uint8).tobytes()
    )


def drop_names(stream: Stream, names: Iterable[bytes]) -> None:
    """Removes host names in text, and the given names, from unparsed bytes."""
    for begin, stop in stream.unknown:
        part = bytes(stream.data[begin:stop])
        small = part.lower()
        spans = list(_hosts(part))
        if any(field in small for field in _HTTP_FIELDS):
            spans += [found.span(1) for found in _HTTP_HOST.finditer(part)]
        for first, last in spans:
            stream.set(begin + first, begin + last, kept=False)
        for name in names:
            at = small.find(name) if name else -1
            while at >= 0:
                stream.set(begin + at, begin + at + len(name), kept=False)
                at = small.find(name, at + len(name))


def _hosts(part: bytes) -> Iterator[tuple[int, int]]:
    """Where ``_HOST`` matches. Only text around full stops is searched, because payload has few."""
    end = 0
    while (dot := part.find(b".", end)) >= 0:
        first = dot
        while first > end and part[first - 1] in _HOST_BYTES:
            first -= 1
        text = _HOST_TEXT.match(part, dot)
        end = dot + 1 if text is None else text.end()
        for found in _HOST.finditer(part, first, end):
            yield found.span()
