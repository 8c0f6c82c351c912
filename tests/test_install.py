"""What a light install does: no extras, no PyTorch, and still the main job."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
SAMPLE = ROOT / "src/apptell/samples/pcapdroid/phone.pcap"


def requirements(name: str) -> set[str]:
    """The distributions that one needs without extras, and so on; names as packages are looked up by."""
    found: set[str] = set()
    left = [name]
    while left:
        for text in metadata.requires(left.pop()) or ():
            each = Requirement(text)
            if (
                each.marker is None or each.marker.evaluate({"extra": ""})
            ) and each.name not in found:
                found.add(each.name)
                left.append(each.name)
    return found


def add_packages(site: Path, names: set[str]) -> None:
    """Makes installed distributions importable in another environment, and no others."""
    for name in names:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            (site / top).symlink_to(distribution.locate_file(top))


def test_an_install_without_extras_identifies_a_sample(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    add_packages(site, requirements("apptell"))
    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "-C", "kernels=off", ROOT]
    subprocess.run([*PIP, *build, "-w", tmp_path / "wheels"], check=True)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    install = ["install", "-q", "--no-compile", "--no-deps", "--no-index", wheel]
    subprocess.run([*PIP, "--python", python, *install], check=True)
    installed = site / "apptell/kernels"
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
