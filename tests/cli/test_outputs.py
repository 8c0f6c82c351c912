"""``--out``: one list of outputs, the same records from ``identify`` and from ``live``."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize("form", ["jsonl", "csv", "zeek-json", "eve", "ecs"])
def test_identify_and_a_replay_write_the_same(
    run: Run, capture: Path, tmp_path: Path, form: str
) -> None:
    disk, live = tmp_path / "disk", tmp_path / "live"
    done = run("identify", capture, "--out", f"{form}:{disk}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert (
        run("live", "--replay", capture, "--speed", "max", "--out", f"{form}:{live}").returncode
        == 0
    )
    lines = disk.read_text().splitlines()
    assert sorted(lines) == sorted(live.read_text().splitlines())
    assert len(lines) >= 16


def test_identify_writes_to_several_at_once(run: Run, capture: Path, tmp_path: Path) -> None:
    done = run("identify", capture, "--out", f"parquet:{tmp_path / 'p'}", "--out", "jsonl:-")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "p").glob("*.parquet")
    assert pq.read_table(file).num_rows == len(done.stdout.splitlines()) == 16


def test_an_output_that_loses_records_is_exit_code_1(
    run: Run, capture: Path, tmp_path: Path
) -> None:
    done = run("identify", capture, "--out", f"unix:{tmp_path / 'nobody'}")
    assert done.returncode == 1
    assert "16 records could not be written" in done.stderr


@pytest.mark.parametrize("more", [["--format", "csv"], ["-o", "x.csv"], ["--summary"]])
def test_out_is_instead_of_the_other_forms(run: Run, capture: Path, more: list[str]) -> None:
    done = run("identify", capture, "--out", "jsonl:-", *more)
    assert done.returncode == 2
    assert "--out is not for --output, --format or --summary" in done.stderr


@pytest.mark.parametrize(("more", "expected"), [([], "'=1+1"), (["--raw-csv"], "=1+1")])
def test_raw_csv_also_holds_for_outputs(
    run: Run, capture: Path, tmp_path: Path, more: list[str], expected: str
) -> None:
    done = run("identify", capture, "--sensor", "=1+1", "--out", f"csv:{tmp_path / 'c'}", *more)
    assert done.returncode == 0, done.stderr
    assert {row["sensor"] for row in csv.DictReader((tmp_path / "c").read_text().splitlines())} == {
        expected
    }
