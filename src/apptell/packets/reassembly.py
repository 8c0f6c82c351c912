"""Reassembles IP fragments: the row of the fragment that completes a datagram becomes the datagram's.

Sources: RFC 791, Section 3.2; RFC 8200, Section 4.5. Overlapping fragments are not put together
(RFC 5722).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.capture.batch import PacketBatch
from apptell.kernels.compiled import inlined, kernel
from apptell.packets.byte_fields import be16, be32, copy_bytes
from apptell.packets.headers import TCP, UDP, HeaderBatch, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.packets.decode import Decoder

MAX_DATAGRAMS: Final = 256
"""Datagrams that wait for their fragments; the oldest is given up first."""
WAIT_NS: Final = 30 * 10**9
"""How long they wait (RFC 1122, Section 3.3.2: at least this order)."""
_LINKTYPE_RAW: Final = 101
_FRAGMENT_HEADER: Final = 44
_FRAGMENT: Final = int(Status.FRAGMENT)
_MAX_HEAD: Final = 256
_MAX_DATAGRAM: Final = 0xFFFF
_SLOT: Final = _MAX_HEAD + _MAX_DATAGRAM + 1
_UNITS: Final = (_MAX_DATAGRAM + 1) // 8
_COVERED, _BEGINS = 1, 2

DATAGRAM: Final = np.dtype(
    [
        ("source_high", np.uint64),
        ("source_low", np.uint64),
        ("target_high", np.uint64),
        ("target_low", np.uint64),
        ("identification", np.int64),
        ("protocol", np.int64),  # part of what tells IPv4 datagrams apart; 0 in IPv6
        ("version", np.int64),
        ("first_ns", np.int64),
        ("begun", np.int64),  # the order in which datagrams began; 0 is a free place
        ("head", np.int64),  # bytes of the IP header, 0 while the first fragment is not there
        ("size", np.int64),  # payload bytes, -1 while the last fragment is not there
        ("have", np.int64),  # payload bytes that came
        ("reach", np.int64),  # where the furthest fragment ends
        ("is_spoiled", np.int64),  # fragments overlap or reach too far
    ],
    align=True,
)
"""A datagram that waits for its fragments."""


@inlined
def _place(row, version, identification, protocol, datagrams):
    """The place of a fragment's datagram, or where it may begin: the free or oldest one; is it there?"""
    oldest = 0
    for place in range(len(datagrams)):
        one = datagrams[place]
        if (
            one.identification == identification
            and one.begun > 0
            and one.source_low == row.source_low
            and one.target_low == row.target_low
            and one.source_high == row.source_high
            and one.target_high == row.target_high
            and one.protocol == protocol
            and one.version == version
        ):
            if row.time_ns - one.first_ns <= WAIT_NS:
                return place, True
            return place, False
        if one.begun < datagrams[oldest].begun:
            oldest = place
    return oldest, False


