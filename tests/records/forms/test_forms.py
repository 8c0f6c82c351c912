"""The list of output forms: the same for every verb and every transport, and open to other packages."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.errors import MissingError, UsageError
from apptell.records.forms import (
    BUILT_IN,
    LineForm,
    form_names,
    form_of_name,
    form_of_path,
)
from apptell.records.forms.csv import Csv, RawCsv
from apptell.records.forms.jsonl import _joined, json_lines
from apptell.records.schema import flow_record_schema, flow_records, verdict_records
from apptell.records.summary import SUMMARY_RECORD
from apptell.records.writers import open_writer
from apptell.service import open_outputs
from apptell.testing import flow_batch
from tests.ended import ended
from tests.records.fakes import verdicts

FLOWS = flow_batch(["signal", "zoom"])
PLUG_IN = '''
from apptell.records.forms import LineForm

class Brief(LineForm):
    """Server and app of each record."""

    name = "brief"
    suffixes = (".brief",)

    def lines(self, batch):
        servers = batch.column("server_address").to_pylist()
        apps = batch.column("app").to_pylist() if "app" in batch.schema.names else servers
        return [f"{server} {app}" for server, app in zip(servers, apps)]

FORM = Brief()
'''


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a package installed in it that adds the form ``brief`` and two that do not load."""
    (tmp_path / "brief_form.py").write_text(PLUG_IN)
    info = tmp_path / "brief_form-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brief-form\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[apptell.output_forms]\nbrief = brief_form:FORM\nbroken = no_such_module:FORM\n"
        "odd = brief_form:PLUG\ncsv = brief_form:FORM\n"
    )
    return tmp_path


