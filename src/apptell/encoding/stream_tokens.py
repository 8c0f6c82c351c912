"""Writes tokens of the records, turns, frames and words of a flow's two byte streams; compiled code.

Everything is read from the two byte streams, which are divided into *turns*: what one side sends until the
other speaks. So it does not matter how a stream was cut into segments or in what order these arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.encoding.handshake import (
    put_certificates,
    put_client_hello,
    put_server_hello,
    put_words,
    u16,
)
from apptell.encoding.tokens import (
    DATA,
    DATA_EXACT,
    DATA_PAIR,
    DATAGRAM,
    DATAGRAM_EXACT,
    FRAMES,
    KIND,
    MESSAGE,
    N_BUCKETS,
    PREFIX,
    RECORD,
    RECORD_ORDER,
    RECORD_VERSION,
    TURN,
    TURN_EXACT,
    TURN_ORDER,
    TURN_PREFIX,
    TURN_RECORDS,
    Sink,
    hash_bytes,
    mix,
    put,
    size_class,
)
from apptell.kernels.compiled import inlined, kernel, subroutine

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PACKETS: Final = 64
MAX_RECORDS: Final = 48
MAX_STREAM: Final = 16_384
MAX_PLAIN: Final = 600
"""Bytes of a stream in which words are looked for."""
_N_TURNS: Final = 8


@inlined
def _record_at(data: NDArray[np.uint8], at: Any) -> Any:
    """Whether five bytes can be the header of a TLS record (RFC 8446, section 5.1)."""
    return (
        20 <= data[at] <= 24
        and data[at + 1] == 3
        and data[at + 2] <= 4
        and u16(data, at + 3) <= 16_384 + 2_048
    )


@subroutine
def _frames(data: NDArray[np.uint8], n: int, total: int, skip: int, width: int, big: bool) -> int:
    """How many frames with a length of ``width`` bytes before each fill data[:n] exactly, else 0."""
    at: Any = skip
    count = 0
    while at + width <= n:
        size: Any = 0
        for index in range(width):
            shift = width - 1 - index if big else index
            size |= np.int64(data[at + index]) << (8 * shift)
        if size == 0 or size > 65_536:
            return 0
        at += width + size
        count += 1
    return count if at == n or (at == total and count > 1) else 0


@subroutine
def _put_plain(
    sink: Sink, flow: int, side: int, data: NDArray[np.uint8], n: int, total: int, names: int
) -> None:
    """Tokens of a stream that is no TLS: how it begins, how it is framed, its words."""
    for width in (1, 2, 3, 4, 6, 8):
        if n >= width:
            put(sink, flow, hash_bytes(mix(PREFIX, side), data, 0, width))
    if n >= 8:  # behind a first word of 32 bits, where magic numbers stand (STUN)
        put(sink, flow, hash_bytes(mix(PREFIX, 2 + side), data, 4, 8))
    for width in (2, 3, 4):
        for skip in range(9):
            for big in (True, False):
                count = _frames(data, n, total, skip, width, big)
                if count > 0:
                    key = mix(mix(FRAMES, side), 100 * width + 2 * skip + big)
                    put(sink, flow, mix(key, min(count, 2)))
    put_words(sink, flow, data, 0, min(n, MAX_PLAIN), names)


@subroutine
def _put_messages(
    sink: Sink, flow: int, side: int, data: NDArray[np.uint8], n: int, names: int
) -> None:
    """Tokens of handshake messages one behind the other in data[:n], the last perhaps cut."""
    at: Any = 0
    while at + 4 <= n:
        kind = data[at]
        size = (np.int64(data[at + 1]) << 16) | u16(data, at + 2)
        end = min(at + 4 + size, n)
        put(sink, flow, mix(mix(mix(MESSAGE, side), np.int64(kind)), size_class(size)))
        if kind == 1:
            put_client_hello(sink, flow, data, at, end, False, names)
        elif kind == 2:
            put_server_hello(sink, flow, data, at, end)
        elif kind == 11:
            put_certificates(sink, flow, data, at, end, names)
        elif kind > 24:
            return  # encrypted: what follows a change of ciphers
        at = end


@subroutine
def _order_rows(
    begin: int,
    n: int,
    to_server: NDArray[np.bool_],
    offset: NDArray[np.int32],
    is_udp: bool,
    row_of: NDArray[np.int64],
) -> None:
    """Rows of a flow's segments ``begin`` to ``begin + n``, each side's in the order of its stream.

    Which side speaks when stays as it was captured. Datagrams stay as they are.
    """
    for segment in range(n):
        row = begin + segment
        spot = segment
        if not is_udp:
            for earlier in range(segment - 1, -1, -1):
                other = row_of[earlier]
                if to_server[other] == to_server[row]:
                    if offset[other] <= offset[row]:
                        break
                    row_of[spot] = other
                    spot = earlier
        row_of[spot] = row


@kernel
def read_streams(
    first: NDArray[np.int64],
    length: NDArray[np.int32],
    to_server: NDArray[np.bool_],
    offset: NDArray[np.int32],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    is_udp: NDArray[np.bool_],
    hello_of: NDArray[np.int64],
    hello_start: NDArray[np.int64],
    hello_data: NDArray[np.uint8],
    hello_is_datagram: NDArray[np.bool_],
    skip: int,
    packets: int,
    names: int,
    tokens: NDArray[np.uint16],
) -> None:
    """Writes the tokens of n flows.

    Args:
        first: row of each flow's first segment; this and the next five are as in ``SegmentColumns``.
        length: payload bytes on the wire.
        to_server: direction.
        offset: place in the stream of the side.
        start: first byte of each segment in ``data``.
        data: kept bytes.
        is_udp: flows of UDP, shape (n,).
        hello_of: the hello of each flow of UDP in ``hello_start``, or -1, shape (n,).
        hello_start: first byte of each hello read from QUIC or DTLS, as in ``Messages``.
        hello_data: their bytes.
        hello_is_datagram: which of them are of DTLS.
        skip: payload packets passed over first.
        packets: payload packets that are looked at; behind skipped ones two are needed for any token.
        names: NAMES_ON, NAMES_MASKED or NAMES_HASHED.
        tokens: written, zeros before, shape (n, room).
    """
    seen = np.full(N_BUCKETS, -1, dtype=np.int64)
    count = np.zeros(1, dtype=np.int64)
    stream = np.empty((2, MAX_STREAM), dtype=np.uint8)
    shake = np.empty((2, MAX_STREAM), dtype=np.uint8)
    n_stream = np.zeros(2, dtype=np.int64)
    n_shake = np.zeros(2, dtype=np.int64)
    total = np.zeros(2, dtype=np.int64)
    turn_size = np.zeros(MAX_PACKETS, dtype=np.int64)
    turn_side = np.zeros(MAX_PACKETS, dtype=np.int64)
    turn_row = np.zeros(MAX_PACKETS, dtype=np.int64)
    turn_key = np.zeros(MAX_PACKETS, dtype=np.int64)
    turn_of = np.zeros(MAX_PACKETS, dtype=np.int64)
    row_of = np.zeros(MAX_PACKETS, dtype=np.int64)
    place_of = np.zeros(MAX_PACKETS, dtype=np.int64)  # of a segment in its side's stream
    record_kind = np.zeros((2, MAX_RECORDS), dtype=np.int64)
    record_minor = np.zeros((2, MAX_RECORDS), dtype=np.int64)
    record_size = np.zeros((2, MAX_RECORDS), dtype=np.int64)
    record_turn = np.zeros((2, MAX_RECORDS), dtype=np.int64)
    n_records = np.zeros(2, dtype=np.int64)
    base = np.zeros(2, dtype=np.int64)  # row of each side's first segment
    header = np.empty(5, dtype=np.uint8)
    for flow in range(len(first) - 1):
        count[0] = 0
        sink = Sink(tokens[flow], count, seen)
        begin = first[flow] + skip
        n = min(first[flow + 1] - begin, packets, MAX_PACKETS)
        if n < 1 or (skip > 0 and n < 2):
            continue
        n_stream[:] = 0
        n_shake[:] = 0
        total[:] = 0
        n_records[:] = 0
        n_turns = 0
        _order_rows(begin, n, to_server, offset, is_udp[flow], row_of)
        base[:] = -1
        for segment in range(n):
            row = row_of[segment]
            side = 0 if to_server[row] else 1
            if n_turns == 0 or turn_side[n_turns - 1] != side:
                turn_side[n_turns] = side
                turn_size[n_turns] = 0
                turn_row[n_turns] = row
                turn_key[n_turns] = mix(TURN_RECORDS, side)
                n_turns += 1
            turn_size[n_turns - 1] += length[row]
            turn_of[segment] = n_turns - 1
            if base[side] < 0:
                base[side] = row
            place_of[segment] = np.int64(offset[row]) - offset[base[side]]
            seen_before = n_stream[side] - place_of[segment]
            if seen_before >= 0:  # nothing of this side is missing so far
                at = n_stream[side]
                from_byte = start[row] + seen_before
                kept = min(start[row + 1] - from_byte, MAX_STREAM - at)
                for index in range(kept):
                    stream[side, at + index] = data[from_byte + index]
                n_stream[side] = at + max(kept, 0)
            total[side] = max(total[side], place_of[segment] + length[row])
        if is_udp[flow]:
            for segment in range(n):
                row = begin + segment
                side = 0 if to_server[row] else 1
                put(sink, flow, mix(mix(mix(DATAGRAM, side), segment), size_class(length[row])))
                put(sink, flow, mix(mix(DATAGRAM_EXACT, side), length[row]))
            message = hello_of[flow]
            if message >= 0:
                put_client_hello(
                    sink,
                    flow,
                    hello_data,
                    hello_start[message],
                    hello_start[message + 1],
                    hello_is_datagram[message],
                    names,
                )
        else:
            for side in range(2):
                # Records, one behind the other; where one is lost, the next segment that begins one.
                at = 0
                segment = 0
                open_messages = True
                joined = True  # the stream is known without a gap up to here
                while segment < n and n_records[side] < MAX_RECORDS:
                    row = row_of[segment]
                    is_side = (0 if to_server[row] else 1) == side
                    if not is_side or place_of[segment] + length[row] <= at:
                        segment += 1
                        continue
                    if place_of[segment] > at:  # what lies before was lost
                        joined = False
                        at = place_of[segment]
                    # The five bytes of a header may lie in several segments.
                    have = 0
                    probe = segment
                    while have < 5 and probe < n:
                        other = row_of[probe]
                        if (0 if to_server[other] else 1) == side:
                            inside = at + have - place_of[probe]
                            kept = start[other + 1] - start[other]
                            if inside < 0:
                                break
                            while have < 5 and inside < kept:
                                header[have] = data[start[other] + inside]
                                have += 1
                                inside += 1
                            if have < 5 and kept < length[other]:
                                break
                        probe += 1
                    if have < 5 or not _record_at(header, 0):
                        joined = False
                        segment += 1
                        while segment < n and (
                            (0 if to_server[row_of[segment]] else 1) != side
                            or place_of[segment] <= at
                        ):
                            segment += 1
                        if segment < n:
                            at = place_of[segment]
                        continue
                    size = u16(header, 3)
                    index = n_records[side]
                    record_kind[side, index] = header[0]
                    record_minor[side, index] = header[2]
                    record_size[side, index] = size
                    record_turn[side, index] = turn_of[segment]
                    n_records[side] = index + 1
                    if header[0] != 22:
                        open_messages = open_messages and header[0] == 21
                    elif open_messages and joined and at + 5 <= n_stream[side]:
                        stop = min(at + 5 + size, n_stream[side])
                        for index in range(at + 5, stop):
                            if n_shake[side] < MAX_STREAM:
                                shake[side, n_shake[side]] = stream[side, index]
                                n_shake[side] += 1
                    at += 5 + size
            key = mix(RECORD_ORDER, 0)
            n_ordered = 0
            next_of = np.zeros(2, dtype=np.int64)
            for turn in range(n_turns):
                side = turn_side[turn]
                while next_of[side] < n_records[side] and record_turn[side, next_of[side]] == turn:
                    index = next_of[side]
                    next_of[side] += 1
                    kind = record_kind[side, index]
                    turn_key[turn] = mix(turn_key[turn], kind)
                    if n_ordered < 6:
                        key = mix(key, 2 * kind + side)
                        n_ordered += 1
            if n_ordered > 0:
                put(sink, flow, key)
            for side in range(2):
                if n_shake[side] > 0:
                    _put_messages(sink, flow, side, shake[side], n_shake[side], names)
                n_data = 0
                before = -1
                for index in range(n_records[side]):
                    kind = record_kind[side, index]
                    size = record_size[side, index]
                    put(sink, flow, mix(mix(RECORD_VERSION, kind), record_minor[side, index]))
                    if index < 8:
                        place = mix(mix(RECORD, side), 8 * kind + index)
                        put(sink, flow, mix(place, size_class(size)))
                    if kind == 23:
                        put(sink, flow, mix(mix(DATA_EXACT, side), size))
                        now = size_class(size)
                        if n_data < 6:
                            put(sink, flow, mix(mix(DATA, 2 * n_data + side), now))
                        if before >= 0:
                            put(sink, flow, mix(mix(mix(DATA_PAIR, side), before), now))
                        before = now
                        n_data += 1
        is_tls = n_records[0] + n_records[1] > 0
        has_hello = n_shake[0] > 0 and shake[0, 0] == 1
        put(sink, flow, mix(KIND, 4 * is_udp[flow] + 2 * is_tls + has_hello))
        order = mix(TURN_ORDER, 0)
        for turn in range(min(n_turns, _N_TURNS)):
            side = turn_side[turn]
            size = turn_size[turn]
            order = mix(order, side)
            if turn < 6:
                put(sink, flow, mix(mix(mix(TURN, side), turn), size_class(size)))
                put(sink, flow, mix(mix(TURN_EXACT, side), size))
                if is_tls:
                    put(sink, flow, mix(turn_key[turn], turn))
            if turn < 4 and not is_tls:
                row = turn_row[turn]
                kept = start[row + 1] - start[row]
                for width in range(1, 5):
                    if kept >= width:
                        place = mix(mix(TURN_PREFIX, side), turn)
                        put(sink, flow, hash_bytes(place, data, start[row], start[row] + width))
        put(sink, flow, order)
        if not is_tls:
            for side in range(2):
                if n_stream[side] > 0:
                    _put_plain(sink, flow, side, stream[side], n_stream[side], total[side], names)
