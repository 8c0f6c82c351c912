from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apptell.capture.batch import PacketBatch
from apptell.packets import Status, decode
from apptell.testing import START_NS, tcp_frame, udp_frame

CLIENT, SERVER = ("10.0.0.2", 40000), ("192.0.2.7", 443)
CLIENT6, SERVER6 = ("fd00::2", 40000), ("2001:db8::7", 443)
SEGMENT = tcp_frame(CLIENT, SERVER, b"hello", sequence=7)
IP4 = SEGMENT[14:]
SNAP = b"\xaa\xaa\x03\0\0\0\x08\0"
IP6 = tcp_frame(CLIENT6, SERVER6, b"hello", sequence=7)[14:]


def batch_of(frames, link_type=1, wire=None):
    lengths = np.array([len(frame) for frame in frames], dtype=np.int32)
    n = len(frames)
    return PacketBatch(
        np.frombuffer(b"".join(frames), dtype=np.uint8),
        np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64),
        lengths,
        lengths if wire is None else np.array(wire, dtype=np.int32),
        np.full(n, START_NS, dtype=np.int64),
        np.full(n, link_type, dtype=np.uint16),
        np.zeros(n, dtype=np.int32),
        np.zeros(n, dtype=np.uint8),
        np.full(n, -1, dtype=np.int32),
    )


def decode_one(frame, link_type=1, wire=None):
    headers = decode(batch_of([frame], link_type, None if wire is None else [wire]))
    return headers.rows[0], headers.buffer


def payload_of(frame, link_type=1):
    row, buffer = decode_one(frame, link_type)
    assert Status(row["status"]) is Status.OK
    start = int(row["payload_at"])
    return buffer[start : start + int(row["payload_captured"])].tobytes()


def gre(protocol, body, flags=0):
    return struct.pack(">HH", flags, protocol) + body


def ipv4(protocol, body, *, identification=1, fragment=0, options=b"", total=None):
    length = 20 + len(options) + len(body) if total is None else total
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | (5 + len(options) // 4),
        0,
        length,
        identification,
        fragment,
        64,
        protocol,
        0,
        bytes([10, 0, 0, 9]),
        bytes([192, 0, 2, 9]),
    )
    return head + options + body


def ipv6(next_header, body):
    return (
        struct.pack(">IHBB", 6 << 28, len(body), next_header, 64)
        + bytes(15)
        + b"\1"
        + bytes(15)
        + b"\2"
        + body
    )


def ether(ethertype: int, body: bytes) -> bytes:
    return bytes(12) + struct.pack(">H", ethertype) + body


def udp(port, body):
    return struct.pack(">HHHH", 50000, port, 8 + len(body), 0) + body


def vxlan(header, body, port=4789):
    return ipv4(17, udp(port, header + body))


def mpls(body):
    return ether(0x8847, b"\0\2\1\x40" + body)


def amsdu(*packets):
    """Subframes of an aggregate, each but the last padded."""
    subframes = [bytes(12) + struct.pack(">H", 8 + len(each)) + SNAP + each for each in packets]
    padded = [each + bytes(-len(each) % 4) for each in subframes[:-1]]
    return b"".join([*padded, *subframes[-1:]])


def test_a_tcp_segment_gives_every_column():
    row, _ = decode_one(SEGMENT)
    assert (row["source_port"], row["target_port"], row["protocol"]) == (40000, 443, 6)
    assert row["source_low"] == int.from_bytes(bytes([10, 0, 0, 2]), "big")
    assert row["target_low"] == int.from_bytes(bytes([192, 0, 2, 7]), "big")
    assert (row["sequence"], row["payload"], row["ip_bytes"]) == (7, 5, 45)
    assert (row["ttl"], row["ip_version"], row["time_ns"]) == (64, 4, START_NS)


