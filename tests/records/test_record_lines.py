"""Lines of ``live`` become the same records again; lines that are none are left out and counted."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from apptell.records.forms.jsonl import json_lines
from apptell.records.record_lines import records_of_lines
from apptell.records.schema import LIVE_RECORD
from tests.history.rows import flow, verdict_of

ROWS = [
    flow(1, 60),
    verdict_of(flow(2, 61, app=None, app_name=None)),
    flow(3, 62, app="ü\u202e<b>"),
]


def batch() -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(ROWS, LIVE_RECORD)


def test_records_survive_a_way_through_lines() -> None:
    lines = [line.encode() for line in json_lines(batch())]
    found, wrong = records_of_lines(lines)
    assert wrong == 0
    assert found.schema == LIVE_RECORD
    assert found.to_pylist() == batch().to_pylist()
    assert found.column("time").cast(pa.int64()).equals(batch().column("time").cast(pa.int64()))


SPOILED = (
    ("time", "yesterday"), ("time", None), ("connection_id", "x"), ("connection_id", "-1"),
    ("connection_id", str(1 << 64)), ("connection_id", [1]), ("bytes_to_server", "many"), ("app", 7),
    ("app", ["a"]), ("part", 1 << 70),
)  # fmt: skip
WRONG = (
    b"", b"{", b"[]", b"7", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"event": "end"}',
    *(json.dumps({**json.loads(json_lines(batch())[0]), name: value}).encode() for name, value in SPOILED),
)  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_a_line_that_is_no_record_is_left_out(line: bytes) -> None:
    good = [each.encode() for each in json_lines(batch())]
    found, wrong = records_of_lines([good[0], line, *good[1:]])
    assert wrong == 1
    assert found.to_pylist() == batch().to_pylist()


def test_no_lines_give_no_records() -> None:
    found, wrong = records_of_lines([])
    assert (found.num_rows, wrong) == (0, 0)
