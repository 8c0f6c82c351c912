"""Joins the crypto streams of QUIC connections from the CRYPTO frames of opened Initial packets; compiled code.

Source: RFC 9000 sections 16 (variable-length integers) and 19 (frames).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.kernels.compiled import inlined, kernel, subroutine

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_CRYPTO: Final = 1 << 16
_MAX_FRAMES: Final = 1024
"""CRYPTO frames that one packet of 4,096 kept bytes can hold with a byte or more each."""
IS_STREAM, IS_STREAM_IF_FIRST = 0, -1
"""Kinds of bytes that are a stream themselves: always; if no packet before had CRYPTO frames."""


@inlined
def varint_at(data: NDArray[np.uint8], at: Any, end: Any) -> tuple[Any, Any]:
    """A variable-length integer (RFC 9000, section 16) and what follows it; -1 where it is cut."""
    if at >= end:
        return np.int64(-1), at
    size = 1 << (data[at] >> 6)
    if at + size > end:
        return np.int64(-1), at
    value = np.int64(data[at]) & 63
    for place in range(at + 1, at + size):
        value = (value << 8) | np.int64(data[place])
    return value, at + size


@subroutine
def _list_crypto(
    data: NDArray[np.uint8], at: Any, end: Any, crypto: int, out: NDArray[np.int64]
) -> int:
    """Lists the CRYPTO frames of data[at:end], an opened packet, up to a frame that no Initial packet may hold.

    Args:
        data: frames.
        at: where they begin.
        end: where they end.
        crypto: the frame's type: 6, or 8 in Google's T050 and T051.
        out: int64 (k, 3), out: offset in the stream, first byte and its end in ``data``.

    Returns:
        How many there are, at most k.
    """
    n = 0
    while at < end and n < len(out):
        kind = data[at]
        at += 1
        if kind == 0 or kind == 1:  # PADDING, PING
            continue
        if kind != crypto and kind != 2 and kind != 3:
            break
        offset, at = varint_at(data, at, end)  # ACK: the largest number
        if offset < 0:
            break
        size, at = varint_at(data, at, end)  # ACK: the delay
        if size < 0:
            break
        if kind == crypto:
            if offset + size > _MAX_CRYPTO:
                break
            out[n, 0], out[n, 1], out[n, 2] = offset, at, min(at + size, end)
            n += 1
            at += size
            continue
        ranges, at = varint_at(data, at, end)
        if ranges < 0:
            break
        for _ in range(2 * ranges + (4 if kind == 3 else 1)):  # first range, ranges, ECN counts
            size, at = varint_at(data, at, end)
            if size < 0:
                return n
    return n


@subroutine
def _paint(
    data: NDArray[np.uint8],
    frames: NDArray[np.int64],
    n: int,
    end: int,
    reach: int,
    stream: NDArray[np.uint8],
    filled: NDArray[np.bool_],
) -> tuple[int, int]:
    """Puts frames into a stream; its new ``end`` before a byte sent in two versions, and its new ``reach``."""
    for frame in range(n):
        shift = frames[frame, 0] - frames[frame, 1]
        for index in range(frames[frame, 1], frames[frame, 2]):
            place = index + shift
            if not filled[place]:
                filled[place] = True
                stream[place] = data[index]
            elif stream[place] != data[index]:
                end = min(end, place)
                break
        reach = max(reach, frames[frame, 2] + shift)
    return end, reach


@subroutine
def _sent_whole(
    frames: NDArray[np.int64],
    first: int,
    stop: int,
    kind: NDArray[np.int64],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
) -> int:
    """The packet whose bytes are the stream as they are, or -1: Google QUIC's before it used TLS."""
    has_frames = False
    for packet in range(first, stop):
        if kind[packet] == IS_STREAM or (kind[packet] == IS_STREAM_IF_FIRST and not has_frames):
            return packet
        if kind[packet] > 0 and not has_frames:
            n = _list_crypto(data, start[packet], start[packet + 1], kind[packet], frames)
            has_frames = n > 0
    return -1


@kernel
def join_streams(
    first: NDArray[np.int64],
    key: NDArray[np.int64],
    kind: NDArray[np.int64],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    ends: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    """Joins the crypto stream of each of s flows' sides from its opened packets, up to its first gap.

    Packets of other keys are another stream: the first with a whole message is given, else the longest. A
    stream ends before a byte of which two versions were sent.

    Args:
        first: the packets of side i are ``first[i]`` to ``first[i + 1]``, shape (s + 1,).
        key: what they were opened with, shape (m,).
        kind: type of their CRYPTO frames, or ``IS_STREAM`` or ``IS_STREAM_IF_FIRST``, shape (m,).
        start: packet j is ``data[start[j] : start[j + 1]]``, shape (m + 1,).
        data: their bytes.
        ends: stream i is ``out[ends[i] : ends[i + 1]]``, shape (s + 1,), out.
        out: of the size of ``data``, out.
    """
    frames = np.empty((_MAX_FRAMES, 3), dtype=np.int64)
    stream = np.empty(_MAX_CRYPTO, dtype=np.uint8)
    filled = np.zeros(_MAX_CRYPTO, dtype=np.bool_)
    is_done = np.zeros(len(key), dtype=np.bool_)
    at = 0
    ends[0] = 0
    for side in range(len(first) - 1):
        stop = first[side + 1]
        have: Any = 0
        whole = _sent_whole(frames, first[side], stop, kind, start, data)
        if whole >= 0:
            have = start[whole + 1] - start[whole]
            for index in range(have):
                out[at + index] = data[start[whole] + index]
        for packet in range(first[side], stop if whole < 0 else first[side]):
            if is_done[packet] or kind[packet] < 0:
                continue
            n = _list_crypto(data, start[packet], start[packet + 1], kind[packet], frames)
            if n == 0:
                continue
            end, reach = _paint(data, frames, n, _MAX_CRYPTO, 0, stream, filled)
            for other in range(packet + 1, stop):
                if key[other] == key[packet] and kind[other] > 0:
                    is_done[other] = True
                    n = _list_crypto(data, start[other], start[other + 1], kind[other], frames)
                    end, reach = _paint(data, frames, n, end, reach, stream, filled)
            n = 0
            while n < end and n < reach and filled[n]:
                n += 1
            for index in range(reach):
                filled[index] = False
            is_whole = n >= 4 and n >= 4 + (
                (np.int64(stream[1]) << 16) | (np.int64(stream[2]) << 8) | np.int64(stream[3])
            )
            if is_whole or n > have:
                have = n
                for index in range(n):
                    out[at + index] = stream[index]
            if is_whole:
                break
        at += have
        ends[side + 1] = at
