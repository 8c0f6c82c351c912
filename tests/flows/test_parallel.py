from __future__ import annotations

import pytest

from apptell.errors import CaptureError, UsageError
from apptell.flows import FlowOptions, FlowStats
from apptell.flows.parallel import read_flows_in_parallel
from apptell.names import read_flows
from apptell.testing import pcap_bytes
from tests.flows.test_flow_table import frames_of, random_packets


def rows(batches):
    return sorted(
        (row for batch in batches for row in batch.to_arrow().to_pylist()),
        key=lambda row: (
            row["start_ns"],
            row["client_address"],
            row["client_port"],
            row["part"],
            row["end_ns"],
        ),
    )


def test_the_flows_do_not_depend_on_the_number_of_processes(tmp_path):
    path = tmp_path / "random.pcap"
    path.write_bytes(pcap_bytes(frames_of(random_packets(5))))
    one = read_flows(path)
    expected = rows(one)
    stats = FlowStats()
    assert rows(read_flows_in_parallel(path, FlowOptions(), 3, stats)) == expected
    assert (stats.packets, stats.in_flows, stats.flows) == (
        one.stats.packets,
        one.stats.in_flows,
        one.stats.flows,
    )


def test_a_damaged_capture_gives_its_flows_and_then_the_error(tmp_path):
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap_bytes(frames_of(random_packets(5)))[:-7])
    batches = read_flows(path, jobs=2)
    n_flows = 0

    def read():
        nonlocal n_flows
        for batch in batches:
            n_flows += len(batch)

    with pytest.raises(CaptureError, match=r"cut\.pcap"):
        read()
    assert n_flows > 0


def test_a_stream_cannot_be_shared():
    with pytest.raises(UsageError, match="several jobs can read only files and folders"):
        read_flows("-", jobs=2)
