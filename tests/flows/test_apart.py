"""Reading with several jobs: the same flows in the same order, the same counters, the same errors."""

from __future__ import annotations

import io
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from apptell.capture import open_capture
from apptell.errors import CaptureError, UsageError
from apptell.flows import FlowOptions, FlowReader
from apptell.flows.apart import CAN_FORK, Apart
from apptell.flows.schema import GROUPS
from apptell.flows.stages import Finished, Looked
from apptell.names import read_flows
from apptell.testing import app_capture, pcap_bytes, udp_frame, write_pcap
from tests.flows.test_cuts import CAPTURES, EVERYTHING, PARTS
from tests.flows.test_flow_table import frames_of, random_packets
from tests.packets.test_reassembly import TCP4, fragments4

JOBS = (2, 3, 8)
SECOND = 10**9


def read(source, options, jobs, **more):
    """Rows of all flows in their order, the counters, and what was raised."""
    found, error = [], None
    reader = read_flows(source, options, jobs=jobs, **more)
    try:
        for batch in reader:
            found += batch.to_arrow().to_pylist()
    except CaptureError as raised:
        error = str(raised)
    return found, reader.stats.to_dict(), error


def same_for_any_jobs(source, options=EVERYTHING):
    expected = read(source, options, 1)
    for jobs in JOBS:
        assert read(source, options, jobs) == expected, f"{jobs} jobs"
    return expected


def large(n_packets, *, late=False):
    """Packets of many UDP flows over several blocks of a file, each flow over several of them."""
    rng = random.Random(7)
    packets = []
    for number in range(n_packets):
        time_ns = number * SECOND // 100 + (200 * SECOND if late and number % 7 == 0 else 0)
        port = 20000 + number % 500
        payload = rng.randbytes(900)
        packets.append((time_ns, udp_frame(("10.0.0.2", port), ("192.0.2.7", 4433), payload)))
    return packets


def test_a_capture_of_several_blocks_gives_the_same(tmp_path):
    path = write_pcap(tmp_path / "large.pcap", large(14000))
    assert path.stat().st_size > 3 * (4 << 20)
    flows, stats, error = same_for_any_jobs(path)
    assert (len(flows), stats["in_flows"], error) == (500, 14000, None)
    assert max(len(flow["segment_bytes"]) for flow in flows) > 1


@pytest.mark.parametrize("options", [EVERYTHING, PARTS], ids=["usual", "short timeouts"])
def test_flows_that_time_out_and_go_on_give_the_same(tmp_path, options):
    path = write_pcap(tmp_path / "late.pcap", large(9000, late=True))
    flows, _, _ = same_for_any_jobs(path, options)
    assert max(flow["part"] for flow in flows) > 0


def test_random_connections_in_a_table_that_is_full_give_the_same(tmp_path):
    path = tmp_path / "random.pcap"
    path.write_bytes(pcap_bytes(frames_of(random_packets(5, n=4000))))
    _, stats, _ = same_for_any_jobs(path, replace(EVERYTHING, max_flows=64))
    assert stats["in_flows"] > 1000


def test_fragments_in_every_block_are_put_together(tmp_path):
    rng = random.Random(1)
    packets = [
        (number * SECOND + place, frame)
        for number in range(7000)
        for place, frame in enumerate(fragments4(TCP4 + rng.randbytes(1800), 1480, number))
    ]
    path = tmp_path / "fragments.pcap"
    path.write_bytes(pcap_bytes(packets, link_type=101))
    _, stats, _ = same_for_any_jobs(path)
    assert stats["reassembled"] == 7000


def test_a_folder_of_files_gives_the_same(tmp_path):
    for number in range(20):
        packets = [(t + number * 60 * SECOND, frame) for t, frame in app_capture(["signal"], 3)]
        write_pcap(tmp_path / f"part{number:02}.pcap", packets)
    flows, stats, _ = same_for_any_jobs(tmp_path)
    assert (len({flow["capture"] for flow in flows}), stats["capture"]["files_read"]) == (20, 20)


