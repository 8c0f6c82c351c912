"""The JSON API answers with the records themselves, and says in one sentence what is wrong."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from apptell.records.forms.jsonl import json_lines
from apptell.records.schema import LIVE_RECORD
from tests.history.rows import flow, write_records
from tests.web.conftest import Running


def test_a_record_is_the_same_as_in_jsonl(server: Running) -> None:
    found = server.ask("/api/flow?community_id=1:flow6%2B/%3D&part=0").json["records"]
    batch = server.site.records().flow("1:flow6+/=")
    assert found == [json.loads(line) for line in json_lines(batch)]
    assert [record["event"] for record in found] == ["verdict", "end"]
    assert found[0]["connection_id"] == str((1 << 63) + 6), "too large for a double"


def test_a_table_of_flows_is_filtered_sorted_and_paged(server: Running) -> None:
    found = server.ask("/api/flows?sort=bytes&limit=2&offset=1").json
    assert [record["client_port"] for record in found["flows"]] == [40_008, 40_007]
    assert (found["total"], found["limit"], found["offset"]) == (9, 2, 1)
    assert server.ask("/api/flows?app=zoom&app=").json["total"] == 3
    assert server.ask("/api/flows?q=fonts").json["total"] == 1
    assert server.ask("/api/flows?from=2026-11-18T11:08:20Z").json["total"] == 3
    assert (
        server.ask("/api/flows?from=2026-11-18T12:08:20%2B01:00&to=2026-11-18T11:09:00Z").json[
            "total"
        ]
        == 1
    )
    assert server.ask("/api/flows?last=5m").json["total"] == 0


def test_an_overview_has_series_that_add_up_to_the_groups(server: Running) -> None:
    found = server.ask("/api/overview?by=app&series=1").json
    assert [series["key"] for series in found["series"]] == ["zoom", None]
    assert found["series"][1]["is_rest"]
    assert sum(sum(series["bytes"]) for series in found["series"]) == found["total"]["bytes"]
    assert len(found["times"]) == len(found["series"][0]["bytes"])
    assert [(group["key"], group["label"], group["flows"]) for group in found["groups"]] == [
        ("zoom", "Zoom", 1), ("signal", "Signal", 6), (None, None, 2),
    ]  # fmt: skip


def test_downloads_hold_the_same_flows_as_the_table(server: Running) -> None:
    answer = server.ask("/api/flows.parquet?app=signal")
    assert answer.headers["content-disposition"] == 'attachment; filename="apptell-flows.parquet"'
    table = pq.read_table(io.BytesIO(answer.body))
    assert table.schema.equals(LIVE_RECORD)
    assert table.num_rows == 6
    rows = list(csv.DictReader(io.StringIO(server.ask("/api/flows.csv?app=signal").body.decode())))
    assert [row["community_id"] for row in rows] == table.column("community_id").to_pylist()


def test_a_cell_of_the_csv_is_no_formula(start: Callable[..., Running], tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", [flow(1, server_name="=cmd|'/c calc'!A1")])
    (row,) = csv.DictReader(io.StringIO(start(tmp_path).ask("/api/flows.csv").body.decode()))
    assert row["server_name"] == "'=cmd|'/c calc'!A1"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("flows?sort=port", "sort='port' is none of time"),
        ("flows?limit=501", "limit='501' is not a number from 0 to 500"),
        ("flows?limit=-1", "limit='-1'"),
        ("flows?limit=%D9%A3", "is not a number"),
        ("flows?offset=99999999", "offset="),
        ("flows?from=yesterday", "'yesterday' is not a time such as"),
        ("flows?from=2026-13-01T00:00:00Z", "is not a time"),
        ("flows?from=9999-01-01T00:00:00Z", "too late"),
        ("flows?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from is not before to"),
        ("flows?last=5y", "last='5y' is not a time such as 24h"),
        (f"flows?q={'x' * 201}", "at most 200 characters"),
        (f"flows?app={'x' * 201}", "over 200 characters"),
        ("overview?by=port", "by='port' is none of app"),
        ("overview?steps=5000", "steps='5000'"),
        ("flow", "community_id names the flow"),
        ("flow?community_id=1:x&connection_id=99999999999999999999999", "connection_id="),
    ],
)
def test_wrong_parameters_are_answered_with_a_sentence(
    server: Running, query: str, said: str
) -> None:
    answer = server.ask(f"/api/{query}")
    assert answer.status == 400
    assert said in answer.json["error"]


def test_status_counts_records_and_names_unreadable_files(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    write_records(tmp_path / "a.parquet", [flow(1)])
    (tmp_path / "b.parquet").write_text("hello")
    found = start(tmp_path).ask("/api/status").json
    assert (found["records"], found["files"], found["first"]) == (
        1,
        1,
        "2026-11-18T11:06:40.000000Z",
    )
    assert [each["name"] for each in found["unreadable"]] == ["b.parquet"]


def test_a_server_without_a_history_says_how_to_get_one(start: Callable[..., Running]) -> None:
    server = start()
    answer = server.ask("/api/flows")
    assert (answer.status, answer.json["error"]) == (
        404, "this server shows no history; start it with --records FOLDER",
    )  # fmt: skip
    assert server.ask("/api/status").json["has_history"] is False


def test_health_and_metrics_are_on_the_same_port(server: Running) -> None:
    prometheus = pytest.importorskip("prometheus_client.parser")
    assert server.ask("/healthz").body == b"ok\n"
    assert server.ask("/readyz").body == b"ready\n"
    answer = server.ask("/metrics")
    families = prometheus.text_string_to_metric_families(answer.body.decode())
    values = {sample.name: sample.value for family in families for sample in family.samples}
    assert (values["apptell_history_records"], values["apptell_history_files"]) == (18, 2)


def test_the_openapi_document_is_valid_and_describes_what_is_answered(server: Running) -> None:
    document = server.ask("/openapi.json").json
    validate = pytest.importorskip("openapi_spec_validator").validate
    validate(document)
    jsonschema = pytest.importorskip("jsonschema")
    for path, name in (
        ("/api/status", "Status"),
        ("/api/overview", "Overview"),
        ("/api/flows", "Flows"),
    ):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(server.ask(path).json)
    assert {"/api/flows.csv", "/api/flow"} <= set(document["paths"])
    for path in document["paths"]:
        if "{" not in path and "get" in document["paths"][path]:
            answer = server.ask(path)
            is_there = answer.status in (200, 400) or b"start it with" in answer.body
            assert is_there, path
