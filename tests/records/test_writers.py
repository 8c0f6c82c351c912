import csv
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apptell.errors import CaptureError, ModelError, OutputError, UsageError
from apptell.records import writers
from apptell.records.forms import BUILT_IN, form_of_name
from apptell.records.forms.jsonl import json_lines
from apptell.records.schema import (
    VERDICT_RECORD,
    flow_record_schema,
    flow_records,
    verdict_records,
)
from apptell.records.text_table import FLOW_COLUMNS, VERDICT_COLUMNS
from apptell.records.values import plain_values
from apptell.records.writers import choose_form, open_writer
from apptell.testing import flow_batch

from .fakes import verdicts


def _write(path: Path, form: str, *batches: pa.RecordBatch) -> Path:
    with open_writer(path, form_of_name(form), VERDICT_RECORD, VERDICT_COLUMNS) as out:
        for batch in batches:
            out.write(batch)
    return path


def test_every_format_holds_the_same_records(tmp_path: Path) -> None:
    batches = [verdict_records(verdicts(0.9, 0.5)), verdict_records(verdicts(0.99))]
    lines = _write(tmp_path / "v.jsonl", "jsonl", *batches).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    table = pq.read_table(_write(tmp_path / "v.parquet", "parquet", *batches))
    with _write(tmp_path / "v.csv", "csv", *batches).open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert len(rows) == len(cells) == table.num_rows == 3
    assert list(rows[0]) == list(cells[0]) == table.schema.names == VERDICT_RECORD.names
    assert [row["app"] for row in rows] == table["app"].to_pylist() == ["signal", None, "signal"]
    assert [cell["app"] for cell in cells] == ["signal", "", "signal"]
    assert (
        [row["confidence"] for row in rows] == table["confidence"].to_pylist() == [0.9, 0.5, 0.99]
    )
    assert [float(cell["confidence"]) for cell in cells] == [0.9, 0.5, 0.99]


def test_a_record_reads_as_people_expect() -> None:
    (row,) = verdict_records(verdicts(0.9)).to_pylist()
    assert row["protocol"] == "tcp"
    assert row["threshold"] == 0.85  # not 0.8500000238418579
    assert row["model"] == "m@1"


def test_json_times_are_rfc_3339_in_utc_to_the_microsecond(tmp_path: Path) -> None:
    path = _write(tmp_path / "v.jsonl", "jsonl", verdict_records(verdicts(0.9)))
    row = json.loads(path.read_text())
    assert row["time"] == "2023-11-14T22:13:20.000000Z"
    assert row["end_time"] == "2023-11-14T22:13:20.050000Z"


@pytest.mark.oracle
def test_pandas_reads_what_was_written(tmp_path: Path) -> None:
    batch = verdict_records(verdicts(0.9, 0.3))
    frame = pd.read_csv(_write(tmp_path / "v.csv", "csv", batch), parse_dates=["time"])
    assert frame["time"].iloc[0] == pd.Timestamp("2023-11-14T22:13:20Z")
    lines = pd.read_json(_write(tmp_path / "v.jsonl", "jsonl", batch), lines=True)
    assert lines["best_guess"].tolist() == ["signal", "zoom"]
    parquet = pd.read_parquet(_write(tmp_path / "v.parquet", "parquet", batch))
    assert parquet["time"].iloc[0] == pd.Timestamp("2023-11-14T22:13:20Z")


def test_no_records_leave_a_file_that_can_be_read(tmp_path: Path) -> None:
    assert _write(tmp_path / "v.jsonl", "jsonl").read_text() == ""
    assert _write(tmp_path / "v.csv", "csv").read_text().startswith("time,community_id,")
    assert pq.read_table(_write(tmp_path / "v.parquet", "parquet")).num_rows == 0


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_records_before_an_error_are_kept_and_the_error_goes_on(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"v.{form}"

    def damaged() -> None:
        with open_writer(path, form_of_name(form), VERDICT_RECORD) as out:
            out.write(verdict_records(verdicts(0.9)))
            raise CaptureError("a.pcap: cut")

    with pytest.raises(CaptureError, match=r"a\.pcap: cut"):
        damaged()
    assert path.stat().st_size > 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"v\.csv: No such file or directory"):
        _write(tmp_path / "none" / "v.csv", "csv")


def test_a_path_that_is_a_folder_cannot_be_written_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "v.csv").mkdir()
    with pytest.raises(OutputError, match=r"v\.csv: Is a directory"):
        _write(tmp_path / "v.csv", "csv", verdict_records(verdicts(0.9)))
    assert [file.name for file in tmp_path.iterdir()] == ["v.csv"]


