"""The live pipeline from a source to records: the same verdicts as from disk, whatever happens around it."""

import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from apptell.capture import open_capture
from apptell.errors import CaptureError, ModelError
from apptell.flows import FlowOptions, FlowTable
from apptell.models import Model, load_model
from apptell.names import read_flows
from apptell.records.schema import live_records
from apptell.records.values import event_rows
from apptell.service import (
    LiveOptions,
    LivePipeline,
    QueuedOutput,
    ReplaySource,
    StreamSource,
    sources,
)
from apptell.service.decisions import Decisions
from apptell.service.metrics import Metrics
from apptell.service.work import DECIDED, EARLY, ENDED, Work
from apptell.testing import (
    START_NS,
    app_capture,
    app_messages,
    conversation,
    pcap_bytes,
    write_pcap,
)
from apptell.verdicts import ContextOptions, identify_flows, whole_context
from tests.flows.test_live_decisions import add
from tests.models import tiny

APPS = ["signal", "zoom", "skype"]
TOTALS = {
    "end_time",
    "packets_to_server",
    "packets_to_client",
    "bytes_to_server",
    "bytes_to_client",
}


class Kept:
    """An output that keeps its records."""

    def __init__(self):
        self.extra = {}
        self.rows = []
        self.came = threading.Event()

    def write(self, batch):
        self.rows += event_rows(batch)
        self.came.set()

    def tick(self):
        pass

    def close(self):
        pass


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture
def capture(tmp_path):
    packets = app_capture(APPS, 5)
    for i, n in enumerate((0, 1, 2, 4)):  # too few, and decided only at the end
        says = app_messages("signal", seed=i)[:n]
        start = START_NS + (i + 20) * 10**9
        packets += conversation(
            ("192.168.1.3", 50_000 + i), ("203.0.113.9", 443), says, start_ns=start
        )
    # a connection that the timeout cuts
    for part in range(2):
        start = START_NS + part * 200 * 10**9
        packets += conversation(
            ("192.168.1.4", 40_000), ("203.0.113.9", 443), app_messages("zoom"), start_ns=start,
            handshake=False, close=False,
        )  # fmt: skip
    return write_pcap(tmp_path / "phone.pcap", sorted(packets, key=lambda packet: packet[0]))


def run(source, model, options=None, stop=None):
    kept, metrics = Kept(), Metrics()
    output = QueuedOutput("kept", kept, is_lossless=source.is_lossless)
    LivePipeline([source], model, [output], options, metrics).run(stop or threading.Event())
    return kept.rows, metrics


def from_disk(capture, model):
    flows = read_flows(capture, FlowOptions(groups=("core", "segments", "names")))
    return [
        row
        for batch in identify_flows(flows, model)
        for row in event_rows(live_records(batch, "verdict").to_arrow())
    ]


def by_flow(records):
    return {(row["connection_id"], row["part"]): row for row in records}


def without(row, names):
    return {name: value for name, value in row.items() if name not in names}


@pytest.mark.parametrize("batch_flows", [1, 256])
def test_a_capture_replayed_at_full_speed_gives_the_verdicts_of_the_file(
    capture, model, batch_flows
):
    records, metrics = run(ReplaySource(capture), model, LiveOptions(batch_flows=batch_flows))
    expected = by_flow(from_disk(capture, model))
    verdicts = by_flow(row for row in records if row["event"] == "verdict")
    assert len(expected) == 15 + 2 + 1
    assert verdicts.keys() == expected.keys()
    for key, row in verdicts.items():
        assert without(row, TOTALS) == without(expected[key], TOTALS)
    assert sum(metrics.verdicts.values()) == len(expected)
    assert metrics.overloaded == 0


def test_each_verdict_is_followed_by_one_end_with_the_same_app_and_the_flows_totals(capture, model):
    records, metrics = run(ReplaySource(capture), model)
    verdicts = by_flow(row for row in records if row["event"] == "verdict")
    ends = by_flow(row for row in records if row["event"] == "end")
    assert len(records) == len(verdicts) + len(ends)
    expected = by_flow(from_disk(capture, model))
    differing = {*TOTALS, "event", "end_reason"}
    for key, row in ends.items():
        assert without(row, differing) == without(verdicts[key], differing)
        assert {name: row[name] for name in TOTALS} == {
            name: expected[key][name] for name in TOTALS
        }
        assert row["end_reason"] in ("capture", "closed", "idle")
        assert records.index(verdicts[key]) < records.index(row)
    assert metrics.open_flows == 0


