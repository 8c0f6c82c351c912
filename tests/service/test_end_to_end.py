"""``apptell live`` over a veth pair in a network namespace: sent on one end, read on the other."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from apptell.testing import app_capture, write_pcap

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        not hasattr(os, "geteuid")
        or os.geteuid() != 0
        or shutil.which("ip") is None
        or shutil.which("unshare") is None,
        reason="a network namespace needs root, ip and unshare",
    ),
]

_SENDER = """
import socket, sys
from apptell.capture import open_capture
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
out.bind(("left", 0))
with open_capture(sys.argv[1]) as packets:
    for batch in packets:
        for row in range(len(batch)):
            out.send(batch.frame(row))
"""
_SCRIPT = """
set -e
ip link add left type veth peer name right
sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || true
ip link set left up
ip link set right up
exec "$@"
"""


def test_apps_are_named_as_their_packets_pass_and_sigterm_ends_within_two_seconds(tmp_path):
    capture = write_pcap(tmp_path / "phone.pcap", app_capture(["signal", "zoom"], 4))
    out = tmp_path / "apps.jsonl"
    identified = subprocess.run(
        [sys.executable, "-m", "apptell.cli", "identify", str(capture), "--format", "jsonl"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    expected = [json.loads(line) for line in identified.stdout.splitlines()]
    live = [sys.executable, "-m", "apptell.cli", "live", "-i", "right", "--out", f"jsonl:{out}"]
    sensor = subprocess.Popen(
        ["unshare", "-n", "bash", "-c", _SCRIPT, "-", *live], stderr=subprocess.PIPE, text=True
    )
    try:
        until = time.monotonic() + 60
        while not out.exists() and time.monotonic() < until:  # made when the ring stands
            assert sensor.poll() is None, sensor.stderr.read()
            time.sleep(0.1)
        subprocess.run(
            ["nsenter", "-t", str(sensor.pid), "-n", sys.executable, "-c", _SENDER, str(capture)],
            check=True,
        )
        while out.read_text().count('"verdict"') < len(expected) and time.monotonic() < until:
            time.sleep(0.05)
        begin = time.monotonic()
        sensor.send_signal(signal.SIGTERM)
        _, said = sensor.communicate(timeout=10)
        took = time.monotonic() - begin
    finally:
        sensor.kill()
        sensor.communicate()
    assert sensor.returncode == 0, said
    records = [json.loads(line) for line in out.read_text().splitlines()]
    named = lambda rows: sorted((row["community_id"], row["best_guess"]) for row in rows)  # noqa: E731
    assert named(row for row in records if row["event"] == "verdict") == named(expected)
    assert named(row for row in records if row["event"] == "end") == named(expected)
    assert "0 dropped by the kernel" in said
    assert took < 2.5