@pytest.mark.parametrize(
    ("wished", "path", "terminal", "form"),
    [
        (None, None, True, "table"),
        (None, None, False, "jsonl"),
        ("csv", None, True, "csv"),
        (None, Path("a.parquet"), True, "parquet"),
        (None, Path("a.CSV"), True, "csv"),
        ("csv", Path("a.jsonl"), False, "csv"),
    ],
)
def test_the_form_is_the_wish_else_the_ending_else_the_terminal_s(
    wished: str | None, path: Path | None, terminal: bool, form: str
) -> None:
    assert choose_form(wished, path, terminal=terminal).name == form


@pytest.mark.parametrize(
    ("wished", "path", "message"),
    [
        ("xml", None, "unknown output form 'xml'; available: table, jsonl, csv, parquet"),
        ("parquet", None, "parquet cannot be written to standard output"),
        (None, Path("a.xyz"), r"a\.xyz: no output form has this ending"),
    ],
)
def test_a_form_that_cannot_be_is_wrong_usage(
    wished: str | None, path: Path | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        choose_form(wished, path, terminal=False)


def test_flow_records_hold_the_groups_asked_for_and_no_payload_else(tmp_path: Path) -> None:
    flows = flow_batch(["zoom", None])
    record = flow_records(flows, ["core", "names"])
    assert "segment_bytes" not in record.schema.names
    assert record.schema == flow_record_schema(["core", "names"])
    assert "segment_bytes" in flow_records(flows, ["segments"]).schema.names


def test_bytes_lists_and_maps_have_a_form_in_json_and_csv(tmp_path: Path) -> None:
    groups = ["segments", "labels"]
    batch = flow_records(flow_batch(["zoom"], messages=[[(True, b"\x16\x03")]]), groups)
    for form in ("jsonl", "csv"):
        with open_writer(tmp_path / form, form_of_name(form), batch.schema) as writer:
            writer.write(batch)
    row = json.loads((tmp_path / "jsonl").read_text())
    assert row["segment_bytes"] == ["1603"]
    assert row["groups"] == {"source": "s0"}
    (cell,) = csv.DictReader(io.StringIO((tmp_path / "csv").read_text()))
    assert json.loads(cell["segment_bytes"]) == ["1603"]
    assert json.loads(cell["groups"]) == {"source": "s0"}


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(pipe.read_text().splitlines()))
    reader.start()
    _write(pipe, "jsonl", verdict_records(verdicts(0.9, 0.5)))
    reader.join(timeout=10)
    assert len(lines) == 2
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


_VALUES = {
    pa.string(): [
        "plain",
        "",
        "\u00e9\u4e2d",
        'a "quoted" one',
        "back\\slash",
        "tab\t",
        "\x7f",
        None,
    ],
    pa.float64(): [
        0.0,
        1.0,
        0.5,
        0.959999,
        1e-4,
        9.9e-5,
        1e-6,
        123456.789,
        1e15,
        1e22,
        -0.25,
        None,
    ],
    pa.float32(): [0.85, 1.0, 0.1, None],
    pa.int64(): [0, -1, 2**62, None],
    pa.uint64(): [0, 2**64 - 1, None],
    pa.bool_(): [True, False, None],
    pa.timestamp("ns", "UTC"): [0, 1, 1_795_525_965_600_374_999, -1, -1_000_000_001, None],
    pa.list_(pa.int32()): [[], [1, 2], None],
    pa.binary(): [b"\x00\xff", None],
}


@pytest.mark.parametrize("kind", list(_VALUES), ids=str)
def test_records_are_the_json_that_pythons_encoder_writes(kind: pa.DataType) -> None:
    values = _VALUES[kind]
    for some in (values, values[:2], [None, *values[:1]]):
        column = pa.array(some, kind)
        batch = pa.record_batch({"a": column, 'b"': column})
        plain = plain_values(column.cast(pa.string()) if kind == pa.uint64() else column)
        wanted = [
            json.dumps({"a": value, 'b"': value}, ensure_ascii=False, default=bytes.hex)
            for value in plain
        ]
        assert json_lines(batch) == wanted
        many = pa.concat_batches([batch] * 100)
        assert json_lines(many.slice(1, 80)) == (wanted * 100)[1:81]