def test_a_damaged_capture_gives_what_precedes_the_damage_and_then_the_error(
    capture, model, tmp_path
):
    broken = tmp_path / "broken.pcap"
    broken.write_bytes(capture.read_bytes()[:-7])
    kept = Kept()
    pipeline = LivePipeline([ReplaySource(broken)], model, [QueuedOutput("kept", kept)])
    with pytest.raises(CaptureError, match=r"broken\.pcap"):
        pipeline.run(threading.Event())
    assert len([row for row in kept.rows if row["event"] == "verdict"]) == 18


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


def test_a_paced_replay_gives_each_packet_when_it_is_due(tmp_path, monkeypatch):
    packets = conversation(
        ("10.0.0.1", 40_000), ("192.0.2.7", 443), app_messages("zoom"), gap_ns=10**8
    )
    path = write_pcap(tmp_path / "one.pcap", packets)
    clock = Clock()
    monkeypatch.setattr(sources, "time", clock)
    batches = ReplaySource(path, 2.0).batches()
    came_s = [
        clock.now_s - 100 for batch in batches if batch is not None for _ in range(len(batch))
    ]
    assert came_s == pytest.approx(
        [(time_ns - packets[0][0]) / 2e9 for time_ns, _ in packets], abs=1e-3
    )


def _with_a_stream(packets, monkeypatch):
    """A stream source over a pipe that stays open; gives its writing end."""
    reading, writing = os.pipe()
    monkeypatch.setattr(os, "dup", lambda _: reading)
    source = StreamSource("-")
    os.write(writing, pcap_bytes(packets))
    return source, writing


def _hang_up(writing):
    os.close(writing)
    for thread in threading.enumerate():
        if thread.name == "reader":
            thread.join(60)


def test_a_verdict_comes_at_the_fifth_payload_packet_while_the_stream_goes_on(model, monkeypatch):
    packets = conversation(
        ("10.0.0.1", 40_000), ("192.0.2.7", 443), app_messages("zoom"), close=False
    )
    source, writing = _with_a_stream(packets, monkeypatch)
    kept, stop = Kept(), threading.Event()
    pipeline = LivePipeline([source], model, [QueuedOutput("kept", kept)])
    working = threading.Thread(target=pipeline.run, args=(stop,))
    working.start()
    assert kept.came.wait(120)
    assert [row["event"] for row in kept.rows] == ["verdict"]
    assert kept.rows[0]["payload_packets_seen"] == 5
    stop.set()
    working.join(60)
    assert not working.is_alive()
    assert [row["event"] for row in kept.rows] == ["verdict", "end"]
    _hang_up(writing)


def test_after_a_time_a_flow_is_decided_although_nothing_arrives(model, monkeypatch):
    says = app_messages("zoom")[:3]
    packets = conversation(("10.0.0.1", 40_000), ("192.0.2.7", 443), says, close=False)
    source, writing = _with_a_stream(packets, monkeypatch)
    kept, stop = Kept(), threading.Event()
    pipeline = LivePipeline(
        [source], model, [QueuedOutput("kept", kept)], LiveOptions(decide_after_s=0.5)
    )
    working = threading.Thread(target=pipeline.run, args=(stop,))
    working.start()
    assert kept.came.wait(120)
    assert [(row["event"], row["payload_packets_seen"]) for row in kept.rows] == [("verdict", 3)]
    stop.set()
    working.join(60)
    _hang_up(writing)


def test_silence_ends_a_flow_although_nothing_arrives(model, monkeypatch):
    says = app_messages("zoom")[:3]
    packets = conversation(("10.0.0.1", 40_000), ("192.0.2.7", 443), says, close=False)
    source, writing = _with_a_stream(packets, monkeypatch)
    kept, stop = Kept(), threading.Event()
    options = LiveOptions()
    options = replace(options, flows=replace(options.flows, idle_timeout_s=1.0))
    pipeline = LivePipeline([source], model, [QueuedOutput("kept", kept)], options)
    working = threading.Thread(target=pipeline.run, args=(stop,))
    working.start()
    until = time.monotonic() + 120
    while len(kept.rows) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert [(row["event"], row["end_reason"]) for row in kept.rows] == [
        ("verdict", None),
        ("end", "idle"),
    ]
    stop.set()
    working.join(60)
    _hang_up(writing)


