"""Datasets made by several processes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from apptell.dataset import Dataset, build
from apptell.errors import CaptureError, DatasetError, LabelError
from apptell.flows.schema import FlowBatch


class Slow:
    """A source for other processes: ``n`` flows after ``delay`` seconds, then what goes wrong."""

    kind = "folders"

    def __init__(self, file, n, *, delay=0.0, wrong=""):
        self.name, self.files, self.n, self.delay, self.wrong = file.name, [file], n, delay, wrong
        self.dropped, self.facts = Counter(), {}

    def flows(self):
        time.sleep(self.delay)
        self.facts["n"] = self.n
        for start in range(0, self.n, 1000):
            rows = list(range(start, min(start + 1000, self.n)))
            yield FlowBatch.from_columns(
                {
                    "capture": [self.name] * len(rows),
                    "start_ns": rows,
                    "payload_packets_to_server": [row % 3 for row in rows],
                    "payload_packets_to_client": [1] * len(rows),
                    "segment_bytes": [[b"x" * 20]] * len(rows),
                    "label": [self.name] * len(rows),
                    "label_from": ["folders"] * len(rows),
                    "groups": [[("source", "home")]] * len(rows),
                }
            )
        if self.wrong == "damage":
            raise CaptureError(f"{self.name}: cut at byte 9")
        if self.wrong == "label":
            raise LabelError(f"{self.name}: no log")
        if self.wrong == "death":
            os.kill(os.getpid(), signal.SIGKILL)


def slow(folder, name, n, *, content=None, **how):
    file = folder / name
    file.write_text(content or name)
    return Slow(file, n, **how)


def some(folder):
    sizes = (30, 5000, 0, 300, 2500)
    found = [slow(folder, f"s{i}", n, delay=0.05 * (i == 0)) for i, n in enumerate(sizes)]
    found += [slow(folder, "again", 9, content="s0"), slow(folder, "cut", 30, wrong="damage")]
    return found


def half(flows):
    return flows.take(range(0, len(flows), 2))


def test_a_dataset_is_the_same_however_many_processes_made_it(tmp_path):
    reports = []
    for jobs in (1, 3):
        path = tmp_path / str(jobs) / "d"
        reports.append(
            build(some(tmp_path), path, jobs=jobs, change=half, applied_edits=["halved"])
        )
    one, several = reports
    assert one.skipped == several.skipped == ["again"]
    assert one.damaged == several.damaged == ["cut: cut at byte 9"]
    assert one.dataset.info == several.dataset.info
    assert one.dataset.read().to_arrow().equals(several.dataset.read().to_arrow())
    names = [{file.name for file in (tmp_path / jobs / "d").iterdir()} for jobs in ("1", "3")]
    assert names[0] == names[1]


def test_what_the_dataset_has_is_not_read_again(tmp_path):
    build(some(tmp_path), tmp_path / "d")
    report = build([slow(tmp_path, "s1", 1), slow(tmp_path, "new", 9)], tmp_path / "d", jobs=2)
    assert (report.skipped, report.added, report.n_added) == (["s1"], ["new"], 6)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [("label", LabelError, "no log"), ("death", DatasetError, "ended unexpectedly")],
)
def test_an_error_in_a_process_changes_nothing_and_leaves_nothing(tmp_path, wrong, error, words):
    build([slow(tmp_path, "old", 9)], tmp_path / "d")
    before = (tmp_path / "d" / "dataset.json").read_bytes()
    bad = slow(tmp_path, "bad", 9, wrong=wrong)
    with pytest.raises(error, match=words):
        build([slow(tmp_path, "good", 9), bad, slow(tmp_path, "late", 9)], tmp_path / "d", jobs=2)
    assert (tmp_path / "d" / "dataset.json").read_bytes() == before
    assert not list((tmp_path / "d").glob("spool-*"))


def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path):
    build([slow(tmp_path, "old", 9)], tmp_path / "d")
    program = textwrap.dedent("""
        import sys, multiprocessing, threading, time
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from test_spool import build, slow
        if __name__ == "__main__":
            folder = Path(sys.argv[2])
            def tell():
                while len(multiprocessing.active_children()) < 2:
                    time.sleep(0.01)
                print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            threading.Thread(target=tell, daemon=True).start()
            build([slow(folder, f"s{i}", 9, delay=0.5) for i in range(99)], folder / "d", jobs=2)
    """)
    script = tmp_path / "script.py"
    script.write_text(program)
    parent = subprocess.Popen(
        [sys.executable, script, Path(__file__).parent, tmp_path], stdout=subprocess.PIPE, text=True
    )
    children = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert len(Dataset.open(tmp_path / "d")) == 6
    assert json.loads((tmp_path / "d" / "dataset.json").read_text())["sources"][0]["name"] == "old"
    build([slow(tmp_path, "new", 9)], tmp_path / "d")
    assert not list((tmp_path / "d").glob("*.tmp"))


def test_an_error_ends_what_a_reader_still_reads_elsewhere(tmp_path):
    has_ended = []

    class Reading:
        digest = "0" * 64

        def batches(self):
            raise LabelError("no label fits")

    def reader(*_):
        try:
            yield SimpleNamespace(name="a"), Reading()
        finally:
            has_ended.append(True)

    with pytest.raises(LabelError) as raised:  # while its frames are kept, nothing else ends it
        build([], tmp_path / "d", reader=reader)
    assert has_ended == [True]
    assert raised.tb is not None
