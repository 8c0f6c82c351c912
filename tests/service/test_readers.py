"""Every form of output read by programs and libraries that are not ours; each skipped where it is missing."""

import datetime as dt
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apptell.records.schema import LIVE_RECORD, RecordFields, Records
from apptell.records.values import event_rows
from apptell.service import open_outputs
from apptell.service.metrics import Metrics
from apptell.testing import flow_batch
from tests.ended import ended

pytestmark = pytest.mark.oracle
NAMES = ["a.example", None, "-"]


@pytest.fixture(scope="module")
def batches():
    """Verdicts on and ends of three flows, one named, two declined."""
    flows = flow_batch(["signal", "zoom", "skype"]).with_columns(server_name=NAMES)
    return list(ended(flows, threshold=0.6))


@pytest.fixture(scope="module")
def expected(batches):
    return [row for batch in batches for row in event_rows(batch)]


def through(text, batches):
    (output,) = open_outputs([text], is_lossless=True)
    for batch in batches:
        output.put(batch)
    output.close()
    assert output.counts()["written"] == 6, output.fault


def test_zat_reads_the_zeek_log(tmp_path, batches, expected):
    reader = pytest.importorskip("zat.zeek_log_reader", reason="zat is not installed")
    path = tmp_path / "apptell.log"
    through(f"zeek:{path}", batches)
    found = list(reader.ZeekLogReader(str(path)).readrows())
    assert len(found) == 6
    for row, truth in zip(found, expected, strict=True):
        assert row["id.orig_h"] == truth["client_address"]
        assert (row["id.orig_p"], row["id.resp_p"]) == (truth["client_port"], 443)
        assert row["ts"].timestamp() == pytest.approx(truth["time"] / 1e9, abs=1e-5)
        assert row["duration"].total_seconds() == pytest.approx(
            (truth["end_time"] - truth["time"]) / 1e9, abs=1e-5
        )
        assert row["confidence"] == pytest.approx(truth["confidence"], abs=1e-5)
        assert row["orig_pkts"] == truth["packets_to_server"]
        assert row["app"] == (truth["app"] or "-")
        assert row["community_id"] == truth["community_id"]
        assert row["revised"] is False


