"""Joins TCP segments from port 53 into whole DNS messages.

Sources: RFC 1035 section 4.2.2 and RFC 7766 section 8 (two bytes of length before each message, several
messages on a connection); RFC 9293 section 3.4 (sequence numbers modulo 2**32).

Segments are joined by their sequence numbers; of bytes that come twice, those received first count. A direction
whose beginning is not in the capture, or that lost too much, is taken up again at a segment that begins with a
length and the header of a response.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_LATER_BYTES: Final = 1 << 16
"""Bytes behind a gap that wait for it to be filled."""
MAX_LATER: Final = 128
"""Segments that wait so."""
_SYN, _RST = 2, 4
_FAR: Final = 1 << 20
"""A jump in sequence numbers that no gap explains, bytes."""

Key = tuple[int, ...]
"""What tells a direction from others: its addresses, ports and IP version."""


class _Direction:
    """The bytes of one direction that belong to no whole message yet."""

    __slots__ = ("later", "pending", "sequence")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        """Sequence number of the byte that follows ``pending``."""
        self.pending = bytearray()
        self.later: list[tuple[int, bytes]] = []
        """Segments behind a gap: bytes between ``pending`` and each, and its bytes; disjoint and ascending."""

    def add(self, sequence: int, data: bytes) -> bool:
        """Takes a segment; False when it fits nowhere and the direction is to be dropped."""
        ahead = (sequence - self.sequence + (1 << 31)) % (1 << 32) - (1 << 31)
        if abs(ahead) > _FAR:
            return False
        if ahead < 0:
            ahead, data = 0, data[-ahead:]
        self._insert(ahead, data)
        n_ready = 0
        for at, piece in self.later:
            if at != n_ready:
                break
            self.pending += piece
            n_ready += len(piece)
        if n_ready:
            self.sequence = (self.sequence + n_ready) % (1 << 32)
            self.later = [(at - n_ready, piece) for at, piece in self.later if at >= n_ready]
        n_later = sum(len(piece) for _, piece in self.later)
        return n_later <= MAX_LATER_BYTES and len(self.later) <= MAX_LATER

    def _insert(self, start: int, data: bytes) -> None:
        """Puts in what is not yet there of data, which begins ``start`` bytes behind ``pending``."""
        end = start + len(data)
        at = start
        pieces = []
        for begin, piece in self.later:
            if at < min(begin, end):
                pieces.append((at, data[at - start : min(begin, end) - start]))
            at = max(at, begin + len(piece))
            pieces.append((begin, piece))
        if at < end:
            pieces.append((at, data[at - start :]))
        self.later = sorted(pieces)

    def take(self) -> list[bytes] | None:
        """The whole messages; None where the bytes cannot be messages."""
        messages = []
        at = 0
        while len(self.pending) - at >= 2:
            size = int.from_bytes(self.pending[at : at + 2], "big")
            if size < 12:
                return None
            if len(self.pending) - at - 2 < size:
                break
            messages.append(bytes(self.pending[at + 2 : at + 2 + size]))
            at += 2 + size
        del self.pending[:at]
        return messages


class DnsStreams:
    """Joins the segments of several directions.

    Args:
        max_connections: directions remembered; the one longest without a segment goes first.
    """

    def __init__(self, max_connections: int) -> None:
        self._max_connections = max_connections
        self._directions: OrderedDict[Key, _Direction] = OrderedDict()

    def __len__(self) -> int:
        return len(self._directions)

    def add(
        self, key: Key, sequence: int, flags: int, data: bytes, *, is_cut: bool = False
    ) -> list[bytes]:
        """The messages that a segment completes.

        Args:
            key: of its direction.
            sequence: its sequence number.
            flags: its TCP flags.
            data: its payload, as far as it was captured.
            is_cut: whether the capture cut the payload; the incomplete last message is then also returned.
        """
        if flags & _RST:
            self._directions.pop(key, None)
            return []
        if flags & _SYN:
            sequence = (sequence + 1) % (1 << 32)
            self._directions[key] = _Direction(sequence)
        direction = self._directions.get(key)
        if direction is None:
            if not _begins_response(data):
                return []
            direction = self._directions[key] = _Direction(sequence)
        self._directions.move_to_end(key)
        while len(self._directions) > self._max_connections:
            self._directions.popitem(last=False)
        if not data:
            return []
        fits = direction.add(sequence, data)
        messages = direction.take()
        if messages is not None and is_cut and len(direction.pending) > 2:
            messages.append(bytes(direction.pending[2:]))
        if messages is None or not fits or is_cut:
            del self._directions[key]
        return messages or []


def _begins_response(data: bytes) -> bool:
    """Whether a segment begins with a length and the header of a response with one question."""
    return (
        len(data) >= 14
        and int.from_bytes(data[:2], "big") >= 12
        and data[4] & 0xF8 == 0x80
        and data[6:8] == b"\0\1"
    )
