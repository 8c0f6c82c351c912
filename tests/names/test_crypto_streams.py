"""Crypto streams beside a twin in plain Python, written from RFC 9000, section 19."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from apptell.names.crypto_streams import IS_STREAM, IS_STREAM_IF_FIRST, join_streams

Packet = tuple[int, int, bytes]
"""Key, kind, bytes."""
MAX_CRYPTO = 1 << 16


def varint(data: bytes) -> tuple[int | None, bytes]:
    """A variable-length integer and what follows it."""
    size = 1 << (data[0] >> 6) if data else 1
    if len(data) < size:
        return None, b""
    return int.from_bytes(data[:size], "big") & ((1 << (8 * size - 2)) - 1), data[size:]


def crypto_frames(data: bytes, crypto: int) -> list[tuple[int, bytes]]:
    """Offset and bytes of the CRYPTO frames, up to a frame that no Initial packet may hold."""
    found = []
    while data:
        kind, data = data[0], data[1:]
        if kind in (0, 1):
            continue
        if kind == crypto:
            offset, data = varint(data)
            size, data = varint(data)
            if offset is None or size is None or offset + size > MAX_CRYPTO:
                break
            found.append((offset, data[:size]))
            data = data[size:]
        elif kind in (2, 3):
            for _ in range(2):
                _, data = varint(data)
            ranges, data = varint(data)
            if ranges is None:
                break
            for _ in range(2 * ranges + (4 if kind == 3 else 1)):
                value, data = varint(data)
                if value is None:
                    return found
        else:
            break
    return found


def stream_of(frames: list[tuple[int, bytes]]) -> bytes:
    """The bytes up to the first that is missing or was sent in two versions."""
    sent: dict[int, set[int]] = {}
    for offset, data in frames:
        for place, byte in enumerate(data, offset):
            sent.setdefault(place, set()).add(byte)
    stream = bytearray()
    while len(sent.get(len(stream), ())) == 1:
        stream += bytes(sent[len(stream)])
    return bytes(stream)


def twin(packets: list[Packet]) -> bytes:
    streams: dict[int, list[tuple[int, bytes]]] = {}
    for key, kind, data in packets:
        if kind == IS_STREAM:
            return data
        if kind == IS_STREAM_IF_FIRST:
            if not any(streams.values()):
                return data
        elif frames := crypto_frames(data, kind):
            streams.setdefault(key, []).extend(frames)
    longest = b""
    for frames in streams.values():
        stream = stream_of(frames)
        if len(stream) >= 4 and len(stream) >= 4 + int.from_bytes(stream[1:4], "big"):
            return stream
        longest = max(longest, stream, key=len)
    return longest


def joined(sides: list[list[Packet]]) -> list[bytes]:
    packets = [packet for side in sides for packet in side]
    data = b"".join(data for *_, data in packets)
    ends = np.empty(len(sides) + 1, dtype=np.int64)
    out = np.empty(len(data), dtype=np.uint8)
    join_streams(
        np.cumsum([0, *map(len, sides)]),
        np.array([key for key, *_ in packets], dtype=np.int64),
        np.array([kind for _, kind, _ in packets], dtype=np.int64),
        np.cumsum([0, *(len(data) for *_, data in packets)]),
        np.frombuffer(data, dtype=np.uint8),
        ends,
        out,
    )
    return [out[a:b].tobytes() for a, b in pairwise(ends)]


def frame(kind: int, offset: int, data: bytes) -> bytes:
    return (
        bytes([kind]) + (0x8000_0000 | offset).to_bytes(4, "big") + bytes([len(data) & 63]) + data
    )


MESSAGE = b"\1\0\0\x14" + bytes(range(20))
PIECES = st.tuples(st.integers(0, 25), st.integers(0, 25)).map(
    lambda cut: (min(cut), MESSAGE[min(cut) : max(cut)])
)
FRAMES = st.one_of(
    PIECES.map(lambda piece: frame(6, *piece)),
    PIECES.map(lambda piece: frame(8, *piece)),
    st.tuples(st.integers(0, 30), st.binary(max_size=9)).map(lambda piece: frame(6, *piece)),
    st.sampled_from(
        [b"\0\0", b"\1", b"\2\1\0\1\0\0\0", b"\3\1\0\0\0\1\2\3", frame(6, 65535, b"ab")]
    ),
    st.binary(max_size=4),
)
PACKETS = st.tuples(
    st.integers(0, 2),
    st.sampled_from([6, 6, 6, 8, IS_STREAM, IS_STREAM_IF_FIRST]),
    st.lists(FRAMES, max_size=5).map(b"".join),
)


@given(st.lists(st.lists(PACKETS, max_size=5), max_size=4))
def test_random_packets_give_the_streams_of_the_twin(sides):
    assert joined(sides) == [twin(side) for side in sides]


def test_a_packet_without_frames_does_not_decide_which_stream_comes_first():
    one, other = MESSAGE, MESSAGE[:-1] + b"x"
    side = [(1, 6, b"\0"), (2, 6, frame(6, 0, other)), (1, 6, frame(6, 0, one))]
    assert joined([side]) == [other]


def test_a_stream_ends_at_the_largest_offset_that_is_kept():
    piece = bytes(63)
    sent = [frame(6, offset, piece) for offset in range(0, MAX_CRYPTO + 630, 63)]
    packets = [(0, 6, b"".join(sent[:500])), (0, 6, b"".join(sent[500:]))]
    assert len(joined([packets])[0]) == MAX_CRYPTO // 63 * 63
