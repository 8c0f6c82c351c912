"""Extraction beside the live pipeline: a disk that hangs costs packets, which are counted, and no verdict."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from apptell.capture import PacketBatch, open_capture
from apptell.flows import FlowOptions
from apptell.records.record_filter import RecordFilter
from apptell.records.schema import live_records
from apptell.records.stage import RecordStage
from apptell.service import LiveOptions, LivePipeline, QueuedOutput, ReplaySource, live_extraction
from apptell.service.extract_files import ExtractFiles
from apptell.service.live_extraction import LEAST_BYTES, ExtractionOptions, LiveExtraction
from apptell.service.metrics import Metrics
from apptell.testing import app_capture, write_pcap
from apptell.verdicts import identify_flows
from tests.service.test_live_pipeline import Kept


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_pcap(tmp_path / "in.pcap", app_capture(["signal", "zoom"], 3))


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Writing waits until the event is set."""
    goes_on, flush = threading.Event(), ExtractFiles.flush

    def slow(files: ExtractFiles) -> None:
        goes_on.wait(60)
        flush(files)

    monkeypatch.setattr(ExtractFiles, "flush", slow)
    return goes_on


def packets_of(capture: Path) -> PacketBatch:
    with open_capture(capture) as reader:
        return next(iter(reader)).copy()


def extraction(tmp_path: Path, said: list[str], *, waits: bool = False) -> LiveExtraction:
    options = ExtractionOptions(tmp_path / "x.pcapng")
    return LiveExtraction(options, FlowOptions(), said.append, waits=waits)


def test_a_disk_that_hangs_delays_no_record_and_not_the_end(
    tmp_path: Path, capture: Path, hangs: threading.Event
) -> None:
    kept, metrics, stop = Kept(), Metrics(), threading.Event()
    options = LiveOptions(
        stage=RecordStage(RecordFilter(not_named=True)), extraction=extraction(tmp_path, [])
    )
    output = QueuedOutput("kept", kept, is_lossless=True)
    pipeline = LivePipeline([ReplaySource(capture)], None, [output], options, metrics)
    runs = threading.Thread(target=pipeline.run, args=(stop,))
    runs.start()
    assert kept.came.wait(120)
    while output.is_busy:
        time.sleep(0.01)
    assert not hangs.is_set()
    assert runs.is_alive()  # it waits for the disk, and everything else is done
    stop.set()
    runs.join(120)
    assert not runs.is_alive()
    assert {row["event"] for row in kept.rows} == {"verdict", "end"}
    assert 'apptell_extracted_packets_total{state="written"} 0' in metrics.text()
    hangs.set()


def test_packets_without_room_are_skipped_counted_and_said_once(
    tmp_path: Path, capture: Path, hangs: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets, said = packets_of(capture), list[str]()
    monkeypatch.setattr(live_extraction, "MAX_WAITING_BYTES", 2 * int(packets.captured.sum()))
    extracts = extraction(tmp_path, said)
    for _ in range(10):
        extracts.keep(packets, "in")  # returns
    skipped = extracts.counts()["skipped"]
    assert 0 < skipped < 10 * len(packets)
    assert len(said) == 1
    hangs.set()
    extracts.close()


def test_chosen_flows_without_room_are_counted(
    tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_extraction, "MAX_WAITING_RECORDS", -1)
    extracts = extraction(tmp_path, [])
    n_flows = 0
    for verdicts in identify_flows(_flows(capture), None):
        n_flows += len(verdicts)
        extracts.tell(live_records(verdicts, "verdict"), RecordFilter())
    extracts.close()
    assert n_flows
    assert (extracts.lost_flows, extracts.flows) == (n_flows, 0)


def test_a_replay_waits_for_room(
    tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets, said = packets_of(capture), list[str]()
    monkeypatch.setattr(live_extraction, "MAX_WAITING_BYTES", 1)
    options = ExtractionOptions(tmp_path / "x.pcapng", ring_bytes=LEAST_BYTES)  # many small pieces
    extracts = LiveExtraction(options, FlowOptions(), said.append, waits=True)
    extracts.keep(packets, "in")
    for verdicts in identify_flows(_flows(capture), None):
        extracts.tell(live_records(verdicts, "verdict"), RecordFilter())
    extracts.close()
    assert extracts.counts()["skipped"] == 0
    assert extracts.counts()["written"] == len(packets)
    assert not said


def test_an_error_of_ours_blocks_nobody(
    tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    monkeypatch.setattr(live_extraction, "RingPiece", None)
    packets = packets_of(capture)
    extracts = extraction(tmp_path, [], waits=True)
    monkeypatch.setattr(live_extraction, "MAX_WAITING_BYTES", 1)
    for _ in range(3):
        extracts.keep(packets, "in")
    extracts.close()
    assert len(seen) == 1
    assert not extracts.is_busy


def test_what_reading_threads_copy_stays_as_it_was(tmp_path: Path, capture: Path) -> None:
    packets, want = packets_of(capture), packets_of(capture)
    extracts = extraction(tmp_path, [], waits=True)
    extracts.keep(packets, "in")
    packets.buffer[:] = 0
    packets.time_ns[:] = 0
    for verdicts in identify_flows(_flows(capture), None):
        extracts.tell(live_records(verdicts, "verdict"), RecordFilter())
    extracts.close()
    (path,) = tmp_path.glob("x_*")
    found = packets_of(path)
    assert [found.frame(row) for row in range(len(found))] == [
        want.frame(row) for row in range(len(want))
    ]
    np.testing.assert_array_equal(found.time_ns, want.time_ns)


def _flows(capture: Path):  # type: ignore[no-untyped-def]
    from apptell.names import read_flows

    return read_flows(capture, FlowOptions(groups=("core", "segments", "names")))
