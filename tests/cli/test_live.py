"""``apptell live`` as typed: what is refused, and calls with its verdicts."""

import json
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from apptell.cli.app import app
from apptell.testing import app_capture, write_pcap


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def capture(tmp_path):
    return write_pcap(tmp_path / "phone.pcap", app_capture(["signal", "zoom"], 3))


def test_named_flows_run_a_command_and_are_counted(tmp_path, capture):
    told = tmp_path / "told.jsonl"
    script = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
    command = shlex.join([sys.executable, "-c", script, str(told)])
    done = run(
        "live", "--replay", capture, "--speed", "max", "--evidence", "model", "--threshold", "0",
        "--out", f"jsonl:{tmp_path}/all.jsonl", "--on-verdict", command,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    records = [json.loads(line) for line in told.read_text().splitlines()]
    everything = [
        json.loads(line) for line in Path(tmp_path / "all.jsonl").read_text().splitlines()
    ]
    assert records == [row for row in everything if row["event"] == "verdict" and row["app"]]
    assert f"on-verdict: {len(records)} called, 0 failed, 0 left out by the rate" in done.stderr


def test_an_app_that_no_verdict_can_name_is_refused(capture):
    done = run("live", "--replay", capture, "--on-verdict", "true", "--on-app", "signal, telegramm")
    assert done.exit_code == 2
    assert "--on-app: no verdict can name 'telegramm'; available: telegram" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name one source"),
        (("-", "-i", "lo"), "name one source"),
        (("--replay", "x", "--snap", "96"), "are for an interface"),
    ],
)
def test_sources_that_do_not_go_together_are_refused(words, said):
    done = run("live", *words)
    assert done.exit_code == 2
    assert said in done.stderr
