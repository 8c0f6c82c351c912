"""The view of ``apptell top``: its text, its order, its end."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from apptell.cli.app import app
from apptell.cli.top import View, _size
from apptell.service.app_tally import Row
from apptell.service.metrics import Metrics

ROOT = Path(__file__).parents[2]
PHONE = ROOT / "src/apptell/samples/pcapdroid/phone.pcap"
ROWS = [
    Row("10.0.0.2", "xmpp", 3, 1, 42, 13_400, 0.0, 0.93),
    Row("10.0.0.2", None, 11, 0, 154, 58_600, 2_000.0, 0.6612),
    Row("10.0.0.3", "mumble", 5, 5, 70_000, 19_500_000, 1_250_000.0, 1.0),
    Row("10.0.0.3", "other", 1, 0, 9, 2_000, 0.0, None),
]

TOGETHER = [replace(row, client=None) for row in ROWS]


def text(rows, height=None, **options):
    metrics = Metrics()
    metrics.packets, metrics.bytes, metrics.active = 71_000, 19_600_000, 6
    metrics.verdicts["xmpp", "named"] = 20
    metrics.verdicts["", "overloaded"] = 2
    console = Console(file=StringIO(), width=100, color_system=None)
    console.print(View("wlan0", "m@1", **options).draw(rows, metrics, 75.2, height))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def test_the_view_is_as_it_was():
    assert text(ROWS, per_client=True) + "\n" == (Path(__file__).parent / "top.txt").read_text()


@pytest.mark.parametrize("width", [60, 79])
def test_a_narrow_terminal_shows_whole_columns(width):
    """At 60 characters no number is cut and no line is broken."""
    console = Console(file=StringIO(), width=width, color_system=None)
    drawn = View("wlan0", "m@1", per_client=True).draw(ROWS, Metrics(), 1.0, None, width)
    console.print(drawn)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    heading = next(line for line in lines if line.startswith("client"))
    assert heading.split() == ["client", "app", "or", "service", "bytes", "bytes/s", "flows"]
    (mumble,) = [line.split() for line in lines if "mumble" in line]
    assert mumble == ["10.0.0.3", "mumble", "19.5", "MB", "1.2", "MB", "5"]
    assert all(len(line) <= width and "…" not in line for line in lines)


def test_a_small_terminal_shows_the_largest_and_says_how_many_are_left_out():
    lines = text(TOGETHER, height=7).splitlines()
    assert [line.split()[0] for line in lines[4:6]] == ["mumble", "-"]
    assert lines[-1] == "2 more"
    assert len(lines) <= 7


@pytest.mark.parametrize(
    ("sort", "first"), [("bytes", "mumble"), ("rate", "mumble"), ("flows", None), ("confidence", "mumble")]
)  # fmt: skip
def test_the_largest_is_first(sort, first):
    assert View("x", "m", sort=sort).sorted(TOGETHER)[0].app == first


def test_sizes_have_three_digits_or_so():
    assert [_size(n) for n in (0, 999, 1000, 14_400, 999_499, 999_500, 5e15)] == [
        "0 B", "999 B", "1.0 kB", "14.4 kB", "999 kB", "1.0 MB", "5000.0 TB",
    ]  # fmt: skip


def test_in_a_pipe_the_last_view_is_json_lines():
    done = CliRunner().invoke(app, ["top", "--replay", str(PHONE), "--speed", "max"])
    assert done.exit_code == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    sizes = [row["bytes"] for row in found]
    assert sizes == sorted(sizes, reverse=True)
    summary = CliRunner().invoke(app, ["identify", str(PHONE), "--summary", "--format", "jsonl"])
    expected = {
        (row["app"], row["service"]): (row["flows"], row["bytes"])
        for row in map(json.loads, summary.stdout.splitlines())
        if row["client"] is None
    }
    assert {(row["app"], row["service"]): (row["flows"], row["bytes"]) for row in found} == expected


def test_an_order_that_is_none_is_refused():
    done = CliRunner().invoke(app, ["top", "--replay", str(PHONE), "--sort", "name"])
    assert done.exit_code == 2
    assert "--sort 'name' is none of bytes, rate, flows, confidence" in done.stderr


def _in_a_terminal(*words):
    """A process with a terminal of its own; gives it and the terminal's other end."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "apptell.cli", "top", *words],
        stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(1), os.O_RDWR)),  # takes it as its own
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
    )  # fmt: skip
    os.close(slave)
    return process, master


def _read(master, until, seconds=60.0):
    """What a terminal shows until a pattern is there, or its end."""
    shown, end = "", time.monotonic() + seconds
    while time.monotonic() < end and not (until and re.search(until, shown)):
        if select.select([master], [], [], 0.1)[0]:
            try:
                data = os.read(master, 65_536)
            except OSError:  # Linux: the other end was closed
                break
            if not data:
                break
            shown += data.decode(errors="replace")
    return shown


def test_q_ends_it_and_the_last_view_stays():
    process, master = _in_a_terminal("--replay", str(PHONE), "--speed", "1x")
    try:
        assert "verdicts" in _read(master, r"[1-9]\d* verdicts")
        os.write(master, b"xq")
        shown = _read(master, None, 15.0)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert "confidence" in shown
    assert "\x1b[?25h" in shown, "the cursor is shown again"
