"""The commands on the samples in docs/reference/datasets.md."""

import json
import re
import shlex
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
    apps = ("irc", "matrix", "mqtt", "mumble", "other", "websocketchat", "xmpp")
    (tmp_path / "names.csv").write_text("".join(f"test.lab.{app},{app}\n" for app in apps))
    found = []
    for command in commands:
        words = [word.replace("src/", f"{ROOT}/src/") for word in shlex.split(command)]
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        found.append(done.stdout)
    assert json.loads(found[0])["flows"] == 35
    built = json.loads(found[2])
    # the sample of named connections lies beside the recordings and is labelled by its file's name
    assert built["apps"].keys() - {"named"} == set(apps)
    assert sum(built["apps"][app] for app in apps) == 1295
    assert built["labels"] == {"folders": 43, "pcapdroid": 1}
    named = [json.loads(line)["app"] for line in found[7].splitlines()]
    assert len(named) == 35
    assert sum(app is not None for app in named) > 15
