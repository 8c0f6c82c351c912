"""Captures that are sent: the same verdicts as for files, and a clear answer to everything that is not one."""

from __future__ import annotations

import csv
import gzip
import io
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

pytest.importorskip("starlette")
import apptell
from apptell.records.schema import LIVE_RECORD
from apptell.testing import app_capture, pcap_bytes
from tests.web.conftest import Running, desk_of, send_capture
from tests.web.test_guard import TOKEN, raw
from tests.web.test_now_page import SAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALL = pcap_bytes(app_capture(["signal", "zoom"], 2))
MOST = 2_000_000


@pytest.fixture(scope="module")
def open_desk(start: Callable[..., Running]) -> Running:
    return start(desk=desk_of(most_bytes=MOST))


@pytest.fixture(scope="module")
def sent(open_desk: Running) -> dict[str, Any]:
    """The embedded sample, sent and identified."""
    return send_capture(open_desk, SAMPLE.read_bytes(), SAMPLE.name)


def which(flow: dict[str, Any]) -> str:
    from urllib.parse import urlencode

    return urlencode({name: flow[name] for name in ("community_id", "connection_id", "part")})


def test_a_capture_gets_the_verdicts_that_identify_gives(
    open_desk: Running, sent: dict[str, Any]
) -> None:
    assert sent["state"] == "done"
    assert sent["bytes"] == SAMPLE.stat().st_size
    expected = {
        (v.community_id, v.start_ns): (v.app, v.service, v.evidence, v.outcome)
        for v in apptell.identify(SAMPLE)
    }
    place = f"/api/uploads/{sent['id']}"
    table = pq.read_table(io.BytesIO(open_desk.ask(f"{place}/flows.parquet").body))
    assert table.schema.equals(LIVE_RECORD)
    starts = table.column("time").cast("int64").to_pylist()
    found = {
        (row["community_id"], start): tuple(
            row[n] for n in ("app", "service", "evidence", "outcome")
        )
        for row, start in zip(table.to_pylist(), starts, strict=True)
    }
    assert found == expected
    assert set(table.column("capture").to_pylist()) == {SAMPLE.name}
    assert sent["flows"] == len(expected)


def test_it_is_asked_as_the_history_is(open_desk: Running, sent: dict[str, Any]) -> None:
    place = f"/api/uploads/{sent['id']}"
    sums = open_desk.ask(f"{place}/overview?by=category").json
    assert sums["total"]["flows"] == sent["flows"]
    assert {"messaging", "video"} <= {group["key"] for group in sums["groups"]}
    found = open_desk.ask(f"{place}/flows?q=instagram&sort=bytes&limit=1").json
    assert found["total"] > 1
    assert found["flows"][0]["app"] == "instagram"
    lines = open_desk.ask(f"{place}/flows.jsonl?app=instagram").body.decode().splitlines()
    rows = list(
        csv.DictReader(io.StringIO(open_desk.ask(f"{place}/flows.csv?app=instagram").body.decode()))
    )
    assert [json.loads(line)["community_id"] for line in lines] == [
        row["community_id"] for row in rows
    ]
    assert len(rows) == found["total"]
    records = open_desk.ask(f"{place}/flow?{which(found['flows'][0])}").json["records"]
    assert [record["event"] for record in records] == ["verdict", "end"]


def test_a_flow_has_its_reason_its_picture_and_its_packets(
    open_desk: Running, sent: dict[str, Any], tmp_path: Path
) -> None:
    place = f"/api/uploads/{sent['id']}"
    flow = open_desk.ask(f"{place}/flows?app=netflix&limit=1").json["flows"][0]
    found = open_desk.ask(f"{place}/reason?{which(flow)}").json
    expected = next(
        each
        for each in apptell.explain(SAMPLE, flow=flow["community_id"])
        if str(each.verdict.connection_id) == flow["connection_id"]
    )
    assert found["explanation"]["reason"] == expected.summary
    assert [step["decided"] for step in found["explanation"]["steps"]][-1]
    whole = apptell.read_flows(SAMPLE, apptell.FlowOptions(transports=(6, 17))).to_flows()
    (row,) = (
        i
        for i, number in enumerate(whole.column("connection_id").to_pylist())
        if str(number) == flow["connection_id"]
    )
    assert found["lengths"] == whole.column("sequence_length").to_pylist()[row]
    assert found["picture"].startswith("data:image/png;base64,")
    assert len(found["segments"]) == 5
    packets = open_desk.ask(f"{place}/packets.pcapng?{which(flow)}")
    assert packets.headers["content-disposition"] == 'attachment; filename="apptell-flow.pcapng"'
    (tmp_path / "flow.pcapng").write_bytes(packets.body)
    again = apptell.read_flows(
        tmp_path / "flow.pcapng", apptell.FlowOptions(transports=(6, 17))
    ).to_flows()
    assert again.column("community_id").to_pylist() == [flow["community_id"]]
    total = flow["packets_to_server"] + flow["packets_to_client"]
    assert again.column("packets_to_server")[0].as_py() + again.column("packets_to_client")[
        0
    ].as_py() == (total)
    assert b"app=netflix" in packets.body
    assert open_desk.ask(f"{place}/reason?community_id=1:none").status == 404


