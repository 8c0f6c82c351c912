"""Flows of a capture as they were while they were young."""

import pytest

from apptell.capture import open_capture
from apptell.errors import CaptureError
from apptell.flows import FlowOptions, FlowReader
from apptell.flows.early import read_early
from apptell.testing import app_capture, write_pcap
from tests.flows.test_live_decisions import talk


def test_each_flow_is_there_after_each_payload_packet_as_it_was(tmp_path):
    path = write_pcap(tmp_path / "a.pcap", app_capture(["signal", "zoom"], 3))
    young, ended = read_early(path)
    assert sorted(young) == [1, 2, 3, 4]
    by_key = {(flow.connection_id, flow.part): flow for flow in ended}
    for n, flows in young.items():
        assert len(flows) == 6
        for flow in flows:
            whole = by_key[flow.connection_id, flow.part]
            assert flow.segment_length == whole.segment_length[:n]
            assert flow.segment_bytes == whole.segment_bytes[:n]
            assert flow.packets_to_server + flow.packets_to_client >= n
            assert flow.end_ns == whole.segment_time_ns[n - 1]


def test_the_flows_at_the_end_are_those_of_the_file(tmp_path):
    path = write_pcap(tmp_path / "a.pcap", app_capture(["signal", "zoom"], 3))
    _, ended = read_early(path)
    whole = FlowReader(open_capture(path), FlowOptions()).to_flows()
    assert ended.to_arrow().equals(whole.to_arrow())


def test_a_short_flow_is_there_as_often_as_it_had_payload(tmp_path):
    young, ended = read_early(write_pcap(tmp_path / "a.pcap", talk(2)))
    assert [len(flows) for flows in young.values()] == [1, 1, 0, 0]
    assert len(ended) == 1


def test_a_damaged_capture_is_refused(tmp_path):
    path = write_pcap(tmp_path / "a.pcap", talk(2))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CaptureError):
        read_early(path)
