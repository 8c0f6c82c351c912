import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab.plan import labels

from apptell.dataset import Dataset
from lab import apps, samples, sandbox

REASON = sandbox.missing()
pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(bool(REASON), reason=str(REASON)),
]
ROOT = Path(__file__).resolve().parents[2]


def lab(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "lab", *arguments], cwd=ROOT, stderr=subprocess.PIPE, **options
    )


def interfaces():
    return sorted(entry.name for entry in Path("/sys/class/net").iterdir())


def namespaces():
    """Process namespace of each process that can be seen, by its id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(folder.name)] = str((folder / "ns/pid").readlink())
    return found


def namespace_of(process):
    """The process namespace that a running lab has made; other labs may run beside it."""
    deadline = time.monotonic() + 90
    own = str(Path("/proc/self/ns/pid").readlink())
    while time.monotonic() < deadline:
        for pid, space in namespaces().items():
            with contextlib.suppress(OSError):
                parents = (Path(f"/proc/{pid}/stat").read_text()).rpartition(")")[2].split()[1]
                above = Path(f"/proc/{parents}/stat").read_text().rpartition(")")[2].split()[1]
                if space != own and int(above) == process.pid:
                    return space
        time.sleep(0.2)
    raise AssertionError("the lab made no process namespace")


def is_gone(space):
    """Whether the last process of a namespace has ended; the kernel takes a moment to end many."""
    deadline = time.monotonic() + 30
    while space in namespaces().values() and time.monotonic() < deadline:
        time.sleep(0.2)
    return space not in namespaces().values()


def wait_for(path):
    deadline = time.monotonic() + 200
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert path.exists()


def test_a_short_recording_has_labelled_flows_of_every_app(tmp_path):
    links = interfaces()
    process = lab(
        "record", "--flows", "6", "--front", "route", "-o", str(tmp_path), stdout=subprocess.PIPE
    )
    output, errors = process.communicate(timeout=300)
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
    assert interfaces() == links


def test_labels_agree_with_the_names_that_the_lab_gave(tmp_path):
    # the labelling sees sockets' owners alone; the names are the lab's own record
    folder = tmp_path / "lab"
    lab(
        "record", "--flows", "8", "--network", "fibre", "--tls", "gnutls", "-o", str(folder),
        stdout=subprocess.PIPE,
    ).communicate(timeout=300)  # fmt: skip
    recording = json.loads((folder / "recording.json").read_text())
    owners = {name: app for app, names in recording["names"].items() for name in names}
    rename = tmp_path / "labels.csv"
    rename.write_text(labels())
    options = ["--labels", "pcapdroid-csv", "--rename", str(rename)]
    apptell = Path(sys.executable).with_name("apptell")
    dataset = tmp_path / "dataset"
    subprocess.run(
        [apptell, "dataset", "build", folder, "-o", dataset, *options], check=True, timeout=120
    )
    flows = Dataset.open(dataset).read(("core", "names", "labels")).to_arrow().to_pylist()
    named = [flow for flow in flows if flow["server_name"] in owners]
    assert len(named) > 40
    assert {flow["label"] for flow in named} == {*apps.APPS, "other"}
    assert all(owners[flow["server_name"]] == flow["label"] for flow in named)
    assert all(":" in flow["server_address"] for flow in flows), "the network is IPv6"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_nothing_is_left_when_the_lab_is_ended(tmp_path, number, code):
    process = lab("record", "--flows", "500", "-o", str(tmp_path), stdout=subprocess.DEVNULL)
    space = namespace_of(process)
    wait_for(tmp_path / "capture.pcap")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert is_gone(space)


def test_nothing_is_left_after_an_interrupt_from_the_keyboard(tmp_path):
    process = lab(
        "record",
        "--flows",
        "500",
        "-o",
        str(tmp_path),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        # a shell's background jobs, and so what they start, ignore the keyboard
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    space = namespace_of(process)
    wait_for(tmp_path / "capture.pcap")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert is_gone(space)
    assert not Path("/run/apptell-lab").exists()
