"""``apptell demo``: every step on the embedded samples."""

import json
from pathlib import Path

import pytest

from .conftest import Run


@pytest.mark.slow
def test_the_demo_trains_measures_and_names_well_known_apps_with_their_evidence(
    run: Run, tmp_path: Path
) -> None:
    done = run("demo", "--model", "fast", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert "[5/5]" in done.stderr
    recording, named = done.stdout.split("time (UTC)")[1:]
    assert "xmpp" in recording
    rows = [line.split() for line in named.splitlines()[1:] if line]
    shown = {(row[-3], row[-2], row[-1]) for row in rows}
    assert {("WhatsApp", "messaging", "name"), ("Instagram", "social", "dns")} <= shown
    assert (tmp_path / "demo" / "report" / "report.html").is_file()
    lines = (tmp_path / "demo" / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 210
    assert {json.loads(line)["evidence"] for line in lines} <= {"model", None}
