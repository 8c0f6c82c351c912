"""The samples in docs/how-to/live.md have the fields that the outputs write; its metrics are those served."""

import csv
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from apptell.catalogue import Catalogue
from apptell.records.forms.zeek import FIELDS
from apptell.records.schema import LIVE_RECORD
from apptell.service import open_outputs
from apptell.service.drift_watch import DriftWatch
from apptell.service.metrics import Metrics
from apptell.service.shadow import ShadowCounts
from apptell.testing import flow_batch
from apptell.verdicts import Evidence
from tests.ended import ended

DOCS = (Path(__file__).parents[2] / "docs/how-to/live.md").read_text()


def sample(form):
    found = re.search(rf"^`{form}`[^\n]*:\n\n```\w+\n(.*?)\n```", DOCS, re.MULTILINE | re.DOTALL)
    assert found, form
    return found[1]


def names(value, path=""):
    if not isinstance(value, dict):
        return {path}
    return {name for key, inner in value.items() for name in names(inner, f"{path}.{key}")}


@pytest.fixture(scope="module")
def verdict():
    flows = flow_batch([None]).with_columns(
        server_name=["chat.signal.org"],
        dns_name=["chat.signal.org"],
        alpn=["h2,http/1.1"],
        ja4=["t13d1516h2_8daaf6152771_02713d6af862"],
        client_address=["10.35.8.2"],
        capture=["phone.pcap"],
        connection_id=[4495470496526092154],
        community_id=["1:ESbAjpcZ7FLzmeo23vH8Y4SDYwY="],
    )
    return next(ended(flows, evidence=Evidence(Catalogue.load())))


@pytest.mark.parametrize("form", ["jsonl", "eve", "zeek-json", "ecs"])
def test_json_samples_have_the_fields_of_today(tmp_path, verdict, form):
    (output,) = open_outputs([f"{form}:{tmp_path}/out"], is_lossless=True)
    output.put(verdict)
    output.close()
    written = json.loads((tmp_path / "out").read_text())
    assert names(json.loads(sample(form))) == names(written)


def test_the_samples_of_csv_and_zeek_have_the_columns_of_today():
    head, row = csv.reader(io.StringIO(sample("csv")))
    assert head == LIVE_RECORD.names
    assert len(row) == len(head)
    assert len(sample("zeek").split("\t")) == len(FIELDS)


def test_every_metric_is_explained_and_every_one_explained_is_served():
    counts = Metrics()
    counts.shadow = SimpleNamespace(name="other@1", counts=ShadowCounts())
    counts.drift = DriftWatch(print)
    counts.drift.report = SimpleNamespace(apps=[], flows=0)
    counts.extraction = SimpleNamespace(
        counts=lambda: {"written": 0},
        flows=0,
        lost_flows=0,
        files=SimpleNamespace(n_files=0),
        ring_bytes=0,
    )
    served = set(re.findall(r"^# TYPE (\w+)", counts.text(), re.MULTILINE))
    explained = set(re.findall(r"`(apptell_\w+)", DOCS[DOCS.index("## What to watch") :]))
    assert explained == served - {"apptell_ready"}
