"""The commands on the samples in docs/reference/datasets.md."""

import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .conftest import Run

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_documented_command_on_the_samples_runs(run: Run, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "reference" / "datasets.md").read_text(encoding="utf-8")
    section = text.split("## Try it on the embedded samples\n")[1].split("\n## ")[0]
    commands = re.findall(r"^    apptell (.+)$", section, re.MULTILINE)
    assert len(commands) == 8
    (loop,) = re.findall(r"^    (for .+ > names\.csv)$", section, re.MULTILINE)
    subprocess.run(["sh", "-c", loop], cwd=tmp_path, check=True)
    found = []
    for command in commands:
        words = [path for word in shlex.split(command) for path in _matches(word)]
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        found.append(done.stdout)
    phone, built = json.loads(found[0]), json.loads(found[2])
    assert f"`phone/` has {phone['flows']} flows of {len(phone['apps'])} apps" in section
    assert f"`dataset/` {built['flows']:,} flows from {built['sources']} captures" in section
    assert built["apps"].keys() == {app.removeprefix("test.lab.") for app in phone["apps"]}
    assert built["labels"] == {"folders": 42, "pcapdroid": 1}
    servers = [json.loads(line) for line in found[3].splitlines()]
    assert all(each["is_shared"] for each in servers if each["server"].endswith(".test"))
    named = [json.loads(line)["app"] for line in found[7].splitlines()]
    assert len(named) == 35
    assert sum(app is not None for app in named) > 15
    (example,) = re.findall(r"\n    from apptell\.dataset import .+?(?=\n\n\S)", text, re.DOTALL)
    example = (
        f"{textwrap.dedent(example)}\nassert len(part.train) + len(part.test) == {built['flows']}"
    )
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, check=True)


def _matches(word: str) -> list[str]:
    """A word as a shell in the repository passes it on: paths for a pattern, otherwise itself."""
    if not word.startswith("src/"):
        return [word]
    return sorted(map(str, ROOT.glob(word)))