WITH_SEGMENT = [
    ("ethernet", 1, SEGMENT),
    ("one VLAN tag", 1, bytes(12) + b"\x81\x00\x00\x05" + SEGMENT[12:]),
    (
        "three VLAN tags",
        1,
        bytes(12) + b"\x88\xa8\x00\x05\x81\x00\x00\x06\x81\x00\x00\x07" + SEGMENT[12:],
    ),
    ("802.3 with SNAP", 1, ether(8 + len(IP4), b"\xaa\xaa\x03\0\0\0\x08\0" + IP4)),
    ("802.3 with IP over LLC", 1, ether(3 + len(IP4), b"\x06\x06\x03" + IP4)),
    (
        "PPPoE",
        1,
        ether(0x8864, b"\x11\0\0\1" + struct.pack(">H", 2 + len(IP4)) + b"\x00\x21" + IP4),
    ),
    ("MPLS, two labels", 1, ether(0x8847, b"\0\1\0\x40\0\2\1\x40" + IP4)),
    ("pseudowire over MPLS", 1, ether(0x8847, b"\0\2\1\x40" + bytes(4) + SEGMENT)),
    ("FabricPath", 1, bytes(12) + b"\x89\x03\0\1" + SEGMENT),
    ("VN-Tag", 1, bytes(12) + b"\x89\x26\0\0\0\0" + SEGMENT[12:]),
    ("IP over InfiniBand", 242, bytes(40) + b"\x08\0\0\0" + IP4),
    ("raw IPv4", 101, IP4),
    ("raw IPv6", 101, IP6),
    ("raw, value 12", 12, IP4),
    ("IPv4 link type", 228, IP4),
    ("IPv6 link type", 229, IP6),
    ("null, little-endian", 0, b"\x02\0\0\0" + IP4),
    ("null, big-endian IPv6", 0, b"\0\0\0\x1e" + IP6),
    ("loopback", 108, b"\0\0\0\x02" + IP4),
    ("Linux cooked", 113, bytes(14) + b"\x08\x00" + IP4),
    ("Linux cooked v2", 276, b"\x86\xdd" + bytes(18) + IP6),
    ("PPP", 9, b"\xff\x03\x00\x21" + IP4),
    ("PPP without address, short protocol", 9, b"\x21" + IP4),
    ("PPP with direction", 204, b"\x01\xff\x03\x00\x57" + IP6),
    ("Cisco HDLC", 104, b"\x0f\x00\x08\x00" + IP4),
    ("802.11 data", 105, b"\x08\x01" + bytes(22) + b"\xaa\xaa\x03\0\0\0\x08\0" + IP4),
    (
        "802.11 quality of service",
        105,
        b"\x88\x01" + bytes(24) + b"\xaa\xaa\x03\0\0\0\x08\0" + IP4,
    ),
    ("802.11 four addresses", 105, b"\x08\x03" + bytes(28) + b"\xaa\xaa\x03\0\0\0\x08\0" + IP4),
    (
        "radiotap",
        127,
        b"\0\0\x09\0\x02\0\0\0\0" + b"\x08\x01" + bytes(22) + b"\xaa\xaa\x03\0\0\0\x08\0" + IP4,
    ),
    (
        "radiotap with padded header",
        127,
        b"\0\0\x09\0\x02\0\0\0\x20\x88\x01" + bytes(24) + b"\0\0\xaa\xaa\x03\0\0\0\x08\0" + IP4,
    ),
    ("PKTAP", 258, struct.pack("<III", 108, 1, 1) + bytes(96) + SEGMENT),
    (
        "NFLOG",
        239,
        b"\x02\0\0\0" + b"\x08\0\x01\0\0\0\0\0" + struct.pack("<HH", 4 + len(IP4), 9) + IP4,
    ),
    ("IP in IP", 101, ipv4(4, IP4)),
    ("6in4", 101, ipv4(41, IP6)),
    ("GRE", 101, ipv4(47, gre(0x0800, IP4))),
    (
        "GRE with checksum, key and sequence",
        101,
        ipv4(47, gre(0x0800, bytes(12) + IP4, 0xB000)),
    ),
    ("GRE bridging", 101, ipv4(47, gre(0x6558, SEGMENT))),
    (
        "PPTP",
        101,
        ipv4(47, gre(0x880B, struct.pack(">HHI", 40, 1, 2) + b"\xff\x03\x00\x21" + IP4, 0x3001)),
    ),
    ("ERSPAN II", 101, ipv4(47, gre(0x88BE, bytes(4) + bytes(8) + SEGMENT, 0x1000))),
    ("VXLAN", 101, ipv4(17, udp(4789, b"\x08\0\0\0\0\0\x01\0" + SEGMENT))),
    (
        "Geneve with an option",
        101,
        ipv4(17, udp(6081, b"\x01\0\x65\x58\0\0\x01\0" + bytes(4) + SEGMENT)),
    ),
    ("GTP-U", 101, ipv4(17, udp(2152, b"\x30\xff" + struct.pack(">HI", len(IP4), 1) + IP4))),
    (
        "GTP-U with extension header",
        101,
        ipv4(
            17,
            udp(
                2152,
                b"\x34\xff" + struct.pack(">HI", 8 + len(IP4), 1) + b"\0\0\0\x85\x01\0\0\0" + IP4,
            ),
        ),
    ),
    (
        "L2TP with length",
        101,
        ipv4(17, udp(1701, b"\x40\x02" + bytes(6) + b"\xff\x03\x00\x21" + IP4)),
    ),
    (
        "L2TP with offset",
        101,
        ipv4(17, udp(1701, b"\x02\x02" + bytes(4) + b"\0\2\0\0" + b"\x00\x21" + IP4)),
    ),
    (
        "CAPWAP with frame control swapped",
        101,
        ipv4(17, udp(5247, b"\0\x10\x03\0" + bytes(4) + b"\x11\x08" + bytes(22) + SNAP + IP4)),
    ),
    (
        "CAPWAP with an 802.11 frame",
        101,
        ipv4(17, udp(5247, b"\0\x10\x03\0" + bytes(4) + b"\x88\x01" + bytes(24) + SNAP + IP4)),
    ),
    ("CAPWAP with an Ethernet frame", 101, ipv4(17, udp(5247, b"\0\x10\0\0" + bytes(4) + SEGMENT))),
    ("Teredo", 101, ipv4(17, udp(3544, IP6))),
    ("Teredo with origin", 101, ipv4(17, udp(3544, bytes(8) + IP6))),
    ("EtherIP", 101, ipv4(97, b"\x30\0" + SEGMENT)),
    ("IPv4 options", 101, ipv4(6, IP4[20:], options=b"\x01\x01\x01\x00")),
    (
        "IPv6 hop-by-hop and destination options",
        101,
        ipv6(0, b"\x3c\0" + bytes(6) + b"\x06\0" + bytes(6) + IP6[40:]),
    ),
    ("authentication header", 101, ipv4(51, b"\x06\x04" + bytes(22) + IP4[20:])),
    ("first fragment", 101, ipv4(6, IP4[20:], fragment=0x2000)),
    ("E-TAG", 1, bytes(12) + b"\x89\x3f" + bytes(6) + SEGMENT[12:]),
    ("VLAN tag before an E-TAG", 1, bytes(12) + b"\x81\0\0\5\x89\x3f" + bytes(6) + SEGMENT[12:]),
    ("redundancy tag", 1, bytes(12) + b"\xf1\xc1\0\0\0\7" + SEGMENT[12:]),
    ("HSR", 1, bytes(12) + b"\x89\x2f\0\x34\0\7" + SEGMENT[12:]),
    ("Cisco metadata", 1, bytes(12) + b"\x89\x09\1\1\0\1\0\7" + SEGMENT[12:]),
    ("backbone bridging", 1, bytes(12) + b"\x88\xa8\0\5\x88\xe7\xff\0\0\7" + SEGMENT),
    ("TRILL with an option", 1, bytes(12) + b"\x22\xf3\0\x7f\0\1\0\2" + bytes(4) + SEGMENT),
    (
        "MACsec, authenticated alone",
        1,
        bytes(12) + b"\x88\xe5\0" + bytes(5) + SEGMENT[12:] + bytes(16),
    ),
    (
        "MACsec with a channel",
        1,
        bytes(12) + b"\x88\xe5\x20" + bytes(13) + SEGMENT[12:] + bytes(16),
    ),
    ("LLC behind the EtherType of jumbo frames", 1, ether(0x8870, SNAP + IP4)),
    ("service chain", 1, ether(0x894F, b"\x0f\xc2\1\1" + bytes(4) + IP4)),
    ("PPP bridging", 9, b"\xff\x03\0\x31\0\1" + SEGMENT),
    *(
        (
            f"pseudowire without control word, address {first:02x}",
            1,
            mpls(bytes([first]) + SEGMENT[1:]),
        )
        for first in (0x00, 0x02, 0x12, 0x45, 0x46, 0x4F, 0x60, 0x65, 0xA2)
    ),
    ("pseudowire with a tagged frame", 1, mpls(bytes(12) + b"\x81\0\0\5" + SEGMENT[12:])),
    ("pseudowire, control word in use", 1, mpls(b"\0\0\1\2" + b"\x46" + SEGMENT[1:])),
    ("IPv6 behind MPLS", 1, mpls(IP6)),
    ("IPv4 explicit null", 1, ether(0x8847, b"\0\0\1\x40" + IP4)),
    ("VXLAN with reserved bits", 101, vxlan(b"\x4a\1\2\3\0\0\1\xff", SEGMENT)),
    ("VXLAN with a group policy", 101, vxlan(b"\x88\0\0\x2a\0\0\1\0", SEGMENT)),
    ("VXLAN on Linux' first port", 101, vxlan(b"\x08\0\0\0\0\0\1\0", SEGMENT, port=8472)),
    ("VXLAN-GPE with IPv4", 101, vxlan(b"\x0c\0\0\1\0\0\1\0", IP4, port=4790)),
    ("VXLAN-GPE with IPv6", 101, vxlan(b"\x0c\0\0\2\0\0\1\0", IP6, port=4790)),
    ("VXLAN-GPE with Ethernet", 101, vxlan(b"\x0c\0\0\3\0\0\1\0", SEGMENT, port=4790)),
    (
        "VXLAN-GPE with a service chain",
        101,
        vxlan(b"\x0c\0\0\4\0\0\1\0", b"\x0f\xc2\1\3" + bytes(4) + SEGMENT, port=4790),
    ),
    ("Geneve with reserved bits", 101, ipv4(17, udp(6081, b"\0\x3f\x65\x58\0\0\1\xff" + SEGMENT))),
    ("NVGRE", 101, ipv4(47, gre(0x6558, b"\0\0\1\0" + SEGMENT, 0x2000))),
    ("GRE with reserved bits", 101, ipv4(47, gre(0x0800, IP4, 0x00F8))),
    ("GRE in UDP", 101, ipv4(17, udp(4754, gre(0x0800, IP4)))),
    ("MPLS in UDP", 101, ipv4(17, udp(6635, b"\0\1\1\x40" + IP4))),
    ("LISP", 101, ipv4(17, udp(4341, b"\xc0" + bytes(7) + IP4))),
    ("L2TP of version 3 with a cookie", 101, ipv4(115, b"\0\0\0\1" + bytes(8) + SEGMENT)),
    ("L2TP of version 3 in UDP", 101, ipv4(17, udp(1701, b"\0\3\0\0\0\0\0\1" + SEGMENT))),
    ("TZSP", 101, ipv4(17, udp(37008, b"\1\0\0\1\x0a\1\xc8\0\1" + SEGMENT))),
    (
        "TZSP with 802.11",
        101,
        ipv4(17, udp(37008, b"\1\0\0\x12\1\x08\x01" + bytes(22) + SNAP + IP4)),
    ),
    (
        "CAPWAP with an aggregate of one",
        101,
        ipv4(
            17,
            udp(5247, b"\0\x10\3\0" + bytes(4) + b"\x88\1" + bytes(22) + b"\x80\0" + amsdu(IP4)),
        ),
    ),
]
"""Name, link type and a frame in which the TCP segment is found."""


