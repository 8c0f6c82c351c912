"""What a light install does: no extras, no PyTorch, and still the main job."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "src/apptell/samples/pcapdroid/phone.pcap"


@pytest.mark.slow
def test_an_install_without_extras_identifies_a_sample(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    pip = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "-q",
            "--no-compile",
            "-c",
            ROOT / "constraints.txt",
            "--config-settings",
            "kernels=off",
            ROOT,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if pip.returncode and "Could not find a version" in pip.stderr:
        pytest.skip("the package index is out of reach")
    assert pip.returncode == 0, pip.stderr
    (installed,) = (tmp_path / "venv/lib").glob("python*/site-packages/apptell/kernels")
    # kernels that were compiled from the same sources are taken; that all compile is a test of its own
    folder = installed / "__pycache__"
    folder.mkdir(exist_ok=True)
    for kernel in (ROOT / "src/apptell/kernels/__pycache__").iterdir():
        if kernel.suffix in (".nbi", ".nbc", ".mc"):
            with suppress(FileNotFoundError):  # another test may be writing it again
                shutil.copy(kernel, folder)
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
