import io
import struct

from lab.ownership import Ledger, parse_log, records

from lab import pcap

CLIENT, SERVER = ("10.0.0.2", 40_000), ("192.0.2.9", 443)


def ip_tcp(source, target, flags, sequence=1):
    tcp = struct.pack(">HHIIBBHHH", source[1], target[1], sequence, 0, 5 << 4, flags, 1_000, 0, 0)
    addresses = bytes(map(int, source[0].split("."))) + bytes(map(int, target[0].split(".")))
    return struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + addresses + tcp


def attribute(kind, value):
    return struct.pack("<HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def log(packet, uid=10_107):
    owner = b"" if uid is None else attribute(11, struct.pack(">I", uid))
    return b"\x02\x00\x00\x05" + attribute(10, b"a\x00") + owner + attribute(9, packet)


def test_a_record_holds_the_owner_and_the_packet_among_other_attributes():
    assert parse_log(log(b"packet!")) == (10_107, b"packet!")
    assert parse_log(log(b"packet!", uid=None)) == (-1, b"packet!")
    assert parse_log(b"\x02\x00\x00\x05\x00\x00\x09\x00abcd") == (-1, b"")


def test_a_stream_cut_in_its_header_or_a_record_head_ends_quietly():
    header = bytes(24)
    whole = struct.pack("<IIII", 3, 5, 2, 2) + b"xy"
    assert list(records(io.BytesIO(header + whole + whole[:9]))) == [(3_000_005_000, b"xy")]
    assert list(records(io.BytesIO(header[:20]))) == []


def test_a_connection_lasts_from_its_syn_to_the_last_closing_packet_of_either_side():
    ledger = Ledger()
    ledger.note(1_000, log(ip_tcp(CLIENT, SERVER, pcap.SYN)))
    ledger.note(2_000, log(ip_tcp(CLIENT, SERVER, pcap.SYN)))  # sent again, not opened again
    ledger.note(8_000, log(ip_tcp(SERVER, CLIENT, pcap.FIN | pcap.ACK), uid=None))
    (owned,) = ledger.owned
    assert (owned.local, owned.local_port, owned.remote, owned.remote_port) == (*CLIENT, *SERVER)
    assert (owned.uid, owned.first_ns, owned.last_ns) == (10_107, 1_000, 8_000)
    assert ledger.counts == {10_107: 1}


def test_ports_used_again_by_another_app_are_another_connection():
    ledger = Ledger()
    ledger.note(1_000, log(ip_tcp(CLIENT, SERVER, pcap.SYN, sequence=5), uid=10_100))
    ledger.note(9_000, log(ip_tcp(CLIENT, SERVER, pcap.SYN, sequence=6), uid=10_101))
    assert [owned.uid for owned in ledger.owned] == [10_100, 10_101]


def test_what_stays_on_the_device_is_not_its_traffic():
    ledger = Ledger()
    ledger.note(1_000, log(ip_tcp(("127.0.0.1", 1), ("127.0.0.1", 2), pcap.SYN)))
    assert ledger.owned == []
