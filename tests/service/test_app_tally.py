"""What each app moved: open flows with what they have moved so far, ended ones with their totals."""

import threading

import numpy as np
import pyarrow as pa
import pytest

from apptell.flows.flow_table import OPEN_TOTALS
from apptell.models import load_model
from apptell.service import LivePipeline, QueuedOutput, ReplaySource
from apptell.service.app_tally import AppTally, Row
from apptell.testing import app_capture, flow_batch, write_pcap
from apptell.verdicts import identify
from tests.ended import ended


@pytest.fixture(scope="module")
def batches():
    """Verdicts on and ends of three flows: irc, irc, declined."""
    found = list(ended(flow_batch(["signal", "zoom", "skype"])))
    at = found[0].schema.get_field_index("app")
    return [batch.set_column(at, "app", pa.array(["irc", "irc", None])) for batch in found]


def by_app(rows):
    return {row.app: row for row in rows}


def total(batch, *names):
    return [
        sum(values)
        for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    ]


def test_an_open_flow_counts_with_what_it_has_moved_so_far(batches):
    tally = AppTally()
    tally.write(batches[0])
    found = by_app(tally.rows(0.0))
    known = total(batches[0], "bytes_to_server", "bytes_to_client")
    assert (found["irc"].flows, found["irc"].open_flows) == (2, 2)
    assert found["irc"].bytes == known[0] + known[1]
    totals = np.zeros(2, dtype=OPEN_TOTALS)
    totals["connection_id"] = [batches[0].column("connection_id")[0].as_py(), 77]  # one unknown
    totals["packets"], totals["bytes"] = 1000, 5_000_000
    tally.meter(totals)
    assert by_app(tally.rows(0.0))["irc"].bytes == 5_000_000 + known[1]


def test_a_flow_that_ended_counts_once_with_its_totals(batches):
    tally = AppTally()
    for batch in batches:
        tally.write(batch)
    found = by_app(tally.rows(0.0))
    packets = total(batches[1], "packets_to_server", "packets_to_client")
    assert (found["irc"].flows, found["irc"].open_flows) == (2, 0)
    assert found["irc"].packets == packets[0] + packets[1]
    assert found[None].packets == packets[2]
    confidences = batches[1].column("confidence").to_pylist()
    assert found["irc"].confidence == pytest.approx(sum(confidences[:2]) / 2)


def test_a_revised_verdict_moves_the_flow_to_its_new_app(batches):
    tally = AppTally()
    tally.write(batches[0])
    at = batches[0].schema.get_field_index("app")
    tally.write(batches[0].set_column(at, "app", pa.array(["xmpp", "irc", None])))
    found = by_app(tally.rows(0.0))
    assert {app: row.flows for app, row in found.items()} == {"xmpp": 1, "irc": 1, None: 1}


def test_the_rate_is_what_came_since_rows_were_last_asked_for(batches):
    tally = AppTally()
    assert tally.rows(10.0) == []
    tally.write(batches[0])
    found = by_app(tally.rows(12.0))
    assert found["irc"].rate == found["irc"].bytes / 2
    assert by_app(tally.rows(13.0))["irc"].rate == 0.0


def test_an_app_has_the_name_that_its_records_have(batches):
    tally = AppTally()
    at = batches[0].schema.get_field_index("app_name")
    names = pa.array(["Relay Chat", "Relay Chat", None])
    tally.write(batches[0].set_column(at, "app_name", names))
    assert {row.app: row.app_name for row in tally.rows(0.0)} == {"irc": "Relay Chat", None: None}


def test_clients_are_told_apart_when_asked_for(batches):
    tally = AppTally()
    at = batches[0].schema.get_field_index("client_address")
    tally.write(batches[0].set_column(at, "client_address", pa.array(["a", "b", "a"])))
    assert {(row.client, row.app): row.flows for row in tally.rows(0.0, per_client=True)} == {
        ("a", "irc"): 1, ("b", "irc"): 1, ("a", None): 1,
    }  # fmt: skip
    assert {row.client for row in tally.rows(0.0)} == {None}


def test_a_flow_without_time_for_identification_has_no_confidence(batches):
    tally = AppTally()
    at = batches[0].schema.get_field_index("confidence")
    tally.write(batches[0].set_column(at, "confidence", pa.nulls(3, pa.float64())))
    assert {row.confidence for row in tally.rows(0.0)} == {None}


def test_a_whole_capture_adds_up_to_what_identify_says(tmp_path):
    path = write_pcap(tmp_path / "phone.pcap", app_capture(["signal", "zoom", "skype"], 4))
    tally, model = AppTally(), load_model()
    pipeline = LivePipeline([ReplaySource(path)], model, [QueuedOutput("top", tally)])
    pipeline.run(threading.Event())
    expected: dict[str | None, Row] = {}
    for verdict in identify(path, evidence="model"):
        row = expected.setdefault(verdict.app, Row(None, verdict.app))
        row.flows += 1
        row.bytes += verdict.bytes_to_server + verdict.bytes_to_client
        row.packets += verdict.packets_to_server + verdict.packets_to_client
    found = by_app(tally.rows(0.0))
    assert {app: (row.flows, row.bytes, row.packets) for app, row in found.items()} == {
        app: (row.flows, row.bytes, row.packets) for app, row in expected.items()
    }
