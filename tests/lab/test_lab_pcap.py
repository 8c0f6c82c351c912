import io
import struct

import pytest

from lab import pcap

CLIENT, SERVER = ("10.0.0.2", 40_000), ("192.0.2.9", 443)


def ip_tcp(source, target, flags, payload=b"", sequence=1):
    tcp = (
        struct.pack(">HHIIBBHHH", source[1], target[1], sequence, 0, 5 << 4, flags, 1_000, 0, 0)
        + payload
    )
    addresses = bytes(map(int, source[0].split("."))) + bytes(map(int, target[0].split(".")))
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + addresses + tcp


def packet(time_ns, source, target, flags, payload=b"", sequence=1):
    data = ip_tcp(source, target, flags, payload, sequence)
    decoded = pcap.decode(time_ns, data, len(data), pcap.RAW)
    assert decoded is not None
    return decoded


def conversation(n_payload, sequence=1):
    yield packet(0, CLIENT, SERVER, pcap.SYN, sequence=sequence)
    yield packet(1, SERVER, CLIENT, pcap.SYN | pcap.ACK)
    yield packet(2, CLIENT, SERVER, pcap.ACK)
    for n in range(n_payload):
        yield packet(3 + n, CLIENT, SERVER, pcap.ACK, bytes([n]) * 10)
        yield packet(3 + n, SERVER, CLIENT, pcap.ACK)
    yield packet(90, CLIENT, SERVER, pcap.FIN | pcap.ACK)
    yield packet(91, SERVER, CLIENT, pcap.FIN | pcap.ACK)


def test_the_payload_ends_at_the_ip_length_though_the_frame_is_padded():
    data = bytes(12) + b"\x08\x00" + ip_tcp(CLIENT, SERVER, pcap.ACK, b"abc") + bytes(3)
    decoded = pcap.decode(0, data, len(data), pcap.ETHERNET)
    assert decoded.payload_bytes == 3
    assert data[decoded.payload_at :][:3] == b"abc"
    assert decoded.key == (*CLIENT, *SERVER)


def test_what_is_cut_or_is_not_tcp_is_no_packet():
    whole = ip_tcp(CLIENT, SERVER, pcap.ACK, b"abc")
    for length in range(40):
        assert pcap.decode(0, whole[:length], 43, pcap.RAW) is None
    assert pcap.decode(0, whole[:9] + b"\x11" + whole[10:], 43, pcap.RAW) is None
    assert pcap.decode(0, bytes(12) + b"\x08\x06" + whole, 57, pcap.ETHERNET) is None


def test_a_flow_s_head_is_handshake_first_payloads_and_one_fin():
    ((key, use),) = (heads := pcap.flow_heads(conversation(12), 8)).keys()
    head = heads[key, use]
    assert (key, use) == ((*CLIENT, *SERVER), 0)
    assert [p.flags for p in head[:3]] == [pcap.SYN, pcap.SYN | pcap.ACK, pcap.ACK]
    assert [p.data[-1] for p in head[3:11]] == list(range(8))
    assert [p.flags & pcap.FIN for p in head[11:]] == [pcap.FIN]


def test_ports_used_again_are_another_flow_but_a_repeated_syn_is_not():
    repeated = [packet(0, CLIENT, SERVER, pcap.SYN, sequence=5), *conversation(2, sequence=5)]
    assert list(pcap.flow_heads(repeated, 8)) == [((*CLIENT, *SERVER), 0)]
    twice = [*conversation(2, sequence=5), *conversation(3, sequence=6)]
    heads = pcap.flow_heads(twice, 8)
    assert [sum(p.payload_bytes > 0 for p in head) for head in heads.values()] == [2, 3]


def test_a_flow_that_began_before_the_capture_is_left_out():
    assert pcap.flow_heads(list(conversation(3))[3:], 8) == {}


def test_totals_count_both_directions_on_the_wire():
    sent, received, n_sent, n_received = pcap.totals(conversation(3))[*CLIENT, *SERVER]
    assert (n_sent, n_received) == (1 + 1 + 3 + 1, 1 + 3 + 1)
    assert (sent, received) == (6 * 40 + 30, 5 * 40)


def test_written_packets_read_back_with_cut_payload_and_true_length(tmp_path):
    long = packet(1_500_000_000_000_001_000, CLIENT, SERVER, pcap.ACK, b"y" * 4_000)
    sink = io.BytesIO()
    assert pcap.write(sink, pcap.RAW, [long]) == 1
    (tmp_path / "a.pcap").write_bytes(sink.getvalue() + b"\x00" * 7)
    link, packets = pcap.read(tmp_path / "a.pcap")
    (back,) = packets
    assert link == pcap.RAW
    assert (back.time_ns, back.wire, len(back.data)) == (long.time_ns, 4_040, 1_540)
    assert back.payload_bytes == 4_000


def test_another_file_is_refused_by_name(tmp_path):
    (tmp_path / "b.pcap").write_bytes(b"\x0a\x0d\x0d\x0a" + bytes(40))
    with pytest.raises(ValueError, match=r"b\.pcap: not a little-endian classic pcap"):
        pcap.read(tmp_path / "b.pcap")
