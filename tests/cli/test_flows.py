import json
from pathlib import Path

import pyarrow.parquet as pq

from apptell.flows.schema import CORE, SEGMENTS

from .conftest import Run


def test_each_flow_is_a_record_without_payload(run: Run, capture: Path) -> None:
    done = run("flows", capture)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 8
    assert set(CORE) <= set(rows[0])
    assert "segment_bytes" not in rows[0]
    assert rows[0]["packets_to_server"] + rows[0]["packets_to_client"] == 12
    assert "8 flows of 96 packets" in done.stderr


def test_payload_leaves_only_when_asked_for(run: Run, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "flows.parquet"
    done = run("flows", capture, "-o", path, "--columns", "core,segments")
    assert done.returncode == 0, done.stderr
    assert pq.read_schema(path).names == [*CORE, *SEGMENTS]
    assert pq.read_table(path).num_rows == 8


def test_an_unknown_column_group_is_wrong_usage(run: Run, capture: Path) -> None:
    done = run("flows", capture, "--columns", "core,colour")
    assert done.returncode == 2
    assert "unknown column group 'colour'" in done.stderr
