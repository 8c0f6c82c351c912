"""``apptell archive``: on the cores of this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset as ds
import pytest

import apptell

if TYPE_CHECKING:
    from .conftest import Run

SAMPLE = Path(apptell.__file__).parent / "samples" / "named" / "named.pcap.xz"


@pytest.mark.slow
def test_an_archive_is_identified_once(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    for sensor in ("east", "west"):
        (tmp_path / "captures" / sensor).mkdir(parents=True)
        (tmp_path / "captures" / sensor / "a.pcap.xz").write_bytes(SAMPLE.read_bytes())
    command = [sys.executable, "-m", "apptell.cli", "archive", f"{tmp_path}/captures/*"]
    command += ["-o", str(tmp_path / "records")]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "records of 2 streams; 0 more gave none." in first.stderr
    table = ds.dataset(tmp_path / "records", format="parquet", partitioning="hive").to_table()
    apps = set(table.column("app").to_pylist())
    assert {"whatsapp", "signal"} <= apps
    assert set(table.column("sensor").to_pylist()) == {"east", "west"}
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 0
    assert "2 of the streams were complete before" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nowhere", "-o", "out"), 1, "nowhere: No such file or directory"),
        (("a", "a", "-o", "out"), 2, "two streams are called a"),
        (("a", "-o", "full"), 2, "full: not empty and not an output of apptell archive"),
        (("a", "-o", "s3://"), 2, "s3://"),
        (("a", "-o", "out", "--records", "pcap"), 2, "pcap"),
        (("a", "-o", "out", "--app", "whatsap"), 2, "no verdict can name 'whatsap'"),
        (("a", "-o", "out", "--records", "flows", "--only-named"), 2, "flows has no verdicts"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    result = run("archive", *arguments)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
