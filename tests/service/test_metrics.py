"""Counters shown as Prometheus reads them, and health pages that tell ready from alive."""

import re
import socket
import struct
import time
import urllib.error
import urllib.request

import pytest

from apptell.errors import OutputError, UsageError
from apptell.records.schema import RecordFields, Records
from apptell.service import metrics as module
from apptell.service.metrics import (
    MOST_CONNECTIONS,
    Histogram,
    Metrics,
    MetricsServer,
    parse_address,
)
from apptell.testing import flow_batch
from tests.ended import ended

_SAMPLE = re.compile(
    r'[a-z_]+(\{[a-z]+="([^"\\\n]|\\.)*"(,[a-z]+="([^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+'
)


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return answer.status, answer.read().decode()


def samples(text):
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(_SAMPLE.fullmatch(line) for line in lines), lines
    return dict(line.rsplit(" ", 1) for line in lines)


def test_a_histogram_counts_up_to_and_with_each_bound():
    histogram = Histogram((1.0, 2.0))
    histogram.add([0.5, 1.0, 1.5, 2.0, 9.0])
    assert histogram.lines("x") == [
        'x_bucket{le="1.0"} 2', 'x_bucket{le="2.0"} 4', 'x_bucket{le="+Inf"} 5', "x_sum 14.0", "x_count 5",
    ]  # fmt: skip


def test_the_text_has_every_counter_and_a_model_by_name():
    metrics = Metrics()
    metrics.set_model('a"b\\c@1')
    for batch in ended(flow_batch(["signal", "zoom"])):
        metrics.count(Records(RecordFields(batch.schema), batch.columns, batch.num_rows))
    metrics.packets = 7
    metrics.outputs = {"jsonl:-": {"written": 3, "queued": 2}}
    found = samples(metrics.text())
    assert found["apptell_packets_total"] == "7"
    assert found['apptell_model_info{name="a\\"b\\\\c",hash="1"}'] == "1"
    assert found['apptell_output_queued{output="jsonl:-"}'] == "2"
    assert found['apptell_output_records_total{output="jsonl:-",state="written"}'] == "3"
    assert (
        sum(int(n) for name, n in found.items() if name.startswith("apptell_verdicts_total")) == 2
    )
    assert found["apptell_confidence_count"] == "2"


def test_the_pages_say_alive_and_ready_apart():
    metrics = Metrics()
    with MetricsServer(("127.0.0.1", 0), metrics) as server:
        assert get(server.port, "/healthz") == (200, "ok\n")
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            get(server.port, "/readyz")
        refused.value.close()
        metrics.is_ready = True
        assert get(server.port, "/readyz") == (200, "ready\n")
        assert "apptell_ready 1" in get(server.port, "/metrics")[1]
        with pytest.raises(urllib.error.HTTPError, match="404") as unknown:
            get(server.port, "/")
        unknown.value.close()


def test_a_port_that_is_taken_is_said_so():
    with (
        MetricsServer(("127.0.0.1", 0), Metrics()) as server,
        pytest.raises(OutputError, match=r"127\.0\.0\.1:.*in use"),
    ):
        MetricsServer(("127.0.0.1", server.port), Metrics())


def test_addresses_are_on_loopback_unless_told_otherwise():
    assert parse_address("9109") == ("127.0.0.1", 9109)
    assert parse_address("0.0.0.0:80") == ("0.0.0.0", 80)
    assert parse_address("[::1]:80") == ("::1", 80)
    for wrong in ("", "host", "host:", "1:99999"):
        with pytest.raises(UsageError):
            parse_address(wrong)


def test_more_connections_than_the_limit_are_closed_and_free_places_are_used_again(monkeypatch):
    with MetricsServer(("127.0.0.1", 0), Metrics()) as server:
        held = [
            socket.create_connection(("127.0.0.1", server.port)) for _ in range(MOST_CONNECTIONS)
        ]
        for each in held:
            each.sendall(b"GET /metrics")  # never finished
        deadline = time.monotonic() + 120
        while True:  # the server takes connections in its own time
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as one_more:
                one_more.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                try:
                    if one_more.recv(100) == b"":
                        break
                except ConnectionResetError:
                    break
            assert time.monotonic() < deadline
        for each in held:
            each.close()
        while time.monotonic() < deadline:
            try:
                assert get(server.port, "/healthz") == (200, "ok\n")
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
        else:
            raise AssertionError("no place became free")


def send_forever(client):
    while True:
        client.sendall(b"x")
        time.sleep(0.05)


def test_a_client_that_sends_its_request_forever_is_cut_off(monkeypatch):
    monkeypatch.setattr(module, "CONNECTION_LIMIT_S", 0.3)
    with (
        MetricsServer(("127.0.0.1", 0), Metrics()) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow,
    ):
        slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_forever(slow)


def test_a_client_that_breaks_off_leaves_no_traceback_and_no_version_is_shown(capfd):
    with MetricsServer(("127.0.0.1", 0), Metrics()) as server:
        broken = socket.create_connection(("127.0.0.1", server.port))
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        broken.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        broken.close()  # with a reset
        with urllib.request.urlopen(
            f"http://127.0.0.1:{server.port}/healthz", timeout=20
        ) as answer:
            assert answer.headers["Server"] == "apptell"
    assert capfd.readouterr().err == ""
