"""The embedded capture of named connections, held against the table that its recorder wrote."""

from __future__ import annotations

import csv
import json
import lzma
from pathlib import Path

import pytest

import apptell

SAMPLE = Path(apptell.__file__).parent / "samples/named"
KEYS = ("client", "client_port", "server", "server_port", "transport")


@pytest.fixture(scope="module")
def verdicts(run, tmp_path_factory):
    capture = tmp_path_factory.mktemp("named") / "named.pcap"
    capture.write_bytes(lzma.decompress((SAMPLE / "named.pcap.xz").read_bytes()))
    done = run("identify", capture, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_connection_of_the_sample_gets_the_app_and_the_evidence_that_its_table_states(
    verdicts,
):
    found = {
        (
            each["client_address"],
            str(each["client_port"]),
            each["server_address"],
            str(each["server_port"]),
            each["protocol"],
        ): each
        for each in verdicts
    }
    with (SAMPLE / "named.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 36
    wrong = []
    for row in rows:
        verdict = found[tuple(row[key] for key in KEYS)]
        got = (verdict["app"] or "", verdict["evidence"] or "")
        if got != (row["app"], row["evidence"]):
            wrong.append((row["name"], got, (row["app"], row["evidence"])))
    assert not wrong


def test_names_that_several_apps_share_name_a_service_and_no_app(verdicts):
    services = {each["server_name"]: each["service_kind"] for each in verdicts if not each["app"]}
    assert services["graph.facebook.com"] == "sdk"
    assert services["googleads.g.doubleclick.net"] == "ads"
    assert services["d111111abcdef8.cloudfront.net"] == "cdn"