def test_what_precedes_damage_is_shown(open_desk: Running) -> None:
    found = send_capture(open_desk, SMALL[:-40])
    assert found["state"] == "done"
    assert "phone.pcap" in found["damage"]
    assert found["flows"] == 4


def test_large_bodies_are_refused_whatever_they_say_of_their_length(open_desk: Running) -> None:
    head = b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    said = raw(open_desk, head + b"Content-Length: %d\r\n\r\n" % (MOST + 1))
    assert said.split()[1] == b"413"
    assert b"2,000,000" in said
    chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"
    endless = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 40
    assert raw(open_desk, endless).split()[1] == b"413"
    short = raw(open_desk, head + b"Content-Length: 1000\r\n\r\nhello", wait_s=0.5)
    assert short == b"", "it waits for the rest, and the connection ends"
    until = time.monotonic() + 60
    uploads = open_desk.site.captures()._uploads
    while time.monotonic() < until and not all(each.is_over for each in uploads.values()):
        time.sleep(0.1)
    assert all(each.is_over for each in uploads.values()), "none is left of those that were cut off"


def test_a_body_that_drips_is_not_taken(
    open_desk: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apptell.web import upload_api

    monkeypatch.setattr(upload_api, "GRACE_S", 0.2)
    with socket.create_connection(("127.0.0.1", open_desk.port), timeout=60) as client:
        client.sendall(
            b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
        )
        client.settimeout(0.2)
        got = b""
        until = time.monotonic() + 60
        while b"408" not in got and time.monotonic() < until:
            try:
                client.sendall(b"x")
                got += client.recv(1000)
            except TimeoutError:
                pass
    assert b"too slowly" in got or got.split()[1] == b"408"


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}, {"Origin": "null"}],
)
def test_no_other_site_sends_or_deletes(
    open_desk: Running, sent: dict[str, Any], headers: dict[str, str]
) -> None:
    assert open_desk.ask("/api/uploads", "POST", SMALL, **headers).status == 403
    assert open_desk.ask(f"/api/uploads/{sent['id']}", "DELETE", **headers).status == 403


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/plain"])
def test_a_form_is_not_a_capture(open_desk: Running, kind: str) -> None:
    answer = open_desk.ask("/api/uploads", "POST", SMALL, Content_Type=kind)
    assert answer.status == 415
    assert "application/octet-stream" in answer.json["error"]


def test_a_token_is_needed_where_there_is_one(start: Callable[..., Running]) -> None:
    server = start(token=TOKEN, desk=desk_of())
    assert server.ask("/api/uploads", "POST", SMALL).status == 401
    assert server.ask("/api/uploads/x").status == 401
    assert server.ask("/try").headers["location"] == "/login?next=/try"


def test_a_server_without_it_says_so(start: Callable[..., Running]) -> None:
    server = start()
    for path in ("/try", "/api/uploads/x"):
        assert server.ask(path).status == 404
    assert (
        server.ask("/api/uploads", "POST", SMALL)
        .json["error"]
        .startswith("this server takes no captures")
    )


def test_what_is_no_capture_is_said(open_desk: Running) -> None:
    assert open_desk.ask("/api/uploads", "POST", b"").status == 400
    found = send_capture(open_desk, gzip.compress(bytes(500_000)), "a.pcap")
    assert found["state"] == "failed"
    assert found["fault"].startswith("a.pcap: not a known capture format")
    assert not open_desk.site.captures().find(found["id"]).folder.exists()
    answer = open_desk.ask(f"/api/uploads/{found['id']}/flows")
    assert (answer.status, answer.json["error"]) == (404, found["fault"])


def test_captures_are_read_one_by_one_and_removed_at_any_time_while_everything_answers(
    open_desk: Running,
) -> None:
    numbers = [open_desk.ask("/api/uploads", "POST", SMALL).json["id"] for _ in range(3)]
    desk = open_desk.site.captures()
    uploads = [desk.find(number) for number in numbers]
    states: list[list[str]] = []
    until = time.monotonic() + 300
    while time.monotonic() < until and not all(each.is_over for each in uploads):
        states.append([each.state for each in uploads])
        assert open_desk.ask("/healthz").status == 200
        if uploads[1].state == "reading" and not uploads[1].is_removed.is_set():
            assert open_desk.ask(f"/api/uploads/{numbers[1]}", "DELETE").status == 200
        time.sleep(0.02)
    assert all(each.count("reading") <= 1 for each in states)
    assert [each.state for each in uploads] == ["done", "failed", "done"]
    assert "its result was removed" in uploads[1].fault
    assert uploads[0].folder.is_dir()
    assert open_desk.ask(f"/api/uploads/{numbers[0]}", "DELETE").json["state"] == "removed"
    assert not any(each.folder.exists() for each in uploads[:2])
    for path in ("", "/flows", "/reason?community_id=1:x"):
        answer = open_desk.ask(f"/api/uploads/{numbers[0]}{path}")
        assert answer.status == 404
        assert "results are deleted 30 minutes after" in answer.json["error"]