@pytest.mark.parametrize(
    ("name", "link_type", "frame"),
    WITH_SEGMENT,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_payload_is_found_behind(name, link_type, frame):
    assert payload_of(frame, link_type) == b"hello"


WITHOUT_SEGMENT = [
    ("unknown link type", 147, IP4, Status.UNKNOWN_LINK_TYPE),
    ("ARP", 1, ether(0x0806, bytes(28)), Status.NOT_IP),
    ("spanning tree", 1, ether(38, b"\x42\x42\x03" + bytes(35)), Status.NOT_IP),
    ("beacon", 105, b"\x80\x00" + bytes(30), Status.NOT_DATA),
    ("null data", 105, b"\x48\x01" + bytes(22), Status.NOT_DATA),
    ("encrypted 802.11", 105, b"\x08\x41" + bytes(60), Status.ENCRYPTED_LINK),
    ("ICMP", 101, ipv4(1, b"\x08\0" + bytes(6)), Status.OTHER_PROTOCOL),
    (
        "TCP inside an ICMP error",
        101,
        ipv4(1, b"\x03\x01" + bytes(6) + IP4),
        Status.OTHER_PROTOCOL,
    ),
    ("later fragment", 101, ipv4(6, IP4[20:], fragment=2), Status.FRAGMENT),
    ("later IPv6 fragment", 101, ipv6(44, b"\x06\0\0\x10\0\0\0\1" + IP6[40:]), Status.FRAGMENT),
    ("IP version 5", 101, b"\x55" + IP4[1:], Status.BAD_IP),
    ("IP header of 16 bytes", 101, b"\x44" + IP4[1:], Status.BAD_IP),
    ("total length below the header", 101, ipv4(6, IP4[20:], total=19), Status.BAD_IP),
    (
        "TCP header of 16 bytes",
        101,
        ipv4(6, IP4[20:32] + b"\x40" + IP4[33:]),
        Status.BAD_TRANSPORT,
    ),
    (
        "TCP header beyond the packet",
        101,
        ipv4(6, IP4[20:32] + b"\xf0" + IP4[33:]),
        Status.BAD_TRANSPORT,
    ),
    ("UDP length below 8", 101, ipv4(17, b"\0\1\0\2\0\7\0\0"), Status.BAD_TRANSPORT),
    ("cut in the IP header", 101, IP4[:19], Status.CUT_IN_HEADERS),
    ("cut in the TCP header", 1, SEGMENT[:50], Status.CUT_IN_HEADERS),
    ("empty frame", 1, b"", Status.CUT_IN_HEADERS),
    ("encrypted MACsec", 1, bytes(12) + b"\x88\xe5\x0c" + bytes(60), Status.ENCRYPTED_LINK),
    ("pseudowire's own channel", 1, mpls(b"\x10\0\0\x21" + bytes(40)), Status.NOT_IP),
    ("backbone tag cut", 1, bytes(12) + b"\x88\xe7\0", Status.CUT_IN_HEADERS),
    ("E-TAG cut", 1, bytes(12) + b"\x89\x3f\0\0\0\0\0\0\x08", Status.CUT_IN_HEADERS),
    (
        "five tunnels",
        101,
        ipv4(4, ipv4(4, ipv4(4, ipv4(4, ipv4(4, IP4))))),
        Status.TOO_DEEP,
    ),
]
"""Name, link type, a frame without a TCP segment, and why there is none."""


@pytest.mark.parametrize(
    ("name", "link_type", "frame", "status"),
    WITHOUT_SEGMENT,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_why_there_is_no_segment(name, link_type, frame, status):
    row, _ = decode_one(frame, link_type, wire=max(len(frame), 60))
    assert Status(row["status"]) is status


def test_payload_ends_at_the_ip_total_length_not_with_the_frame():
    row, _ = decode_one(SEGMENT + b"padding and a trailer that names the app")
    assert (row["payload"], row["payload_captured"]) == (5, 5)


def test_total_length_zero_is_offload_and_the_frame_counts():
    frame = ether(0x0800, ipv4(6, IP4[20:40] + bytes(9000), total=0))
    row, _ = decode_one(frame)
    assert row["payload"] == 9000


def test_a_snap_length_cut_leaves_the_wire_length():
    row, _ = decode_one(SEGMENT[:56], wire=len(SEGMENT))
    assert (row["payload"], row["payload_captured"]) == (5, 2)


def test_udp_length_ends_the_payload():
    frame = udp_frame(CLIENT, SERVER, b"answer")
    row, _ = decode_one(frame[:38] + struct.pack(">H", 8 + 3) + frame[40:])
    assert (row["payload"], row["protocol"]) == (3, 17)


def test_closed_tunnels_show_the_outer_packet():
    frame = ipv4(17, udp(4789, b"\x08\0\0\0\0\0\x01\0" + SEGMENT))
    headers = decode(batch_of([frame], 101), max_tunnels=0)
    assert (headers.rows[0]["target_port"], headers.rows[0]["tunnels"]) == (4789, 0)


@pytest.mark.parametrize(
    ("port", "header", "body"),
    [
        (4789, b"\0\0\0\0\0\0\1\0", SEGMENT),  # no network number: not VXLAN
        (4789, b"\x08\0\0\0\0\0\1\7", bytes(60)),
        (8472, b"\x08\0\0\0\0\0\1\0", bytes(60)),
        (4790, b"\x0c\0\0\1\0\0\1\0", bytes(60)),
        (4754, b"\0\7\x08\0", IP4),
        (6635, b"\0\1\1\x40", bytes(60)),
        (4341, bytes(8), bytes(60)),
        (1701, b"\0\3\0\0\0\0\0\1", bytes(60)),
        (37008, b"\2\0\0\1\1", SEGMENT),
    ],
)
def test_a_port_alone_is_no_tunnel(port, header, body):
    row, _ = decode_one(ipv4(17, udp(port, header + body)), 101)
    assert (Status(row["status"]), row["target_port"], row["tunnels"]) == (Status.OK, port, 0)


def payloads_of(frame, link_type=1):
    headers = decode(batch_of([SEGMENT, frame, SEGMENT], link_type))
    assert headers.rows["is_further"].tolist()[0] == headers.rows["is_further"].tolist()[-1] == 0
    found = []
    for row in headers.rows[1:-1]:
        start = int(row["payload_at"])
        assert Status(row["status"]) is Status.OK
        found.append(headers.buffer[start : start + int(row["payload_captured"])].tobytes())
    return found, headers.rows[1:-1]


SAID = [b"one", b"second", b"", b"the fourth"]
SAID_PACKETS = [tcp_frame(CLIENT, SERVER, each)[14:] for each in SAID]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_packet_of_an_aggregate_has_a_row(n):
    frame = b"\x88\x01" + bytes(22) + b"\x80\0" + amsdu(*SAID_PACKETS[:n])
    found, rows = payloads_of(frame, 105)
    assert found == SAID[:n]
    assert rows["is_further"].tolist() == [0] + [1] * (n - 1)
    assert rows["time_ns"].tolist() == [START_NS] * n


def test_a_check_sequence_behind_an_aggregate_is_no_packet():
    frame = b"\x88\x01" + bytes(22) + b"\x80\0" + amsdu(*SAID_PACKETS) + b"\1\2\3\4"
    assert payloads_of(frame, 105)[0] == SAID


def test_an_aggregate_bit_before_a_snap_header_is_wrong():
    """The sign of a forged aggregate (CVE-2020-24588)."""
    frame = b"\x88\x01" + bytes(22) + b"\x80\0" + SNAP + IP4
    assert payload_of(frame, 105) == b"hello"


def test_an_aggregate_in_a_tunnel_is_opened_whole():
    frame = b"\0\x10\3\0" + bytes(4) + b"\x88\1" + bytes(22) + b"\x80\0" + amsdu(*SAID_PACKETS)
    found, rows = payloads_of(ether(0x0800, ipv4(17, udp(5247, frame))))
    assert found == SAID
    assert rows["tunnels"].tolist() == [1, 0, 0, 0]


def test_rows_are_found_for_many_aggregates():
    """More packets than frames: the decoder's room grows while it works."""
    frame = b"\x88\x01" + bytes(22) + b"\x80\0" + amsdu(*SAID_PACKETS * 10)
    rows = decode(batch_of([frame] * 50, 105)).rows
    assert len(rows) == 50 * 40
    assert set(rows["status"].tolist()) == {int(Status.OK)}
    assert rows["is_further"].sum() == 50 * 39


FUZZ = """
import numpy as np
from tests.packets.test_decode import batch_of, SEGMENT, IP4, IP6, ipv4, udp, gre, ether, amsdu, mpls
from apptell.packets import decode
from apptell.packets.layers.registry import LAYER_OF_LINK
rng = np.random.default_rng(7)
seeds = [SEGMENT, IP4, IP6, ipv4(47, gre(0x6558, SEGMENT)),
         ipv4(17, udp(4789, b"\\x08" + bytes(7) + SEGMENT)),
         ipv4(17, udp(2152, b"\\x34\\xff" + bytes(10) + IP4)),
         ipv4(17, udp(1701, b"\\xff\\x02" + bytes(12) + IP4)),
         ipv4(17, udp(6081, bytes(2) + b"\\x65\\x58" + bytes(8) + SEGMENT)), ipv4(17, udp(3544, IP6)),
         b"\\x88\\x01" + bytes(22) + b"\\x80\\0" + amsdu(IP4, IP6, IP4),
         mpls(SEGMENT), mpls(bytes(4) + SEGMENT),
         ipv4(17, udp(4790, b"\\x0c\\0\\0\\1" + bytes(4) + IP4)), ipv4(115, bytes(12) + SEGMENT),
         ipv4(17, udp(37008, b"\\1\\0\\0\\x12\\1" + SEGMENT)), ipv4(17, udp(6635, b"\\0\\1\\1\\x40" + IP4)),
         ether(0x8847, bytes(12) + IP4), ether(0x8864, b"\\x11" + bytes(5) + b"\\0\\x21" + IP4)]
for round in range(60):
    frames, wires = [], []
    for seed in seeds * 4:
        frame = bytearray(seed)
        for _ in range(rng.integers(0, 6)):
            frame[rng.integers(0, len(frame))] = rng.choice([0, 255, 127, 128, rng.integers(0, 256)])
        frame = bytes(frame[: rng.integers(0, len(frame) + 1)])
        frames.append(frame)
        wires.append(len(frame) + int(rng.integers(0, 40)))
    for link_type in [*np.flatnonzero(LAYER_OF_LINK).tolist(), 147, 65535]:
        rows = decode(batch_of(frames, link_type, wires)).rows
        good = rows["status"] == 0
        size = sum(map(len, frames))
        inside = (rows["payload_at"] >= 0) & (rows["payload_at"] + rows["payload_captured"] <= size)
        assert (inside | ~good).all()
        assert (rows["payload_captured"][good] <= rows["payload"][good]).all()
        assert (rows["payload"][good] >= 0).all()
print("inside")
"""


def test_spoiled_frames_are_never_read_out_of_bounds(bounds_checked):
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        **bounds_checked,
        "PYTHONPATH": os.pathsep.join([root, f"{root}/src"]),
    }
    run = subprocess.run(
        [sys.executable, "-c", FUZZ],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "inside", run.stderr
