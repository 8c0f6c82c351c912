"""Everything but ``-i`` does without what only Linux or Unix has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "src/apptell/samples"


def run_on(system, *commands):
    words = [[str(word) for word in command] for command in commands]
    return subprocess.run(
        [sys.executable, "-m", "tests.other_system", system, json.dumps(words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_captures_become_verdicts_datasets_and_models(system, tmp_path):
    phone = SAMPLES / "pcapdroid/phone.pcap"
    steps = [  # the second writes over the file of the first
        ("identify", phone, "--evidence", "all", "--format", "jsonl", "-o", tmp_path / "v.jsonl"),
        ("identify", phone, "--evidence", "all", "--format", "jsonl", "-o", tmp_path / "v.jsonl"),
        ("flows", phone, "-o", tmp_path / "f.parquet"),
        ("inspect", phone, "--json"),
        ("dataset", "build", SAMPLES / "pcapdroid", "-o", tmp_path / "d"),
        ("dataset", "info", tmp_path / "d"),
        ("live", "--replay", phone, "--speed", "max", "--out", f"jsonl:{tmp_path / 'live.jsonl'}"),
    ]  # fmt: skip
    if system == "windows":  # which lacks what macOS lacks, and more
        pytest.importorskip("sklearn", reason="the extra train is not installed")
        forest = ("-m", "paper-rf", "--set", "n_trees=2", "--split", "none")
        steps.append(("train", tmp_path / "d", *forest, "-o", tmp_path / "m"))
    done = run_on(system, *steps)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 35
    assert (tmp_path / "live.jsonl").read_text().strip()
    assert (tmp_path / "f.parquet").stat().st_size > 0


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_an_interface_is_refused_in_one_line(system):
    done = run_on(system, ("live", "-i", "lo"))
    assert done.returncode in (2, 3)
    assert "interfaces can be read only on Linux" in done.stderr
    assert "Traceback" not in done.stderr