class Scripted:
    """A model whose answer depends on how many payload packets it sees."""

    apps, name, hash, threshold = ["chat", "mail"], "scripted", "0", 0.8
    transports = (6,)
    known_ja4 = None
    needs_whole_packets = False
    decision_packets = 5

    def __init__(self, by_packets):
        self._by_packets = by_packets

    def predict_proba(self, flows, *, early=False):
        seen = np.minimum(flows.payload_packets, 5)
        assert not early or seen.max() < 5
        chat = np.array([self._by_packets[n] for n in seen], dtype=np.float32)
        return np.stack([chat, 1 - chat], axis=1)


def said(by_packets, n_messages):
    """What is said of one flow, packet by packet: event, app, packets seen, revised."""
    packets = conversation(
        ("10.0.0.1", 40_000), ("192.0.2.7", 443), app_messages("zoom")[:n_messages]
    )
    table = FlowTable(
        FlowOptions(groups=("core", "segments"), lists_decided=True, lists_early=True)
    )
    decisions, found = Decisions(Scripted(by_packets)), []

    def decide(batches, kind):
        for flows in batches:
            work = Work(flows, kind, is_overloaded=False, since_s=0.0)
            found.extend(
                row for batch in decisions.records([work]) for row in event_rows(batch.to_arrow())
            )

    for packet in packets:
        decide(add(table, [packet]), ENDED)
        decide(table.take_decided(), DECIDED)
        decide(table.take_early(), EARLY)
    decide(table.finish(), ENDED)
    names = ("event", "app", "payload_packets_seen", "revised")
    return [tuple(row[name] for name in names) for row in found]


@pytest.mark.parametrize(
    ("by_packets", "n_messages", "expected"),
    [
        # clear at the second packet, and still so at the fifth: nothing to add
        ({1: 0.6, 2: 0.9, 3: 0.9, 4: 0.9, 5: 0.95}, 6,
         [("verdict", "chat", 2, False), ("end", "chat", 5, False)]),
        # taken for another app at first: revised once
        ({1: 0.1, 2: 0.9, 3: 0.1, 4: 0.9, 5: 0.95}, 6,
         [("verdict", "mail", 1, False), ("verdict", "chat", 5, True), ("end", "chat", 5, True)]),
        # sure at first, not at the fifth: the name is taken back
        ({1: 0.9, 2: 0.9, 3: 0.9, 4: 0.9, 5: 0.6}, 6,
         [("verdict", "chat", 1, False), ("verdict", None, 5, True), ("end", None, 5, True)]),
        # never clear before
        ({1: 0.6, 2: 0.6, 3: 0.6, 4: 0.6, 5: 0.9}, 6,
         [("verdict", "chat", 5, False), ("end", "chat", 5, False)]),
        # ends before the fifth
        ({1: 0.9, 2: 0.9, 3: 0.1, 4: 0.1, 5: 0.1}, 3,
         [("verdict", "chat", 1, False), ("verdict", "mail", 3, True), ("end", "mail", 3, True)]),
        # ends after one: a name that was given is closed
        ({1: 0.9, 2: 0.1, 3: 0.1, 4: 0.1, 5: 0.1}, 1,
         [("verdict", "chat", 1, False), ("end", "chat", 1, False)]),
    ],
)  # fmt: skip
def test_early_a_flow_is_named_when_clear_and_revised_at_most_once(
    by_packets, n_messages, expected
):
    assert said(by_packets, n_messages) == expected


def test_early_every_flow_ends_with_the_app_of_the_file(capture, model):
    options = LiveOptions(
        FlowOptions(groups=("core", "segments", "names"), lists_decided=True, lists_early=True)
    )
    records, _ = run(ReplaySource(capture), model, options)
    ends = by_flow(row for row in records if row["event"] == "end")
    for key, row in by_flow(from_disk(capture, model)).items():
        assert ends[key]["app"] == row["app"]


