import io
import struct
import zlib

import pytest
from lab.ownership import Owned

from lab import pcapdroid

PACKET_V4 = (
    bytes.fromhex(
        "45000029000040004006000001020304050607080001000200000000000000005010000000000000"
    )
    + b"x"
)


def test_a_frame_is_header_packet_padding_and_trailer_byte_for_byte():
    data = pcapdroid.frame(PACKET_V4, 10_123, "chat")
    assert len(PACKET_V4) == 41
    assert data[:14] == bytes(12) + b"\x08\x00"
    assert data[14:55] == PACKET_V4
    assert data[55:56] == b"\x00"  # 14 + 41 + 1 is a multiple of four
    assert data[56:60] == b"\x01\x07\x20\x21"
    assert data[60:64] == b"\x00\x00\x27\x8b"
    assert data[64:84] == b"chat" + bytes(16)
    assert data[84:] == struct.pack("<I", zlib.crc32(data[:84]))
    assert len(data) == 88


@pytest.mark.parametrize("n_more", range(4))
def test_the_trailer_begins_at_a_multiple_of_four(n_more):
    data = pcapdroid.frame(PACKET_V4 + bytes(n_more), 0, "a")
    assert (len(data) - 32) % 4 == 0
    assert data[-32:-28] == b"\x01\x07\x20\x21"
    assert len(data) - 32 - 14 - 41 - n_more in range(4)


def test_a_long_name_is_cut_to_19_bytes_even_inside_a_character():
    field = pcapdroid.frame(PACKET_V4, -1, "aaaaaaaaaaaaaaaaaaé")[-24:-4]
    assert field == b"a" * 18 + b"\xc3\x00"


def test_an_unknown_owner_is_minus_one_and_ipv6_has_its_own_type():
    data = pcapdroid.frame(b"\x60" + bytes(47), -1, "")
    assert data[12:14] == b"\x86\xdd"
    assert data[-28:-24] == b"\xff\xff\xff\xff"


def test_a_capture_has_a_little_endian_microsecond_header_and_whole_records():
    sink = io.BytesIO()
    n_packets = pcapdroid.write_pcap(sink, [(1_700_000_000_123_456_789, PACKET_V4, 10_123, "chat")])
    data = sink.getvalue()
    assert n_packets == 1
    assert data[:24] == bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    assert struct.unpack_from("<IIII", data, 24) == (1_700_000_000, 123_456, 88, 88)
    assert data[40:] == pcapdroid.frame(PACKET_V4, 10_123, "chat")


def test_a_connection_is_one_unquoted_line_of_the_header_s_fields():
    owned = Owned(
        6,
        "10.1.2.3",
        40_000,
        "192.0.2.9",
        443,
        10_100,
        1_700_000_000_007_000_000,
        1_700_000_001_250_000_000,
    )
    line = pcapdroid.csv_line(owned, "xmpp", "test.lab.xmpp", (10, 20, 3, 4))
    assert line == (
        "6,10.1.2.3,40000,192.0.2.9,443,10100,xmpp,test.lab.xmpp,TLS,Closed,,10,20,3,4,"
        "2023-11-14T22:13:20.007Z,2023-11-14T22:13:21.250Z"
    )
    assert len(line.split(",")) == len(pcapdroid.HEADER.split(","))


def test_only_connections_of_known_owners_are_written(tmp_path):
    known = Owned(6, "10.1.2.3", 1, "192.0.2.9", 443, 10_100, 0, 0)
    stranger = Owned(6, "10.1.2.3", 2, "192.0.2.9", 443, 0, 0, 0)
    totals = {("10.1.2.3", 1, "192.0.2.9", 443): (7, 8, 1, 2)}
    pcapdroid.write_csv(
        tmp_path / "c.csv", [known, stranger], {10_100: ("irc", "test.lab.irc")}, totals
    )
    header, *lines = (tmp_path / "c.csv").read_text().splitlines()
    assert header == pcapdroid.HEADER
    assert len(lines) == 1
    assert lines[0].startswith(
        "6,10.1.2.3,1,192.0.2.9,443,10100,irc,test.lab.irc,TLS,Closed,,7,8,1,2,1970-"
    )
