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


SETPRIV = shutil.which("setpriv")
TCPDUMP = shutil.which("tcpdump", path="/usr/sbin:/usr/bin")
NOBODY = [
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--reset-env",
    # the second one has nothing to do with capturing: the checkout and its compiled kernels are root's
    "--inh-caps=-all,+net_raw,+dac_override", "--ambient-caps=-all,+net_raw,+dac_override",
    "--bounding-set=-all,+net_raw,+dac_override",
]  # fmt: skip


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return write_pcap(
        tmp_path_factory.mktemp("capture") / "phone.pcap", app_capture(["signal", "zoom"], 4)
    )


@pytest.fixture(scope="module")
def expected(capture):
    """App of each flow, as ``identify`` says."""
    command = [sys.executable, "-m", "apptell.cli", "identify", str(capture), "--format", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return apps_of(map(json.loads, done.stdout.splitlines()))


def apps_of(rows):
    return sorted((row["community_id"], row["best_guess"]) for row in rows)


class Sensor:
    """A process in a namespace of its own; a context manager."""

    def __init__(self, *command):
        self._process = subprocess.Popen(
            ["unshare", "-n", "bash", "-c", _SCRIPT, "-", *command],
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self._until = time.monotonic() + 300

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def wait_for(self, is_there):
        while not is_there():
            assert self._process.poll() is None, self._process.stderr.read()
            assert time.monotonic() < self._until
            time.sleep(0.05)

    def send(self, capture):
        inside = ["nsenter", "-t", str(self._process.pid), "-n"]
        subprocess.run([*inside, sys.executable, "-c", _SENDER, str(capture)], check=True)

    def stop(self):
        """What it said."""
        self._process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self):
        _, said = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, said
        return said


def _live(out, *more):
    return [sys.executable, "-m", "apptell.cli", "live", *more, "--out", f"jsonl:{out}"]


def _check(out, expected):
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert apps_of(row for row in records if row["event"] == "verdict") == expected
    assert apps_of(row for row in records if row["event"] == "end") == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_apps_are_named_as_their_packets_pass_and_sigterm_ends_it(
    tmp_path, capture, expected, workers
):
    out = tmp_path / "apps.jsonl"
    with Sensor(*_live(out, "-i", "right", "--workers", str(workers))) as sensor:
        sensor.wait_for(out.exists)  # made when the ring stands
        sensor.send(capture)
        sensor.wait_for(lambda: out.read_text().count('"verdict"') >= len(expected))
        said = sensor.stop()
    _check(out, expected)
    assert "0 dropped by the kernel" in said


@pytest.mark.skipif(SETPRIV is None, reason="needs setpriv")
def test_nobody_may_capture_with_the_one_capability(tmp_path, capture, expected):
    out = tmp_path / "apps.jsonl"
    with Sensor(*NOBODY, *_live(out, "-i", "right", "--promiscuous", "--filter", "tcp")) as sensor:
        sensor.wait_for(out.exists)
        assert out.stat().st_uid == 65534
        sensor.send(capture)
        sensor.wait_for(lambda: out.read_text().count('"verdict"') >= len(expected))
        sensor.stop()
    _check(out, expected)


@pytest.mark.skipif(SETPRIV is None, reason="needs setpriv")
def test_without_the_capability_the_pipe_is_shown(tmp_path):
    command = ["setpriv", "--bounding-set=-net_raw", *_live(tmp_path / "apps.jsonl", "-i", "right")]
    done = subprocess.run(
        ["unshare", "-n", "bash", "-c", _SCRIPT, "-", *command],
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "sudo tcpdump -i right -w - | apptell live -" in done.stderr


@pytest.mark.skipif(TCPDUMP is None, reason="needs tcpdump")
def test_tcpdump_in_a_pipe_is_a_source(tmp_path, capture, expected):
    out, ready = tmp_path / "apps.jsonl", tmp_path / "tcpdump"
    n = len(app_capture(["signal", "zoom"], 4))
    pipe = '"$1" -i right -U -c "$2" -w - tcp 2> "$3" | "${@:4}"'
    command = ["bash", "-c", pipe, "-", TCPDUMP, str(n), str(ready), *_live(out, "-")]
    with Sensor(*command) as sensor:
        sensor.wait_for(lambda: out.exists() and "listening" in ready.read_text())
        sensor.send(capture)
        sensor.end()
    _check(out, expected)
