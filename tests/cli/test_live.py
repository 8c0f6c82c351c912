"""``apptell live`` as typed: what is refused, and calls with its verdicts."""

import json
import shlex
import signal
import socket
import subprocess
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


def _may_capture() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except (AttributeError, OSError):
        return False
    return True


@pytest.mark.skipif(not _may_capture(), reason="capturing needs CAP_NET_RAW")
def test_an_interface_is_announced_once_its_packets_count(tmp_path):
    """Whoever waits for the line and then sends loses no packet."""
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "apptell.cli", "live", "-i", "lo", "--filter", "udp port 53999"]
        + ["--transport", "udp", "--out", f"jsonl:{out}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = []
        while not said or said[-1] != "listening on lo\n":
            said.append(process.stderr.readline())
            assert said[-1], said
        assert sum("compiling" in line for line in said) <= 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(6):
                sender.sendto(b"x" * 40, ("127.0.0.1", 53999))
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == 0, rest
    finally:
        process.kill()
        process.communicate()
    assert "compiling" not in rest
    assert sum("listening" in line for line in said) == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert sum(row["packets_to_server"] for row in rows if row["event"] == "end") == 6