def test_duckdb_reads_parquet_json_lines_and_csv_alike(tmp_path, batches, expected):
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    through(f"parquet:{tmp_path}/parquet?records=3", batches)
    through(f"jsonl:{tmp_path}/apps.jsonl", batches)
    through(f"csv:{tmp_path}/apps.csv", batches)
    assert len(list((tmp_path / "parquet").glob("*.parquet"))) == 2
    question = """
        select event, best_guess, count(*), sum(bytes_to_server + bytes_to_client),
               min(epoch_ns(time::timestamptz::timestamp_ns))
        from '{}' group by event, best_guess order by event, best_guess
    """
    answers = []
    for source in ("parquet/*.parquet", "apps.jsonl", "apps.csv"):
        with duckdb.connect() as database:
            database.execute("set timezone = 'UTC'")
            answers.append(database.sql(question.format(tmp_path / source)).fetchall())
    assert answers[0] == answers[1] == answers[2]
    assert sum(row[3] for row in answers[0]) == sum(
        truth["bytes_to_server"] + truth["bytes_to_client"] for truth in expected
    )
    assert {row[4] for row in answers[0]} <= {truth["time"] // 1000 * 1000 for truth in expected}


def test_pandas_reads_parquet_and_csv(tmp_path, batches, expected):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    through(f"parquet:{tmp_path}/parquet", batches)
    through(f"csv:{tmp_path}/apps.csv", batches)
    parquet = pandas.read_parquet(tmp_path / "parquet")
    csv = pandas.read_csv(tmp_path / "apps.csv", parse_dates=["time", "end_time"])
    assert list(parquet.columns) == list(csv.columns) == LIVE_RECORD.names
    for table in (parquet, csv):
        assert str(table["time"].dtype).endswith("UTC]")
        assert table["bytes_to_server"].tolist() == [row["bytes_to_server"] for row in expected]
        assert table["app"].isna().tolist() == [row["app"] is None for row in expected]
        times = table["time"].dt.tz_convert("UTC").dt.tz_localize(None)
        assert times.astype("datetime64[us]").astype("int64").tolist() == [
            row["time"] // 1000 for row in expected
        ]


EVE = {
    "timestamp": str, "flow_id": int, "event_type": str, "src_ip": str, "src_port": int,
    "dest_ip": str, "dest_port": int, "proto": str, "community_id": str,
    "flow.pkts_toserver": int, "flow.pkts_toclient": int, "flow.bytes_toserver": int,
    "flow.bytes_toclient": int, "flow.start": str, "flow.end": str, "flow.reason": str,
    "tls.sni": str, "tls.ja4": str,
}  # fmt: skip
"""Suricata's own names and types (its etc/schema.json), of those that we use."""
EVE_SCHEMAS = ("/usr/share/suricata/schema.json", "/etc/suricata/schema.json")
ECS = {
    "@timestamp", "ecs.version", "event.kind", "event.category", "event.type", "event.action",
    "event.dataset", "event.start", "event.end", "event.duration", "event.reason",
    "network.application", "network.transport", "network.type", "network.community_id",
    "network.packets", "network.bytes", "client.ip", "client.port", "client.packets",
    "client.bytes", "server.ip", "server.port", "server.packets", "server.bytes", "source.ip",
    "source.port", "source.packets", "source.bytes", "destination.ip", "destination.port",
    "destination.packets", "destination.bytes", "destination.domain", "tls.client.server_name",
    "observer.product", "observer.type", "observer.version",
}  # fmt: skip
"""Names of the Elastic Common Schema 8.11, of those that we use."""


def flat(value, path=""):
    if not isinstance(value, dict):
        return {path: value}
    found = {}
    for name, inner in value.items():
        found |= flat(inner, f"{path}.{name}" if path else name)
    return found


def test_eve_has_no_name_or_type_of_its_own_outside_app_id(tmp_path, batches):
    through(f"eve:{tmp_path}/eve.json", batches)
    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+[+-]\d{4}")
    for line in (tmp_path / "eve.json").read_text().splitlines():
        event = json.loads(line)
        assert event.pop("app_id")
        fields = flat(event)
        assert {name: type(value) for name, value in fields.items()}.items() <= EVE.items()
        assert {"timestamp", "event_type", "flow_id", "src_ip", "proto"} <= fields.keys()
        assert stamp.fullmatch(event["timestamp"])
        assert event["proto"] == "TCP"


def test_eve_fits_suricata_s_schema(tmp_path, batches):
    """All but ``app_id``, which is ours: Suricata's loggers add objects of their own names likewise."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    places = [os.environ.get("APPTELL_EVE_SCHEMA", ""), *EVE_SCHEMAS]
    schema = next((path for path in map(Path, filter(None, places)) if path.is_file()), None)
    if schema is None:
        pytest.skip(
            "Suricata's etc/schema.json is not here; APPTELL_EVE_SCHEMA names another place"
        )
    check = jsonschema.Draft7Validator(json.loads(schema.read_text(encoding="utf-8")))
    through(f"eve:{tmp_path}/eve.json", batches)
    for line in (tmp_path / "eve.json").read_text().splitlines():
        event = json.loads(line)
        assert event.pop("app_id")
        assert not [error.message for error in check.iter_errors(event)]


def test_ecs_has_no_name_of_its_own_outside_apptell(tmp_path, batches):
    through(f"ecs:{tmp_path}/ecs.json", batches)
    for line in (tmp_path / "ecs.json").read_text().splitlines():
        document = json.loads(line)
        assert document.pop("apptell")
        fields = flat(document)
        assert set(fields) <= ECS
        assert fields["event.category"] == ["network"]
        assert set(fields["event.type"]) <= {"connection", "end", "info", "start", "protocol"}
        assert fields["network.type"] == "ipv4"
        assert dt.datetime.fromisoformat(fields["@timestamp"]).tzinfo is not None


def test_prometheus_own_parser_reads_the_metrics(batches):
    parser = pytest.importorskip(
        "prometheus_client.parser", reason="prometheus_client is not installed"
    )
    metrics = Metrics()
    metrics.set_model('odd"\\\nname@0a1b')
    metrics.packets, metrics.bytes, metrics.active = 7, 700, 3
    metrics.kernel_drops, metrics.evicted, metrics.waiting = 5, 2, 9
    for batch in batches:
        metrics.count(Records(RecordFields(batch.schema), batch.columns, batch.num_rows))
    metrics.delays([0.001, 0.3])
    metrics.outputs = {
        'kafka:h"/t': {"written": 3, "dropped": 1, "errors": 0, "queued": 2, "delivered": 2}
    }
    families = {
        family.name: family for family in parser.text_string_to_metric_families(metrics.text())
    }
    assert {name: family.type for name, family in families.items()} == {
        "apptell_packets": "counter",
        "apptell_bytes": "counter",
        "apptell_kernel_drops": "counter",
        "apptell_flows": "counter",
        "apptell_flows_overloaded": "counter",
        "apptell_flows_evicted": "counter",
        "apptell_active_flows": "gauge",
        "apptell_decided_flows": "gauge",
        "apptell_waiting_flows": "gauge",
        "apptell_ready": "gauge",
        "apptell_verdicts": "counter",
        "apptell_decision_delay_seconds": "histogram",
        "apptell_confidence": "histogram",
        "apptell_output_records": "counter",
        "apptell_output_queued": "gauge",
        "apptell_model_info": "gauge",
    }
    assert all(family.documentation for family in families.values())
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["apptell_packets_total", ()] == 7
    assert samples["apptell_kernel_drops_total", ()] == 5
    assert samples["apptell_active_flows", ()] == 3
    assert samples["apptell_model_info", (("hash", "0a1b"), ("name", 'odd"\\\nname'))] == 1
    output = ("output", 'kafka:h"/t')
    assert samples["apptell_output_records_total", (output, ("state", "dropped"))] == 1
    assert samples["apptell_output_queued", (output,)] == 2
    assert samples["apptell_decision_delay_seconds_count", ()] == 2
    assert sum(v for (name, _), v in samples.items() if name == "apptell_verdicts_total") == 3


RSYSLOG = """
global(workDirectory="{folder}")
module(load="imudp") module(load="imtcp") module(load="imuxsock" SysSock.Use="off")
template(name="parsed" type="list" option.json="on") {{
  constant(value="{{\\"app\\":\\"") property(name="app-name")
  constant(value="\\",\\"pid\\":\\"") property(name="procid")
  constant(value="\\",\\"id\\":\\"") property(name="msgid")
  constant(value="\\",\\"version\\":\\"") property(name="protocol-version")
  constant(value="\\",\\"severity\\":\\"") property(name="syslogseverity-text")
  constant(value="\\",\\"facility\\":\\"") property(name="syslogfacility-text")
  constant(value="\\",\\"time\\":\\"") property(name="timereported" dateFormat="rfc3339")
  constant(value="\\",\\"text\\":\\"") property(name="msg")
  constant(value="\\"}}\\n")
}}
ruleset(name="all") {{ action(type="omfile" file="{folder}/got" template="parsed") }}
input(type="imudp" address="127.0.0.1" port="{port}" ruleset="all")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="all")
"""


@pytest.mark.parametrize("place", ["127.0.0.1:{}", "tcp://127.0.0.1:{}"])
@pytest.mark.skipif(shutil.which("rsyslogd") is None, reason="rsyslogd is not installed")
def test_rsyslogd_takes_the_messages_apart(tmp_path, batches, expected, place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    config = tmp_path / "rsyslog.conf"
    config.write_text(RSYSLOG.format(folder=tmp_path, port=port))
    daemon = subprocess.Popen(
        ["rsyslogd", "-n", "-f", str(config), "-i", str(tmp_path / "pid")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and daemon.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        through(f"syslog:{place.format(port)}", batches)
        got = tmp_path / "got"
        while time.monotonic() < until and not (
            got.exists() and len(got.read_text().splitlines()) >= 6
        ):
            time.sleep(0.1)
    finally:
        daemon.terminate()
        said, _ = daemon.communicate(timeout=60)
    messages = [json.loads(line) for line in got.read_text().splitlines()]
    assert len(messages) == 6, said
    for message, truth in zip(messages, expected, strict=True):
        assert (message["app"], message["id"]) == ("apptell", truth["event"])
        assert (message["version"], message["facility"], message["severity"]) == (
            "1",
            "local0",
            "info",
        )
        record = json.loads(message["text"].lstrip(" \ufeff"))
        assert record["community_id"] == truth["community_id"]
        told = dt.datetime.fromisoformat(message["time"])
        assert told.timestamp() == pytest.approx(truth["end_time"] / 1e9, abs=1e-5)


CLUSTER = """
import sys
import confluent_kafka
cluster = confluent_kafka.Producer(
    {"test.mock.num.brokers": 1, "bootstrap.servers": "", "log_level": 0}
)
(broker,) = cluster.list_topics(timeout=20).brokers.values()
print(f"{broker.host}:{broker.port}", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process is stopped by SIGSTOP")
def test_kafka_gets_every_record_once_though_the_broker_was_away(batches):
    """The cluster is librdkafka's mock, in a process of its own that is stopped for a while."""
    kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    broker = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        servers = broker.stdout.readline().strip()
        (output,) = open_outputs([f"kafka:{servers}/apps"], is_lossless=False)
        sent = 0
        for round_ in range(40):
            if round_ == 10:
                broker.send_signal(signal.SIGSTOP)
            if round_ == 30:
                broker.send_signal(signal.SIGCONT)
            for batch in batches:
                output.put(batch)
                sent += batch.num_rows
            time.sleep(0.25)
        output.close()
        counts = output.counts()
        assert (counts["delivered"], counts["undelivered"], counts["dropped"]) == (sent, 0, 0)
        consumer = kafka.Consumer(
            {"bootstrap.servers": servers, "group.id": "t", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe(["apps"])
        got, until = [], time.monotonic() + 120
        while len(got) < sent and time.monotonic() < until:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                got.append(json.loads(message.value()))
        extra = consumer.poll(1.0)
        consumer.close()
    finally:
        broker.send_signal(signal.SIGCONT)
        broker.communicate()
    assert len(got) == sent
    assert extra is None or extra.error() is not None
    assert {record["event"] for record in got} == {"verdict", "end"}
