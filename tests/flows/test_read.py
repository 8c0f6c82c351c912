from __future__ import annotations

import io

import pytest

from apptell.errors import CaptureError
from apptell.flows import FlowOptions
from apptell.names import read_flows
from apptell.testing import START_NS, conversation, pcap_bytes, udp_frame, write_pcap
from tests.packets.test_decode import IP4
from tests.packets.test_reassembly import fragments4

PHONE, SERVER = ("10.0.0.2", 40000), ("192.0.2.7", 443)
TALK = [(True, b"ask"), (False, b"answer")]


def fragments():
    """A TCP segment of 24 payload bytes cut into fragments, in Ethernet frames."""
    whole = IP4[20:] + b" and a longer text"
    return [
        (START_NS + i, bytes(12) + b"\x08\0" + frame) for i, frame in enumerate(fragments4(whole))
    ]


def test_fragments_become_one_payload_packet_when_clean():
    reader = read_flows(io.BytesIO(pcap_bytes(fragments())))
    (flow,) = reader.to_flows()
    assert flow.segment_bytes == [b"hello and a longer text"]
    assert (reader.stats.reassembled, reader.stats.fragments) == (1, len(fragments()))


def test_the_papers_reading_knows_no_fragments():
    packets = [
        (START_NS, bytes(12) + b"\x08\0" + frame) for frame in fragments4(IP4[20:] + bytes(99), 40)
    ]
    reader = read_flows(io.BytesIO(pcap_bytes(packets)), FlowOptions(mode="paper"))
    (flow,) = reader.to_flows()
    assert flow.segment_length == [20]
    assert reader.stats.status["fragment"] == len(packets) - 1


def test_a_flow_that_crosses_files_is_one_flow(tmp_path):
    packets = conversation(PHONE, SERVER, TALK)
    write_pcap(tmp_path / "b.pcap", packets[:4])
    write_pcap(tmp_path / "a.pcap", packets[4:])
    reader = read_flows(tmp_path)
    (flow,) = reader.to_flows()
    assert flow.segment_bytes == [b"ask", b"answer"]
    assert flow.capture.endswith("b.pcap")


def test_every_packet_is_accounted_for():
    packets = [
        *conversation(PHONE, SERVER, TALK),
        (START_NS, udp_frame(PHONE, SERVER, b"x")),
        (START_NS, bytes(12) + b"\x08\x06" + bytes(28)),
        *fragments()[:2],
    ]
    reader = read_flows(io.BytesIO(pcap_bytes(packets)))
    reader.to_flows()
    stats = reader.stats
    assert stats.packets == len(packets)
    not_ok = sum(n for name, n in stats.status.items() if name != "ok")
    assert stats.in_flows + stats.not_asked + not_ok == len(packets)


def test_a_cut_capture_gives_what_precedes_the_cut():
    data = pcap_bytes(conversation(PHONE, SERVER, TALK))[:-10]
    reader = iter(read_flows(io.BytesIO(data)))
    assert next(reader)[0].segment_bytes == [b"ask", b"answer"]
    with pytest.raises(CaptureError, match="cut short"):
        next(reader)


def test_column_groups_are_what_was_asked_for():
    data = pcap_bytes(conversation(PHONE, SERVER, TALK))
    lean = read_flows(io.BytesIO(data), FlowOptions(groups=("core",))).to_flows()
    assert "segment_bytes" not in lean.columns
    full = read_flows(io.BytesIO(data), FlowOptions(groups=("core", "audit"))).to_flows()
    assert (full[0].client_ttl, full[0].client_sequence) == (64, 1000)
