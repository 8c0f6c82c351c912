"""A flood of new connections through the live pipeline: bounded, counted, and whole flows still decided."""

import threading
from dataclasses import replace

from apptell.models import load_model
from apptell.records.values import event_rows
from apptell.service import LiveOptions, LivePipeline, QueuedOutput, ReplaySource
from apptell.service.metrics import Metrics
from apptell.testing import START_NS, app_capture, tcp_frame, write_pcap

SYN = 0x02
N = 5_000
ROOM = 512


class Kept:
    """An output that keeps its records."""

    def __init__(self):
        self.extra = {}
        self.rows = []

    def write(self, batch):
        self.rows += event_rows(batch)

    def tick(self):
        pass

    def close(self):
        pass


def test_syns_of_more_tuples_than_there_is_room_for_end_old_ones_and_are_counted(tmp_path):
    whole = app_capture(["signal", "zoom"], 5)
    server = ("203.0.113.9", 443)
    syns = [
        (
            START_NS + i * 10**6,
            tcp_frame((f"10.{i // 250}.{i % 250}.7", 1024 + i), server, flags=SYN),
        )
        for i in range(N)
    ]
    path = write_pcap(
        tmp_path / "flood.pcap", sorted([*whole, *syns], key=lambda packet: packet[0])
    )
    kept, metrics, options = Kept(), Metrics(), LiveOptions()
    options = replace(options, flows=replace(options.flows, max_flows=ROOM))
    pipeline = LivePipeline(
        [ReplaySource(path)], load_model(), [QueuedOutput("kept", kept)], options, metrics
    )
    pipeline.run(threading.Event())
    assert metrics.packets == len(whole) + N
    assert metrics.evicted > N - 2 * ROOM
    assert metrics.flows == N + 10
    assert {row["event"] for row in kept.rows} == {"verdict", "end"}
    decided = [row for row in kept.rows if row["event"] == "verdict"]
    assert len(decided) == 10, "SYNs alone are no flows to decide"
