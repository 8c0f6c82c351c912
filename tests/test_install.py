"""What a light install does: no extras, no PyTorch, and still the main job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "src/apptell/samples/pcapdroid/phone.pcap"


@pytest.mark.slow
def test_an_install_without_extras_identifies_a_sample(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    pip = subprocess.run(
        [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    if pip.returncode and "Could not find a version" in pip.stderr:
        pytest.skip("the package index is out of reach")
    assert pip.returncode == 0, pip.stderr
    run = subprocess.run(
        [
            tmp_path / "venv/bin/apptell",
            "identify",
            SAMPLE,
            "--evidence",
            "all",
            "--format",
            "jsonl",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    verdicts = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(verdicts) == 35
    assert sum(verdict["app"] is not None for verdict in verdicts) > 10
    assert "knows no other app" in run.stderr
    absent = "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('sklearn'))"
    said = subprocess.run([python, "-c", absent], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["None", "None"]
