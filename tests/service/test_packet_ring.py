"""The ring of packets: copies that are the same frames, pieces that are small, and a bound."""

from pathlib import Path

import numpy as np
import pytest

from apptell.capture import PacketBatch, open_capture
from apptell.packets import Decoder
from apptell.packets.packet_keys import packet_keys
from apptell.service.packet_ring import (
    PacketRing,
    RingPiece,
    copied,
    cut_pieces,
    flow_hints,
    piece_bytes,
)
from apptell.testing import app_capture, write_pcap


@pytest.fixture
def packets(tmp_path: Path) -> PacketBatch:
    path = write_pcap(tmp_path / "phone.pcap", app_capture(["signal", "zoom"], 3))
    with open_capture(path) as reader:
        return next(iter(reader)).copy()


def frames(packets: PacketBatch) -> list[bytes]:
    return [packets.frame(row) for row in range(len(packets))]


@pytest.mark.parametrize("gap", [0, 100_000])
def test_a_copy_has_the_same_frames_wherever_they_lie(packets: PacketBatch, gap: int) -> None:
    parts = [np.frombuffer(frame + bytes(gap), dtype=np.uint8) for frame in frames(packets)]
    packets.buffer = np.concatenate(parts)
    packets.offset = packets.offset * 0 + np.cumsum([0, *map(len, parts[:-1])])
    order = np.arange(len(packets))[::-1]  # a ring that begins anew in the middle
    packets.offset, packets.captured = packets.offset[order], packets.captured[order]
    before = frames(packets)
    own = copied(packets)
    packets.buffer[:] = 0
    assert frames(own) == before
    assert len(own.buffer) <= 2 * piece_bytes(own)


def test_pieces_have_every_packet_once_and_are_small_beside_the_ring(packets: PacketBatch) -> None:
    pieces = list(cut_pieces(packets, 64_000))
    assert [frame for piece in pieces for frame in frames(piece)] == frames(packets)
    assert len(pieces) > 1
    assert all(len(piece) == 1 or piece_bytes(piece) <= 2000 for piece in pieces)


def test_the_oldest_pieces_leave(packets: PacketBatch) -> None:
    pieces = [RingPiece(copied(each), "x", Decoder(0)) for each in cut_pieces(packets, 64_000)]
    ring = PacketRing(sum(piece.n_bytes for piece in pieces[-3:]))
    for piece in pieces:
        ring.add(piece)
    assert list(ring) == pieces[-3:]
    assert ring.n_bytes == sum(piece.n_bytes for piece in ring)
    smallest = PacketRing(1)
    smallest.add(pieces[0])
    assert list(smallest) == [pieces[0]]


def test_hints_are_equal_where_keys_are_and_tell_flows_apart(packets: PacketBatch) -> None:
    rows = Decoder(0)(packets).rows
    keys, hints = packet_keys(rows), flow_hints(rows)
    pairs = set(zip(keys.tolist(), hints.tolist(), strict=True))
    assert len(pairs) == len(set(keys.tolist())) == len(set(hints.tolist())) > 1