FULL_DISK = """
import resource, sys
from pathlib import Path
from apptell.errors import OutputError
from apptell.records.forms import BUILT_IN
from apptell.records.schema import VERDICT_RECORD, verdict_records
from apptell.records import writers
from apptell.records.text_table import FLOW_COLUMNS, VERDICT_COLUMNS
from apptell.records.writers import open_writer
from tests.records.fakes import verdicts

batch = verdict_records(verdicts(*[0.9] * 20))
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))  # stands for a full disk
for form in BUILT_IN:
    try:
        with open_writer(Path(sys.argv[1]), form, VERDICT_RECORD, VERDICT_COLUMNS) as writer:
            for _ in range(50):
                writer.write(batch)
    except OutputError as error:
        print(form.name, error)
"""


def test_a_full_disk_leaves_the_old_file_whatever_the_form(tmp_path: Path) -> None:
    old = tmp_path / "out"
    old.write_text("old")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-B", "-c", FULL_DISK, old], capture_output=True, text=True, cwd=root
    )
    assert done.stderr == ""
    names = [form.name for form in BUILT_IN]
    assert done.stdout.splitlines() == [f"{name} {old}: File too large" for name in names]
    assert old.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [OutputError("full"), ModelError("nan"), KeyboardInterrupt()])
def test_an_error_that_is_not_the_input_s_leaves_the_old_file(
    tmp_path: Path, error: BaseException
) -> None:
    (tmp_path / "v.jsonl").write_text("old")

    def ended() -> None:
        with open_writer(tmp_path / "v.jsonl", form_of_name("jsonl"), VERDICT_RECORD) as out:
            out.write(verdict_records(verdicts(0.9)))
            raise error

    with pytest.raises(type(error)):
        ended()
    assert (tmp_path / "v.jsonl").read_text() == "old"


def test_a_file_of_records_is_private_and_never_behind_a_link(tmp_path: Path) -> None:
    path = _write(tmp_path / "v.csv", "csv")
    assert path.stat().st_mode & 0o137 == 0
    (tmp_path / "link.csv").symlink_to(path)
    with pytest.raises(OutputError, match="is a symbolic link"):
        _write(tmp_path / "link.csv", "csv")


def _at(*seconds: int) -> pa.RecordBatch:
    flows = flow_batch(["zoom"] * len(seconds))
    flows = flows.with_columns(start_ns=[s * 10**9 for s in seconds], part=range(len(seconds)))
    return flow_records(flows, ["core"])


@pytest.mark.parametrize("form", ["jsonl", "table", "parquet"])
def test_a_file_is_in_order_of_time(tmp_path: Path, form: str) -> None:
    path = tmp_path / "out"
    schema = _at(1).schema
    with open_writer(path, form_of_name(form), schema, FLOW_COLUMNS, order_by="start_ns") as writer:
        for batch in (_at(5, 3), _at(4, 3, 9), _at(1)):
            writer.write(batch)
    if form == "parquet":
        found = pq.read_table(path).select(["start_ns", "part"]).to_pylist()
        starts = [(row["start_ns"] // 10**9, row["part"]) for row in found]
        assert starts == [(1, 0), (3, 1), (3, 1), (4, 0), (5, 0), (9, 2)]
    elif form == "jsonl":
        starts = [json.loads(line)["start_ns"] // 10**9 for line in path.read_text().splitlines()]
        assert starts == [1, 3, 3, 4, 5, 9]
    else:
        times = [line.split()[1] for line in path.read_text().splitlines()[1:]]
        assert times == [f"00:00:0{s}" for s in (1, 3, 3, 4, 5, 9)]


def test_more_records_than_are_held_back_come_in_several_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "ORDERED_BYTES", 2 * _at(1, 2).nbytes)
    path = tmp_path / "out"
    with open_writer(path, form_of_name("jsonl"), _at(1).schema, order_by="start_ns") as writer:
        for batch in (_at(5, 3), _at(4, 2), _at(1, 0)):
            writer.write(batch)
    starts = [json.loads(line)["start_ns"] // 10**9 for line in path.read_text().splitlines()]
    assert starts == [2, 3, 4, 5, 0, 1]


def test_standard_output_in_a_pipe_gets_records_as_they_come(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open_writer(None, form_of_name("jsonl"), _at(1).schema, order_by="start_ns") as writer:
        writer.write(_at(5))
        assert len(capsys.readouterr().out.splitlines()) == 1

    def damaged() -> None:
        table = form_of_name("table")
        with open_writer(None, table, _at(1).schema, FLOW_COLUMNS, order_by="start_ns") as writer:
            writer.write(_at(5, 1))
            assert capsys.readouterr().out == ""
            raise CaptureError("cut")

    with pytest.raises(CaptureError):
        damaged()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["00:00:01", "00:00:05"]
