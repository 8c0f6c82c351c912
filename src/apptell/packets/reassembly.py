"""Headers with IP fragments in, headers of whole datagrams out, in capture order.

Sources: RFC 791, Section 3.2; RFC 8200, Section 4.5. Overlapping fragments are not put together
(RFC 5722). Fragments are rare; this is plain Python, and bounded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.capture.batch import PacketBatch
from apptell.packets.headers import TCP, UDP, HeaderBatch, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apptell.packets.decode import Decoder

MAX_DATAGRAMS: Final = 256
"""Datagrams that wait for their fragments; the oldest is given up first."""
WAIT_NS: Final = 30 * 10**9
"""How long they wait (RFC 1122, Section 3.3.2: at least this order)."""
_LINKTYPE_RAW: Final = 101
_FRAGMENT_HEADER: Final = 44


@dataclass(slots=True)
class _Datagram:
    first_ns: int
    head: bytes | None = None
    """IP header of the first fragment, without fragment header, lengths still to be set."""
    pieces: dict[int, bytes] = field(default_factory=dict)
    size: int | None = None
    """Payload bytes, known from the last fragment."""


class Reassembler:
    """Puts the datagrams of fragmented TCP and UDP packets together.

    Args:
        decoder: its like is used for the whole datagrams.
        protocols: IP protocol numbers worth the work.
    """

    def __init__(self, decoder: Decoder, protocols: tuple[int, ...] = (TCP, UDP)) -> None:
        self._protocols = protocols
        self._decoder = type(decoder)(decoder.max_tunnels)
        self._waiting: dict[tuple[bytes, ...], _Datagram] = {}
        self.n_datagrams = 0
        """Datagrams put together so far."""

    def __call__(self, headers: HeaderBatch) -> Iterator[HeaderBatch]:
        """The same packets without their fragments; each whole datagram where its last fragment was."""
        rows = headers.rows
        fragments = np.flatnonzero(rows["is_fragment"])
        if not len(fragments):
            yield headers
            return
        rows["status"][fragments] = Status.FRAGMENT
        done = 0
        worth = np.isin(rows["protocol"][fragments], self._protocols)
        for row in fragments[worth].tolist():
            whole = self._take(headers, row)
            if whole is None:
                continue
            yield HeaderBatch(rows[done : row + 1], headers.buffer)
            done = row + 1
            yield self._decode(whole, headers, row)
        if done < len(rows):
            yield HeaderBatch(rows[done:], headers.buffer)

    def _take(self, headers: HeaderBatch, row: int) -> bytes | None:
        """Adds one fragment; the whole datagram when it was the last that was missing."""
        at = int(headers.rows["ip_at"][row])
        packet = headers.buffer[at : at + int(headers.rows["ip_bytes"][row])].tobytes()
        if len(packet) < int(headers.rows["ip_bytes"][row]):
            return None  # cut by the buffer's end
        parsed = _parse(packet)
        if parsed is None:
            return None
        key, head, offset, more, body = parsed
        now = int(headers.rows["time_ns"][row])
        datagram = self._waiting.get(key)
        if datagram is None or now - datagram.first_ns > WAIT_NS:
            self._waiting.pop(key, None)
            if len(self._waiting) >= MAX_DATAGRAMS:
                del self._waiting[next(iter(self._waiting))]
            datagram = self._waiting[key] = _Datagram(now)
        if offset == 0:
            datagram.head = head
        if not more:
            datagram.size = offset + len(body)
        datagram.pieces.setdefault(offset, body)
        if datagram.size is None or datagram.head is None:
            return None
        if sum(map(len, datagram.pieces.values())) < datagram.size:
            return None
        del self._waiting[key]
        payload = b""
        for start in sorted(datagram.pieces):
            if start != len(payload):
                return None  # overlap: nobody can know which bytes the receiver took
            payload += datagram.pieces[start]
        if len(payload) + len(datagram.head) > 0xFFFF:
            return None
        self.n_datagrams += 1
        return _with_length(datagram.head, len(payload)) + payload

    def _decode(self, whole: bytes, headers: HeaderBatch, row: int) -> HeaderBatch:
        return self._decoder(
            PacketBatch(
                np.frombuffer(whole, dtype=np.uint8),
                np.zeros(1, dtype=np.int64),
                np.array([len(whole)], dtype=np.int32),
                np.array([len(whole)], dtype=np.int32),
                headers.rows["time_ns"][row : row + 1].copy(),
                np.array([_LINKTYPE_RAW], dtype=np.uint16),
                np.zeros(1, dtype=np.int32),
                headers.rows["direction"][row : row + 1].copy(),
                headers.rows["owner"][row : row + 1].copy(),
            )
        )


def _parse(packet: bytes) -> tuple[tuple[bytes, ...], bytes, int, bool, bytes] | None:
    """A fragment's key, header, offset, whether more follow, and body; None where it is cut."""
    key: tuple[bytes, ...]
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        total, _, fragment = struct.unpack(">HHH", packet[2:8])
        if len(packet) < max(total, header):
            return None
        key = (packet[4:6], packet[9:10], packet[12:20])
        head = packet[:6] + b"\0\0" + packet[8:header]
        return key, head, (fragment & 0x1FFF) * 8, bool(fragment & 0x2000), packet[header:]
    at, following, place = 40, packet[6], 6
    while following != _FRAGMENT_HEADER:
        if at + 8 > len(packet):
            return None
        following, place, at = packet[at], at, at + (packet[at + 1] + 1) * 8
    if at + 8 > len(packet):
        return None
    (fragment,) = struct.unpack(">H", packet[at + 2 : at + 4])
    key = (packet[at + 4 : at + 8], packet[8:40])
    head = packet[:place] + packet[at : at + 1] + packet[place + 1 : at]
    return key, head, fragment & 0xFFF8, bool(fragment & 1), packet[at + 8 :]


def _with_length(head: bytes, payload: int) -> bytes:
    if head[0] >> 4 == 4:
        return head[:2] + struct.pack(">H", len(head) + payload) + head[4:]
    return head[:4] + struct.pack(">H", len(head) - 40 + payload) + head[6:]
