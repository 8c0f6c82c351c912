r"""Captures whose names are no UTF-8: every verb reads them, and shows the odd bytes as ``\xff``."""

import json
import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from .conftest import Run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
SHOWN = r"ph\xffone\xe9.pcap"


@pytest.fixture
def odd(capture: Path, tmp_path: Path) -> Path:
    folder = tmp_path / os.fsdecode(b"of\xfe")
    folder.mkdir()
    path = folder / os.fsdecode(b"ph\xffone\xe9.pcap")
    path.write_bytes(capture.read_bytes())
    return path


def test_records_name_the_capture_in_every_form(run: Run, odd: Path, tmp_path: Path) -> None:
    done = run("flows", odd, "--format", "jsonl")
    assert {json.loads(line)["capture"] for line in done.stdout.splitlines()} == {SHOWN}
    assert SHOWN in run("flows", odd, "--format", "csv").stdout
    table = tmp_path / "flows.parquet"
    assert run("flows", odd, "-o", table).returncode == 0
    assert set(pq.read_table(table)["capture"].to_pylist()) == {SHOWN}


def test_inspect_identify_and_live_read_it(run: Run, odd: Path) -> None:
    assert json.loads(run("inspect", odd).stdout)["captures"] == [SHOWN]
    for arguments in (
        ["identify", odd, "--format", "jsonl"],
        ["identify", odd.parent, "--format", "csv"],
        ["live", "--replay", odd, "--speed", "max"],
    ):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_a_dataset_is_built_from_it(run: Run, odd: Path, tmp_path: Path) -> None:
    done = run("dataset", "build", odd.parent, "-o", tmp_path / "data", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["apps"] == {r"ph\xffone\xe9": 8}


def test_one_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    done = run("inspect", tmp_path / os.fsdecode(b"none\xfe.pcap"))
    assert done.returncode == 1
    assert done.stderr == "apptell: none\\xfe.pcap: no such file\n"