def test_a_form_of_another_package_works_in_identify_flows_and_live(
    installed: Path, tmp_path: Path
) -> None:
    from apptell.testing import app_capture, write_pcap

    capture = write_pcap(tmp_path / "a.pcap", app_capture(["signal"], 1))
    paths = os.pathsep.join([str(installed), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])

    def lines(*arguments: str) -> list[str]:
        command = [sys.executable, "-m", "apptell.cli", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    told = lines("identify", str(capture), "--format", "brief")
    assert told[0].split()[0] == "203.0.113.10"
    lines("identify", str(capture), "-o", str(tmp_path / "a.brief"))
    assert (tmp_path / "a.brief").read_text().splitlines() == told
    assert lines("flows", str(capture), "--format", "brief") == ["203.0.113.10 203.0.113.10"]
    live = ("live", "--replay", str(capture), "--speed", "max", "--out", "brief:-")
    assert lines(*live) == told * 2  # a verdict and an end


def test_a_form_that_cannot_be_loaded_is_named_and_built_in_names_stay(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed)
    assert form_names()[-3:] == ["brief", "broken", "odd"]
    assert form_of_name("csv") in BUILT_IN
    assert "raw-csv" not in form_names()  # --raw-csv, which some settings files may not set
    for name in ("broken", "odd"):
        with pytest.raises(MissingError, match=f"output form {name} .* cannot be loaded"):
            form_of_name(name)


def test_names_and_endings_lead_to_one_form_each() -> None:
    assert len({form.name for form in BUILT_IN}) == len(BUILT_IN)
    suffixes = [suffix for form in BUILT_IN for suffix in form.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert form_of_path(Path("A.CSV")) is form_of_name("csv")
    assert form_of_path(Path("A.xyz")) is None


@pytest.mark.parametrize("name", [form.name for form in BUILT_IN if isinstance(form, LineForm)])
def test_a_form_writes_a_line_for_each_verdict_and_each_flow(name: str, tmp_path: Path) -> None:
    form = form_of_name(name)
    assert isinstance(form, LineForm)
    for batch in (
        verdict_records(verdicts(0.9, 0.5)),
        flow_records(FLOWS, ["core", "names"]),
        flow_records(FLOWS, ["core"]),
    ):
        with open_writer(tmp_path / "out", form, batch.schema) as writer:
            writer.write(batch)
        lines = (tmp_path / "out").read_text().splitlines()
        header = form.header(batch.schema).splitlines()
        assert lines[:1] == header[:1] or not header
        assert lines[len(header) :] == form.lines(batch)
        assert len(form.lines(batch)) == 2


def test_flows_and_verdicts_have_the_same_names_in_forms_with_fields_of_their_own() -> None:
    eve = form_of_name("eve")
    assert isinstance(eve, LineForm)
    flow = json.loads(eve.lines(flow_records(FLOWS, ["core"]))[0])
    verdict = json.loads(eve.lines(verdict_records(verdicts(0.9)))[0])
    assert (flow["event_type"], verdict["event_type"]) == ("flow", "app_id")
    for name in ("src_ip", "dest_port", "proto", "community_id", "timestamp"):
        assert flow[name] == verdict[name]
    assert flow["flow"]["reason"] == "closed"


def test_connection_ids_are_text_in_json() -> None:
    flows = FLOWS.with_columns(connection_id=[2**64 - 1, 2**53 + 1])
    for name, read in (
        ("jsonl", lambda row: row["connection_id"]),
        ("eve", lambda row: row["app_id"]["connection_id"]),
        ("ecs", lambda row: row["apptell"]["connection_id"]),
    ):
        form = form_of_name(name)
        assert isinstance(form, LineForm)
        (batch, _) = ended(flows)
        found = [read(json.loads(line)) for line in form.lines(batch)]
        assert found == ["18446744073709551615", "9007199254740993"], name


def test_a_summary_has_no_eve_form(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="the form eve can write verdicts and flows"),
        open_writer(tmp_path / "out", form_of_name("eve"), SUMMARY_RECORD),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parquet:kafka:h:1/t", "parquet can be written only to files, not to kafka"),
        ("csv:kafka:h:1/t", "csv needs a header"),
        ("zeek:syslog:h", "zeek needs a header"),
        ("xml:x", "with FORM one of jsonl, csv, parquet, eve, .*kafka, .*syslog, unix"),
        ("flow_record:", "is not FORM:PLACE"),
    ],
)
def test_a_form_that_does_not_go_there_is_wrong_usage(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_outputs([text], is_lossless=True)


def test_the_columns_of_flow_records_are_those_of_the_flow_schema() -> None:
    assert flow_records(FLOWS, ["core"]).schema == flow_record_schema(["core"])


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_no_text_in_csv_is_a_formula_unless_it_is_raw(first: str) -> None:
    text = f"{first}cmd|' /C calc'!A0"
    flows = FLOWS.with_columns(server_name=[text, "plain"], client_ttl=[1, 2])
    batch = flow_records(flows, ["core", "names"])
    for form, expected in ((Csv(), f"'{text}"), (RawCsv(), text)):
        content = form.header(batch.schema) + form.text(batch)
        rows = list(csv.DictReader(io.StringIO(content, newline="")))
        assert [row["server_name"] for row in rows] == [expected, "plain"]


def test_line_ends_in_a_csv_cell_are_quoted() -> None:
    form = form_of_name("csv")
    assert isinstance(form, LineForm)
    batch = pa.record_batch({"a": ["x\ny", "x\ry", 'x"y'], "b": ["1", "2", "3"]})
    rows = list(csv.reader(io.StringIO(form.text(batch), newline="")))
    assert rows == [["x\ny", "1"], ["x\ry", "2"], ['x"y', "3"]]


def test_negative_numbers_in_csv_stay_numbers() -> None:
    form = form_of_name("csv")
    assert isinstance(form, LineForm)
    (line,) = form.lines(pa.record_batch({"a": [-1], "b": [-0.5], "c": ["-"]}))
    assert line == "-1,-0.5,'-"


_TEXTS = (
    st.none()
    | st.text(max_size=8)
    | st.sampled_from(["", '"', "\\", "\x00\x1f\x7f", "\u2028é", "a/b"])
)
_MOMENTS = st.none() | st.integers(-(2**61), 2**62)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(_TEXTS, _MOMENTS, st.floats() | st.none(), st.integers(0, 2**64 - 1)), min_size=1
    )
)
def test_joined_columns_are_the_lines_of_single_records(rows):
    texts, moments, numbers, large = zip(*rows, strict=True)
    batch = pa.record_batch(
        {
            "text": pa.array(texts, pa.string()),
            "time": pa.array(moments, pa.int64()).cast(pa.timestamp("ns", "UTC")),
            "number": pa.array(numbers, pa.float64()),
            "id": pa.array(large, pa.uint64()),
            "count": pa.array([value % 1000 for value in large], pa.int32()),
            "flag": pa.array([None if value % 3 else bool(value % 2) for value in large]),
            "list": pa.array([None if value % 3 else ["a", '"'] for value in large], pa.list_(pa.string())),
            "nothing": pa.nulls(len(rows), pa.string()),
        }
    )  # fmt: skip
    columns = [
        (f'{", " if i else "{"}"{name}": ', batch.column(name))
        for i, name in enumerate(batch.schema.names)
    ]
    alone = [line for row in range(len(batch)) for line in json_lines(batch.slice(row, 1))]
    assert _joined(columns) == alone
    assert (
        _joined([(head, column.slice(len(rows) // 2)) for head, column in columns])
        == alone[len(rows) // 2 :]
    )