def test_a_damaged_capture_gives_its_flows_and_then_the_same_error(tmp_path):
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap_bytes(large(6000))[:-7])
    flows, stats, error = same_for_any_jobs(path)
    assert len(flows) == 500
    assert error is not None
    assert error.startswith("cut.pcap: cut short, ")
    assert stats["capture"]["damage"] == error


@pytest.mark.shared
@pytest.mark.skipif(not CAPTURES.is_dir(), reason="the shared captures are absent")
def test_real_captures_give_the_same():
    paths = [path for path in sorted(CAPTURES.rglob("*")) if path.is_file()]
    chosen = [path for path in random.Random(3).sample(paths, 50) if path.stat().st_size < 1 << 20]
    n_flows = 0
    for path in chosen:
        try:
            expected = read(path, EVERYTHING, 1)
        except CaptureError:  # no capture
            continue
        assert read(path, EVERYTHING, 3) == expected, path
        n_flows += len(expected[0])
    assert n_flows > 100


class Told:
    """Watches: counts packets."""

    def __init__(self):
        self.told = []

    def read(self, headers):
        return [len(headers)]

    def remember(self, told):
        self.told += told


def test_a_watcher_remembers_what_it_read_elsewhere(tmp_path):
    path = write_pcap(tmp_path / "large.pcap", large(9000))
    told = []
    for jobs in (1, 2, 3):
        watcher = Told()
        read(path, EVERYTHING, jobs, watcher=watcher)
        told.append(watcher.told)
    assert told[0] == told[1] == told[2]
    assert len(told[0]) > 1
    assert sum(told[0]) == 9000


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_what_a_stage_raises_is_raised(tmp_path, jobs):
    class Breaks(Told):
        def read(self, headers):
            raise MemoryError("no room")

    path = write_pcap(tmp_path / "some.pcap", app_capture(["signal"], 3))
    with (
        read_flows(path, jobs=jobs, watcher=Breaks()) as reader,
        pytest.raises(MemoryError, match="no room"),
    ):
        list(reader)


def test_a_stream_cannot_be_shared(tmp_path):
    path = write_pcap(tmp_path / "some.pcap", app_capture(["signal"], 3))
    for source in ("-", io.BytesIO(b"")):
        with pytest.raises(UsageError, match="several jobs can read only files and folders"):
            read_flows(source, jobs=2)
    with pytest.raises(UsageError, match="several jobs can read only files and folders"):
        read_flows(path, jobs=2, follow=True)


def children():
    """Processes that this one has started and not waited for."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return set(found.split())


@pytest.mark.skipif(not CAN_FORK, reason="needs Linux")
def test_whoever_stops_reading_leaves_no_process(tmp_path):
    path = write_pcap(tmp_path / "large.pcap", large(14000, late=True))
    before = children()
    with read_flows(path, EVERYTHING, jobs=3) as reader:
        for _ in reader:
            assert len(children() - before) == 1
            break
    assert children() <= before
    with read_flows(path, EVERYTHING, jobs=3):
        pass  # nothing was asked for


def steps_then(end):
    yield Looked(1)
    end()
    yield Looked(2)


@pytest.mark.skipif(not CAN_FORK, reason="needs Linux")
def test_a_process_that_dies_is_an_error():
    apart = Apart(steps_then(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    with pytest.raises(CaptureError, match="the reading process ended unexpectedly"):
        list(apart)
    apart.stop()
    apart.join()


@pytest.mark.skipif(not CAN_FORK, reason="needs Linux")
def test_an_interrupt_from_the_keyboard_is_only_the_callers():
    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

    apart = Apart(steps_then(interrupted))
    assert list(apart) == [Looked(1), Looked(2)]
    apart.join()


def test_the_end_of_a_capture_is_the_last_step(tmp_path):
    path = write_pcap(tmp_path / "some.pcap", app_capture(["signal"], 3))
    reader = FlowReader(open_capture(path), FlowOptions(groups=tuple(GROUPS)), jobs=2)
    steps = list(reader._steps())
    assert isinstance(steps[-1], Finished)
    reader.close()
