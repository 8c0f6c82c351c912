"""``identify`` and ``live --replay --speed max`` give the same records, verdicts and ends, of any capture."""

import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from apptell.catalogue import Catalogue
from apptell.errors import CaptureError
from apptell.flows import FlowOptions
from apptell.models import load_model
from apptell.names import read_flows
from apptell.records.forms.jsonl import json_lines
from apptell.service import LiveOptions, LivePipeline, QueuedOutput, ReplaySource
from apptell.service.decisions import ended_records
from apptell.verdicts import Evidence, flows_and_verdicts

SAMPLES = Path(__file__).parents[2] / "src/apptell/samples"
SHARED = Path(__file__).parents[3] / "shared/captures"
CATALOGUE = Catalogue.load()
OPTIONS = FlowOptions(groups=("core", "segments", "names"), transports=(6, 17))


class Lines:
    """An output that keeps JSON lines."""

    def __init__(self):
        self.extra = {}
        self.lines = Counter()

    def write(self, batch):
        self.lines.update(json_lines(batch))

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


def none():
    """The model alone decides."""


def from_disk(path, model, make_evidence=decider):
    """Records, and how the capture broke."""
    lines, evidence = Lines(), make_evidence()
    try:
        with read_flows(path, OPTIONS, observer=evidence) as reader:
            for flows, verdicts in flows_and_verdicts(reader, model, evidence=evidence):
                for records in ended_records(flows, verdicts):
                    lines.write(records)
    except CaptureError as error:
        return lines.lines, str(error)
    return lines.lines, None


def replayed(path, model, make_evidence=decider):
    kept = Lines()
    options = LiveOptions(
        FlowOptions(OPTIONS.mode, OPTIONS.transports, groups=OPTIONS.groups, lists_decided=True),
        evidence=make_evidence(),
    )
    try:
        outputs = [QueuedOutput("kept", kept, is_lossless=True)]
        LivePipeline([ReplaySource(path)], model, outputs, options).run(threading.Event())
    except CaptureError as error:
        return kept.lines, str(error)
    return kept.lines, None


def captures(folder):
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not {".pcap", ".pcapng", ".cap"}.isdisjoint(path.suffixes)
    )


def has_ids(lines):
    """Whether no two flows have one id: a capture that repeats itself at the same times has such flows."""
    ids = Counter(
        (record["event"], record["connection_id"], record["part"])
        for record in map(json.loads, lines.elements())
    )
    return not ids or max(ids.values()) == 1


@pytest.mark.parametrize(
    "path", captures(SAMPLES), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_an_embedded_sample_replayed_gives_the_records_of_the_file(path, model):
    expected, fault = from_disk(path, model)
    assert replayed(path, model) == (expected, fault)
    assert expected


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/captures")
@pytest.mark.parametrize("folder", ["android", "edge", "messengers", "ndpi"])
def test_a_shared_capture_replayed_gives_the_records_of_the_file(folder, model):
    n = n_ambiguous = 0
    for path in captures(SHARED / folder):
        expected, fault = from_disk(path, model, none)
        if not has_ids(expected):
            n_ambiguous += 1
            continue
        assert replayed(path, model, none) == (expected, fault), path
        n += sum(expected.values())
    assert n
    assert n_ambiguous <= 10  # copies of one capture