@kernel
def join_fragments(
    rows, first_row, buffer, protocols, datagrams, bodies, units, whole, done, state
):
    """Takes the fragments of ``rows[first_row:]``; writes datagrams that are whole into ``whole``.

    Args:
        rows: headers; a fragment's ``payload_at`` and ``payload_captured`` give the place of its bytes.
        first_row: where to begin.
        buffer: uint8 (size,), the bytes behind the rows.
        protocols: bool (256,), IP protocols worth the work.
        datagrams: DATAGRAM (d,), those that wait.
        bodies: uint8 (d, _SLOT), their headers, ended at _MAX_HEAD, and payloads behind that.
        units: uint8 (d, _UNITS), for 8 bytes of payload: nothing yet, covered, a fragment begins.
        whole: uint8 (w,), out.
        done: int64 (n, 3), out: row, first byte in ``whole`` and length of each datagram.
        state: int64 (3,): datagrams begun so far; datagrams in ``done``; bytes used of ``whole``.

    Returns:
        The row to go on with when ``whole`` has room again; ``len(rows)`` when all are taken.
    """
    for index in range(first_row, len(rows)):
        row = rows[index]
        if not row.is_fragment or not protocols[row.protocol]:
            continue
        if state[2] + _SLOT > len(whole):
            return index
        at = row.ip_at
        end = at + np.int64(row.ip_bytes)
        if row.payload_at + row.payload_captured < end or end > len(buffer) or at < 0:
            continue  # cut
        version = np.int64(row.ip_version)
        # Where the header before the fragment's payload ends, and what it says of the fragment.
        if version == 4:
            body = at + (np.int64(buffer[at]) & 15) * 4 if end - at >= 20 else end
            if body >= end:
                continue
            if end - at < be16(buffer, at + 2):
                continue  # cut
            identification, protocol = be16(buffer, at + 4), np.int64(buffer[at + 9])
            word = be16(buffer, at + 6)
            offset, more = (word & 0x1FFF) * 8, word & 0x2000 != 0
            head = body - at
            place_of_next = np.int64(0)
        else:
            body, place_of_next = at + 40, at + 6
            if end < body or end - body < be16(buffer, at + 4):
                continue  # cut
            following = np.int64(buffer[at + 6])
            while following != _FRAGMENT_HEADER and body + 8 <= end:
                following, place_of_next = np.int64(buffer[body]), body
                body += (np.int64(buffer[body + 1]) + 1) * 8
            if following != _FRAGMENT_HEADER or body + 8 > end:
                continue
            identification, protocol = be32(buffer, body + 4), np.int64(0)
            word = be16(buffer, body + 2)
            offset, more = word & 0xFFF8, word & 1 != 0
            head = body - at
            body += 8
        if head > _MAX_HEAD:
            continue
        length = end - body
        place, is_there = _place(row, version, identification, protocol, datagrams)
        one = datagrams[place]
        if not is_there:
            state[0] += 1
            one.source_high, one.source_low = row.source_high, row.source_low
            one.target_high, one.target_low = row.target_high, row.target_low
            one.identification, one.protocol, one.version = identification, protocol, version
            one.first_ns = row.time_ns
            one.begun = state[0]
            one.head, one.size, one.have, one.reach, one.is_spoiled = 0, -1, 0, 0, 0
            units[place, :] = 0
        store = bodies[place]
        if offset == 0:
            one.head = head
            copy_bytes(buffer, at, store, _MAX_HEAD - head, head)
            if version == 4:
                store[_MAX_HEAD - head + 6] = 0
                store[_MAX_HEAD - head + 7] = 0
            else:  # the fragment header goes: what preceded it names what followed it
                store[_MAX_HEAD - head + place_of_next - at] = buffer[body - 8]
        if not more:
            one.size = offset + length
        first_unit = offset // 8
        if not units[place, first_unit] & _BEGINS:  # else it was sent twice
            one.have += length
            one.reach = max(one.reach, offset + length)
            if offset + length > _MAX_DATAGRAM:
                one.is_spoiled = 1
            else:
                for unit in range(first_unit, (offset + length + 7) // 8):
                    if units[place, unit]:
                        one.is_spoiled = 1
                    units[place, unit] |= _COVERED
                if units[place, first_unit] and length == 0:
                    one.is_spoiled = 1
                copy_bytes(buffer, body, store, _MAX_HEAD + offset, length)
            units[place, first_unit] |= _BEGINS
        if one.size < 0 or one.head == 0 or one.have < one.size:
            continue
        one.begun = 0
        size = one.head + one.have
        if one.is_spoiled or one.reach != one.have or size > _MAX_DATAGRAM:
            continue  # it is unknown which bytes the receiver took
        start = _MAX_HEAD - one.head
        told = size if version == 4 else size - 40
        place_of_length = start + (2 if version == 4 else 4)
        store[place_of_length] = told >> 8
        store[place_of_length + 1] = told & 255
        copy_bytes(store, start, whole, state[2], size)
        done[state[1], 0], done[state[1], 1], done[state[1], 2] = index, state[2], size
        state[1] += 1
        state[2] += size
    return len(rows)


class Reassembler:
    """Puts the datagrams of fragmented TCP and UDP packets together.

    Args:
        decoder: its like is used for the whole datagrams.
        protocols: IP protocol numbers worth the work.
    """

    def __init__(self, decoder: Decoder, protocols: Sequence[int] = (TCP, UDP)) -> None:
        self._protocols = np.isin(np.arange(256), protocols)
        self._decoder = type(decoder)(decoder.max_tunnels, fragments_apart=True)
        self._datagrams: NDArray[Any] = np.zeros(MAX_DATAGRAMS, dtype=DATAGRAM)
        self._bodies: NDArray[np.uint8] = np.empty((MAX_DATAGRAMS, _SLOT), dtype=np.uint8)
        self._units: NDArray[np.uint8] = np.zeros((MAX_DATAGRAMS, _UNITS), dtype=np.uint8)
        self._whole: NDArray[np.uint8] = np.empty(1 << 20, dtype=np.uint8)
        self._done: NDArray[np.int64] = np.empty((0, 3), dtype=np.int64)
        self._state: NDArray[np.int64] = np.zeros(3, dtype=np.int64)
        self.n_datagrams = 0
        """Datagrams put together so far."""

    def release(self) -> None:
        """Gives the memory back; nothing may be put together any more."""
        self._bodies, self._units, self._whole = (
            np.empty((0, 0), dtype=np.uint8),
            np.empty((0, 0), dtype=np.uint8),
            np.empty(0, dtype=np.uint8),
        )

    def __call__(self, headers: HeaderBatch) -> HeaderBatch:
        """The same rows; that of the fragment which completes a datagram becomes the datagram's.

        Takes headers of a decoder that sets fragments apart.
        """
        rows, state = headers.rows, self._state
        state[1:] = 0
        if len(self._done) < len(rows):
            self._done = np.empty((len(rows), 3), dtype=np.int64)
        row = 0
        while True:
            row = join_fragments(
                rows,
                row,
                headers.buffer,
                self._protocols,
                self._datagrams,
                self._bodies,
                self._units,
                self._whole,
                self._done,
                state,
            )
            if row == len(rows):
                break
            self._whole = np.concatenate([self._whole, np.empty_like(self._whole)])
        n = int(state[1])
        if not n:
            return headers
        self.n_datagrams += n
        at, start, size = self._done[:n, 0], self._done[:n, 1], self._done[:n, 2].astype(np.int32)
        headers_of_whole = self._decoder(
            PacketBatch(
                self._whole,
                start,
                size,
                size,
                rows["time_ns"][at],
                np.full(n, _LINKTYPE_RAW, dtype=np.uint16),
                np.zeros(n, dtype=np.int32),
                rows["direction"][at],
                rows["owner"][at],
            )
        )
        whole = headers_of_whole.rows
        whole["is_whole"] = 1
        is_first = whole["is_further"] == 0
        rows[at] = whole[is_first]
        if len(whole) > n:  # a tunnel whose datagram carried an aggregate
            further = np.flatnonzero(~is_first)
            rows = np.insert(rows, at[np.cumsum(is_first)[further] - 1] + 1, whole[further])
        return HeaderBatch(rows, headers.buffer, self._whole[: int(state[2])].copy())
