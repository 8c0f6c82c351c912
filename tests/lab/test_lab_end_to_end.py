import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import apps, samples, sandbox

REASON = sandbox.missing()
pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(bool(REASON), reason=str(REASON)),
]
ROOT = Path(__file__).resolve().parents[2]
WORDS = (
    "murmurd",
    "prosody",
    "ngircd",
    "mosquitto",
    "haproxy",
    "synapse.app.homeserver",
    "lab.worker",
)


def lab(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "lab", *arguments], cwd=ROOT, stderr=subprocess.PIPE, **options
    )


def interfaces():
    return sorted(entry.name for entry in Path("/sys/class/net").iterdir())


def lab_processes():
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
            if "apptell-lab" in command and any(word in command for word in WORDS):
                found.append(int(folder.name))
    return found


def test_a_short_recording_has_labelled_flows_of_every_app(tmp_path):
    before = set(lab_processes())
    links = interfaces()
    process = lab(
        "record", "--flows", "6", "--front", "route", "-o", str(tmp_path), stdout=subprocess.PIPE
    )
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors.decode()
    recording = json.loads(output)
    assert set(recording["flows"]) == {*apps.APPS, "other"}
    link, flows, n_unknown = samples.labelled(tmp_path)
    assert link == 101
    assert n_unknown == 0
    assert {app: len(found) >= 4 for app, found in flows.items()} == dict.fromkeys(
        recording["flows"], True
    )
    sessions = [json.loads(line) for line in (tmp_path / "sessions.jsonl").read_text().splitlines()]
    assert sum(s["fault"] is not None for s in sessions) <= len(sessions) // 5
    first = flows["irc"][0][3]
    assert first.data[first.payload_at] == 22, "a TLS handshake record opens the flow"
    assert set(lab_processes()) <= before
    assert interfaces() == links


def test_nothing_is_left_after_an_interrupt(tmp_path):
    before = set(lab_processes())
    process = lab(
        "record",
        "--flows",
        "500",
        "-o",
        str(tmp_path),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 90
    while not (tmp_path / "capture.pcap").exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert (tmp_path / "capture.pcap").exists()
    assert set(lab_processes()) > before
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    time.sleep(0.5)
    assert set(lab_processes()) <= before


def test_nothing_is_left_after_a_crash_of_the_lab(tmp_path):
    before = set(lab_processes())
    process = lab("record", "--flows", "500", "-o", str(tmp_path), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not (tmp_path / "capture.pcap").exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    process.kill()
    process.communicate(timeout=60)
    time.sleep(1.0)
    assert set(lab_processes()) <= before
    assert not Path("/run/apptell-lab").exists()