def test_several_sources_give_what_one_would(tmp_path, capture, model):
    packets = app_capture(["signal", "zoom"], 3)
    other = write_pcap(tmp_path / "other.pcap", [(t + 10**12, frame) for t, frame in packets])
    kept, metrics = Kept(), Metrics()
    sources = [ReplaySource(capture), ReplaySource(other)]
    LivePipeline(sources, model, [QueuedOutput("kept", kept, is_lossless=True)], None, metrics).run(
        threading.Event()
    )
    verdicts = by_flow(row for row in kept.rows if row["event"] == "verdict")
    expected = by_flow([*from_disk(capture, model), *from_disk(other, model)])
    assert {key: row["app"] for key, row in verdicts.items()} == {
        key: row["app"] for key, row in expected.items()
    }
    assert metrics.flows == 21 + 6
    assert metrics.packets == sum(
        len(batch) for path in (capture, other) for batch in open_capture(path)
    )


def test_when_one_source_fails_the_others_are_handed_out(capture, model, tmp_path):
    broken = tmp_path / "broken.pcap"
    broken.write_bytes(b"no capture")
    kept = Kept()
    sources = [ReplaySource(capture, 1000.0), ReplaySource(broken)]
    with pytest.raises(CaptureError, match=r"broken\.pcap"):
        LivePipeline(sources, model, [QueuedOutput("kept", kept)]).run(threading.Event())
    assert {row["event"] for row in kept.rows} <= {"verdict", "end"}


def test_a_model_that_looks_at_ten_packets_is_asked_at_the_tenth_or_at_the_end(tmp_path):
    options = {"packets": 10, "length": 10}
    patient = Model(
        tiny.info(inputs="sequence", options=options, onnx_sha256="0"),
        tiny.network("sequence", shape=(10, 3)),
        place="patient",
    )
    packets = []
    for i, n in enumerate((1, 2, 9, 10, 30)):
        says = app_messages("signal", n_messages=n, seed=i)
        packets += conversation(
            ("192.168.1.3", 50_000 + i), ("203.0.113.9", 443), says, start_ns=START_NS + i * 10**9
        )
    capture = write_pcap(tmp_path / "long.pcap", sorted(packets, key=lambda packet: packet[0]))
    records, _ = run(ReplaySource(capture), patient)
    expected = by_flow(from_disk(capture, patient))
    verdicts = by_flow(row for row in records if row["event"] == "verdict")
    assert sorted(row["payload_packets_seen"] for row in verdicts.values()) == [2, 9, 10, 10]
    assert verdicts.keys() == expected.keys()
    for key, row in verdicts.items():
        assert without(row, TOTALS) == without(expected[key], TOTALS)
    ends = by_flow(row for row in records if row["event"] == "end")
    longest = max(ends, key=lambda key: ends[key]["packets_to_server"])
    assert verdicts[longest]["packets_to_server"] < ends[longest]["packets_to_server"]
    later = run(ReplaySource(capture), load_model())[0]
    five = by_flow(row for row in later if row["event"] == "verdict")
    assert five[longest]["packets_to_server"] < verdicts[longest]["packets_to_server"]


def test_with_context_a_replayed_capture_gives_the_verdicts_of_the_file(tmp_path, model):
    packets = app_capture(APPS, 6) + [(t + 40 * 10**9, f) for t, f in app_capture(APPS, 3, seed=5)]
    path = write_pcap(tmp_path / "phone.pcap", sorted(packets, key=lambda packet: packet[0]))
    options = ContextOptions(5.0)
    records, _ = run(ReplaySource(path), model, LiveOptions(context=options, batch_flows=3))
    flows = read_flows(path, FlowOptions(groups=("core", "segments", "names")))
    expected = by_flow(
        row
        for batch in identify_flows(flows, model, context=whole_context(options, model))
        for row in event_rows(live_records(batch, "verdict").to_arrow())
    )
    verdicts = by_flow(row for row in records if row["event"] == "verdict")
    assert max(row["context_flows"] for row in verdicts.values()) == 5
    assert verdicts.keys() == expected.keys()
    for key, row in verdicts.items():
        assert without(row, TOTALS) == without(expected[key], TOTALS)
    ends = by_flow(row for row in records if row["event"] == "end")
    assert {key: row["context_flows"] for key, row in ends.items()} == {
        key: row["context_flows"] for key, row in verdicts.items()
    }


class SlowModel:
    """A model that takes its time."""

    def __init__(self, model):
        self._model = model
        self.apps, self.name, self.hash, self.threshold = model.apps, "slow", "0", model.threshold
        self.decision_packets, self.transports = model.decision_packets, model.transports
        self.known_ja4 = None
        self.needs_whole_packets = False

    def predict_proba(self, flows, *, early=False):
        time.sleep(0.2)
        return self._model.predict_proba(flows, early=early)


