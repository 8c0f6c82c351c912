"""``apptell demo``: every step on the embedded samples."""

import json
import re
from pathlib import Path

import pytest

from .conftest import Run


@pytest.mark.slow
def test_the_demo_trains_measures_and_names_well_known_apps_with_their_evidence(
    run: Run, tmp_path: Path
) -> None:
    done = run("demo", "--model", "fast", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    steps = re.findall(r"^\[(\d)/(\d)\]", done.stderr, re.MULTILINE)
    assert steps == [(str(step), "6") for step in range(1, 7)]
    unknown = re.search(
        r"may call 5% .* calls (\S+)% of 182 such flows unknown, and (\S+)% of all 168 flows of matrix\. .*"
        r"in (\S+)% of the pairs",
        done.stderr,
    )
    assert unknown
    realised, caught, auroc = map(float, unknown.groups())
    assert realised <= 5 < caught
    assert 90 < auroc <= 100
    recording, named = done.stdout.split("time (UTC)")[1:]
    assert "xmpp" in recording
    rows = [line.split() for line in named.splitlines()[1:] if line]
    shown = {(row[-3], row[-2], row[-1]) for row in rows}
    assert {("WhatsApp", "messaging", "name"), ("Instagram", "social", "dns")} <= shown
    assert (tmp_path / "demo" / "report" / "report.html").is_file()
    lines = (tmp_path / "demo" / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 210
    assert {json.loads(line)["evidence"] for line in lines} <= {"model", None}
