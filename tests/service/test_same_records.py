"""``identify`` and ``live --replay --speed max`` give the same records, verdicts and ends, of any capture."""

import lzma
import threading
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest

from apptell.catalogue import Catalogue
from apptell.errors import CaptureError
from apptell.flows import FlowOptions
from apptell.models import load_model
from apptell.names import read_flows
from apptell.service import LiveOptions, LivePipeline, QueuedOutput, ReplaySource
from apptell.service.decisions import Decisions, ended_records
from apptell.testing import write_pcap
from apptell.verdicts import Evidence, flows_and_verdicts
from tests.whole_folders import are_same, joined, read_records, table_of, write_records

SAMPLES = Path(__file__).parents[2] / "src/apptell/samples"
SHARED = Path(__file__).parents[3] / "shared/captures"
CATALOGUE = Catalogue.load()
OPTIONS = FlowOptions(groups=("core", "segments", "names"), transports=(6, 17))


class Kept:
    """An output that keeps records."""

    def __init__(self):
        self.extra = {}
        self.batches = []

    def write(self, batch):
        self.batches.append(batch)

    def tick(self):
        pass

    def close(self):
        pass


@pytest.fixture(scope="module")
def model():
    return load_model()


def decider():
    """Evidence with nothing in its memory."""
    return Evidence(CATALOGUE)


def no_evidence():
    """The model alone decides."""


def from_disk(path, model, make_evidence=decider):
    """Records, and how the capture broke."""
    batches, evidence = [], make_evidence()
    try:
        with read_flows(path, OPTIONS, observer=evidence) as reader:
            for flows, verdicts in flows_and_verdicts(reader, model, evidence=evidence):
                batches += ended_records(flows, verdicts)
    except CaptureError as error:
        return table_of(batches), str(error)
    return table_of(batches), None


def replayed(path, model, source=ReplaySource):
    kept = Kept()
    options = LiveOptions(
        FlowOptions(OPTIONS.mode, OPTIONS.transports, groups=OPTIONS.groups, lists_decided=True),
        evidence=decider(),
    )
    try:
        outputs = [QueuedOutput("kept", kept, is_lossless=True)]
        LivePipeline([source(path)], model, outputs, options).run(threading.Event())
    except CaptureError as error:
        return table_of(kept.batches), str(error)
    return table_of(kept.batches), None


def differs(path, expected, fault, model, source=ReplaySource):
    """What a replay gives other than a file did; None where nothing is."""
    found, broke = replayed(path, model, source=source)
    if broke != fault:
        return broke
    return None if are_same(found, expected) else found


def captures(folder):
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not {".pcap", ".pcapng", ".cap"}.isdisjoint(path.suffixes)
    )


def has_ids(records):
    """Whether no two flows have one id: a capture that repeats itself at the same times has such flows."""
    if not len(records):
        return True
    ids = records.group_by(["event", "connection_id", "part"]).aggregate([([], "count_all")])
    return len(ids) == len(records)


@pytest.mark.parametrize(
    "path", captures(SAMPLES), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_an_embedded_sample_replayed_gives_the_records_of_the_file(path, model):
    expected, fault = from_disk(path, model)
    assert differs(path, expected, fault, model) is None
    assert len(expected)


class Pieces(ReplaySource):
    """A source that gives a few packets at a time."""

    def batches(self):
        for batch in super().batches():
            for at in range(0, len(batch), 16):
                yield batch.slice(at, at + 16)


@pytest.fixture
def disordered(tmp_path):
    """The sample of named connections in which some DNS answers come long after their time."""
    data = lzma.decompress((SAMPLES / "named/named.pcap.xz").read_bytes())
    packets, at = [], 24
    while at < len(data):
        second, part, size = (
            int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4, 8)
        )
        frame = data[at + 16 : at + 16 + size]
        packets.append((second * 10**9 + part * 10**3, frame))
        at += 16 + size
    answers = [i for i, (_, frame) in enumerate(packets) if frame[34:36] == b"\0\x35"]
    ranks = list(range(len(packets)))
    for place in answers[: len(answers) // 2]:
        ranks[place] += 150
    shuffled = [packets[place] for place in sorted(range(len(packets)), key=ranks.__getitem__)]
    assert len(answers) > 10
    return write_pcap(tmp_path / "disordered.pcap", shuffled)


def test_what_is_known_of_a_flow_does_not_depend_on_how_fast_it_is_decided(disordered, monkeypatch):
    """An answer that comes behind a flow is no evidence for it, also where the answer's time is earlier."""
    expected, fault = from_disk(disordered, None)
    assert {"name", "dns"} <= set(pc.unique(expected["evidence"]).to_pylist())
    assert differs(disordered, expected, fault, None, source=Pieces) is None
    at_once = Decisions.records

    def late(self, works, **how):
        time.sleep(0.02)
        return at_once(self, works, **how)

    monkeypatch.setattr(Decisions, "records", late)
    assert differs(disordered, expected, fault, None, source=Pieces) is None


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/captures")
@pytest.mark.parametrize("folder", ["android", "edge", "messengers", "ndpi", "real"])
def test_a_shared_capture_replayed_gives_the_records_of_the_file(folder, model, tmp_path):
    """Captures that are whole and only packets are joined, since each replay starts and ends a pipeline."""
    only_packets, paths = [], []
    for path in captures(SHARED / folder):
        records, is_all = read_records(path)
        if is_all:
            only_packets.append(records)
        else:
            paths.append(path)
    for number, records in enumerate(joined(only_packets)):
        paths.append(write_records(tmp_path / f"{number}.pcap", records))
    n = n_ambiguous = 0
    for path in paths:
        expected, fault = from_disk(path, model)
        if not has_ids(expected):
            n_ambiguous += 1
            continue
        assert differs(path, expected, fault, model) is None, path
        n += len(expected)
    assert n
    assert n_ambiguous <= 13  # copies of one capture, where identifiers repeat