class Lossy(ReplaySource):
    """A source that does not wait."""

    is_lossless = False


def test_when_the_model_lags_flows_are_declined_as_overloaded_and_counted(tmp_path, model):
    path = write_pcap(tmp_path / "many.pcap", app_capture(APPS, 40))
    options = LiveOptions(max_waiting=4, batch_flows=2)
    records, metrics = run(Lossy(path), SlowModel(model), options)
    verdicts = [row for row in records if row["event"] == "verdict"]
    assert len(verdicts) == 120
    overloaded = [row for row in verdicts if row["outcome"] == "overloaded"]
    assert metrics.overloaded == len(overloaded) > 0
    assert {(row["app"], row["best_guess"], row["confidence"]) for row in overloaded} == {
        (None, None, None)
    }
    assert len([row for row in records if row["event"] == "end"]) == 120


class Stuck(Kept):
    """An output that does not come back."""

    def write(self, batch):
        self.came.wait(60)


class Pieces(ReplaySource):
    """A source that gives a few packets at a time, and says when it has given all."""

    def batches(self):
        self.is_exhausted = threading.Event()
        for batch in super().batches():
            for at in range(0, len(batch), 20):
                yield batch.slice(at, at + 20)
        self.is_exhausted.set()


class LossyPieces(Pieces, Lossy):
    """The same, and does not wait."""


@pytest.mark.parametrize("source", [Pieces, LossyPieces])
def test_when_the_end_is_wished_for_what_waits_is_declined_and_one_dead_output_costs_no_other(
    tmp_path, model, source, monkeypatch
):
    # the steps of an ending are long enough for a busy machine; the model alone is too slow for them
    monkeypatch.setattr("apptell.service.ending._STEPS_S", (0.3, 8.0, 10.0))
    path = write_pcap(tmp_path / "many.pcap", app_capture(APPS, 40))
    stuck, kept, stop, metrics = Stuck(), Kept(), threading.Event(), Metrics()
    packets = source(path)
    stop_at_the_first = threading.Thread(
        target=lambda: kept.came.wait(60) and packets.is_exhausted.wait(5) and stop.set()
    )
    stop_at_the_first.start()
    dead, well = QueuedOutput("dead", stuck), QueuedOutput("well", kept)
    # 0.2 s for two flows: all of them would take 12 s
    pipeline = LivePipeline(
        [packets], SlowModel(model), [dead, well], LiveOptions(batch_flows=2), metrics
    )
    pipeline.run(stop)
    stop_at_the_first.join()
    verdicts = [row for row in kept.rows if row["event"] == "verdict"]
    assert len(verdicts) == len(by_flow(verdicts)) == 120
    assert sum(row["outcome"] == "overloaded" for row in verdicts) > 60
    assert sum(row["event"] == "end" for row in kept.rows) == 120
    assert metrics.unreported == 0
    assert well.counts()["dropped"] == 0
    assert dead.counts()["dropped"] == len(kept.rows)
    stuck.came.set()


def test_another_model_takes_over_without_a_flow_lost(capture, model):
    other = SlowModel(model)
    other.name = "other"
    kept = Kept()
    pipeline = LivePipeline([ReplaySource(capture)], model, [QueuedOutput("kept", kept)])
    pipeline.replace_model(other)
    pipeline.run(threading.Event())
    verdicts = [row for row in kept.rows if row["event"] == "verdict"]
    assert len(verdicts) == 18
    assert {row["model"] for row in verdicts} == {"other@0"}


def test_a_run_of_the_model_that_the_end_cuts_short_leaves_its_flows_overloaded(
    capture, model, monkeypatch
):
    """A model that takes long cannot hold up a sensor's end, nor lose what the sensor saw."""
    stop = threading.Event()

    def ended(*_args, **_options):
        stop.set()
        time.sleep(0.5)  # until the pipeline has seen it
        raise ModelError("the run was ended with the program")

    monkeypatch.setattr(Model, "predict_proba", ended)
    records, metrics = run(ReplaySource(capture), model, stop=stop)
    verdicts = [row for row in records if row["event"] == "verdict"]
    assert verdicts
    assert {row["outcome"] for row in verdicts} == {"overloaded"}
    assert metrics.overloaded == len(verdicts)
