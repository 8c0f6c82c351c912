from __future__ import annotations

import struct

import pytest

from apptell.packets import Decoder, Reassembler
from apptell.testing import tcp_frame
from tests.packets.test_decode import IP4, IP6, amsdu, batch_of, ipv4, ipv6, udp

TCP4 = IP4[20:] + b" and a longer text"
TCP6 = IP6[40:] + b" and a longer text"


def fragments4(body: bytes, size: int = 8, identification: int = 9) -> list[bytes]:
    return [
        ipv4(
            6,
            body[at : at + size],
            identification=identification,
            fragment=at // 8 | (0x2000 if at + size < len(body) else 0),
        )
        for at in range(0, len(body), size)
    ]


def fragments6(body: bytes, size: int = 16) -> list[bytes]:
    return [
        ipv6(
            44, struct.pack(">BBHI", 6, 0, at | (at + size < len(body)), 77) + body[at : at + size]
        )
        for at in range(0, len(body), size)
    ]


def payloads(frames):
    decoder = Decoder(fragments_apart=True)
    headers = Reassembler(decoder)(decoder(batch_of(frames, 101)))
    out = []
    for row in headers.rows[headers.rows["status"] == 0]:
        buffer = headers.whole if row["is_whole"] else headers.buffer
        start = int(row["payload_at"])
        out.append(buffer[start : start + int(row["payload_captured"])].tobytes())
    return out


@pytest.mark.parametrize("frames", [fragments4(TCP4), fragments6(TCP6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("order", ["in order", "reversed", "first one twice"])
def test_a_datagram_is_whole_again(frames, order):
    frames = {
        "in order": frames,
        "reversed": frames[::-1],
        "first one twice": [frames[0], *frames],
    }[order]
    assert payloads(frames) == [b"hello and a longer text"]


def test_what_stands_between_fragments_keeps_its_place():
    first, *rest = fragments4(TCP4, 24)
    assert payloads([IP4, first, IP6, *rest, IP4]) == [
        b"hello",
        b"hello",
        b"hello and a longer text",
        b"hello",
    ]


def test_an_incomplete_datagram_gives_nothing():
    assert payloads(fragments4(TCP4)[:-1]) == []
    assert payloads(fragments4(TCP4)[1:]) == []


def test_overlapping_fragments_are_not_put_together():
    frames = fragments4(TCP4, 16)
    evil = ipv4(6, bytes(16), identification=9, fragment=0x2000 | 1)
    assert payloads([frames[0], evil, *frames[1:]]) == []


def test_other_identifications_are_other_datagrams():
    a, b = fragments4(TCP4, 24, 1), fragments4(TCP4, 24, 2)
    assert payloads([a[0], b[1]]) == []
    assert payloads([a[0], b[0], a[1], b[1]]) == [b"hello and a longer text"] * 2


def test_a_datagram_whose_tunnel_carries_an_aggregate_gives_every_packet_in_its_place():
    wifi = b"\x88\x01" + bytes(22) + b"\x80\0" + amsdu(IP4, IP6, IP4)
    datagram = udp(5247, b"\0\x10\3\0" + bytes(4) + wifi)  # CAPWAP
    pieces = [
        ipv4(
            17,
            datagram[at : at + 64],
            identification=5,
            fragment=at // 8 | (0x2000 if at + 64 < len(datagram) else 0),
        )
        for at in range(0, len(datagram), 64)
    ]
    others = [tcp_frame(("10.0.0.2", 1), ("192.0.2.7", 2), each)[14:] for each in (b"one", b"two")]
    found = payloads([pieces[0], others[0], *pieces[1:], others[1]])
    assert found == [b"one", b"hello", b"hello", b"hello", b"two"]
