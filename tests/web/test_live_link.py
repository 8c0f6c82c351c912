"""The page Now, fed by a running ``live`` in another process: the same sums, and again after a restart."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
import apptell
from apptell.errors import OutputError
from apptell.records.forms.jsonl import json_lines
from apptell.service.metrics import Metrics, MetricsServer
from apptell.web.live_link import MOST_LINE, LiveLink
from apptell.web.live_metrics import LiveMetrics
from apptell.web.now_feed import quantile
from tests.history.rows import flow, verdict_of
from tests.web.conftest import Running  # noqa: TC001
from tests.web.test_history_page import HOSTILE, faults, texts, wait
from tests.web.test_now_board import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLE = Path(apptell.__file__).parent / "samples" / "named" / "named.pcap.xz"


@pytest.fixture
def link(tmp_path: Path) -> Iterator[LiveLink]:
    with LiveLink(tmp_path / "now.sock") as found:
        yield found


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def sent(path: Path, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        client.sendall(data)


def lines(*rows: dict[str, Any]) -> bytes:
    return "".join(f"{line}\n" for line in json_lines(records(*rows))).encode()


def view(link: LiveLink, **wanted: str) -> Any:
    link._views._made.clear()
    return json.loads(link.text(wanted))


def test_a_running_live_fills_the_page_and_again_after_a_restart(
    link: LiveLink, tmp_path: Path
) -> None:
    wrote = tmp_path / "records.jsonl"
    command = [
        sys.executable, "-m", "apptell.cli", "live", "--replay", str(SAMPLE), "--speed", "max",
        "--out", f"jsonl:unix:{tmp_path / 'now.sock'}", "--out", f"jsonl:{wrote}",
    ]  # fmt: skip
    for times in (1, 2):
        assert view(link)["counts"]["state"] == "waiting"
        subprocess.run(command, check=True, capture_output=True)
        n_lines = wrote.read_text().count("\n")
        until(lambda n=n_lines: link.records == n and not link.is_ready)  # type: ignore[misc]
        ends = [
            record
            for record in map(json.loads, wrote.read_text().splitlines())
            if record["event"] == "end"
        ]
        found = view(link)
        assert (found["flows"], link.connections, link.unreadable) == (68 * times, times, 0)
        assert found["bytes"] == sum(
            record["bytes_to_server"] + record["bytes_to_client"] for record in ends
        )
    assert view(link, app="instagram")["flows"] > 0


def test_flows_of_another_live_with_the_same_numbers_are_others(
    link: LiveLink, tmp_path: Path
) -> None:
    row = flow(1, 60, bytes_to_server=1000, bytes_to_client=0)
    for n in (1, 2):
        sent(tmp_path / "now.sock", lines(verdict_of(row)))
        until(lambda n=n: link.records == n)  # type: ignore[misc]
    assert view(link)["flows"] == 2
    sent(tmp_path / "now.sock", lines(verdict_of(row), row))
    until(lambda: link.records == 4)
    assert view(link)["flows"] == 3, "a verdict and its end are one flow"


def test_what_is_no_record_is_counted_and_left_out(link: LiveLink, tmp_path: Path) -> None:
    good = lines(flow(1, 60))
    long = b'{"event": "' + b"x" * (2 * MOST_LINE) + b'"}\n'
    sent(tmp_path / "now.sock", b"GET / HTTP/1.1\n" + long + good + b"\xff\n" + good[:-30])
    until(lambda: link.connections == 1 and not link.is_ready)
    assert (link.records, link.unreadable) == (1, 3)
    sent(tmp_path / "now.sock", good)
    until(lambda: link.records == 2)


def test_the_socket_is_private_and_never_takes_another_place(tmp_path: Path) -> None:
    path = tmp_path / "now.sock"
    with LiveLink(path):
        assert stat.S_IMODE(path.lstat().st_mode) == 0o660
        with pytest.raises(OutputError, match="another program listens on it"):
            LiveLink(path)
    assert not path.exists(), "it is removed at the end"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(path))
    left.close()
    with LiveLink(path):
        sent(path, b"")
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists and is no socket"):
        LiveLink(path)
    assert path.read_text() == "mine"
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OutputError, match="exists and is no socket"):
        LiveLink(tmp_path / "link")
    with pytest.raises(OutputError, match="No such file"):
        LiveLink(tmp_path / "none" / "now.sock")


@pytest.fixture
def counted() -> Iterator[tuple[Metrics, LiveMetrics]]:
    """Counters of a live, served as it serves them, and what reads them."""
    metrics = Metrics()
    metrics.is_ready, metrics.packets, metrics.bytes, metrics.kernel_drops = True, 1000, 5000, 7
    metrics.active, metrics.evicted = 12, 3
    metrics.delays([0.004] * 98 + [0.4] * 2)
    both = [(0.125, 1, HOSTILE[0]), (0.0, 0, "zoom")]

    def samples(escaped: Callable[[str], str]) -> list[tuple[str, str, list[str]]]:
        named = [(f'{{app="{escaped(name)}"}}', rise, alarm) for rise, alarm, name in both]
        rises = [f"apptell_drift_rise{label} {rise}" for label, rise, _ in named]
        alarms = [f"apptell_drift_alarm{label} {alarm}" for label, _, alarm in named]
        return [
            ("apptell_drift_flows", "x", ["apptell_drift_flows 500"]),
            ("apptell_drift_rise", "x", rises),
            ("apptell_drift_alarm", "x", alarms),
        ]

    lines_of = SimpleNamespace(metric_lines=samples)
    metrics.drift = lines_of  # type: ignore[assignment]
    with MetricsServer(("127.0.0.1", 0), metrics) as server:
        yield metrics, LiveMetrics(("127.0.0.1", server.port))


def test_counters_are_those_that_live_serves(counted: tuple[Metrics, LiveMetrics]) -> None:
    metrics, reader = counted
    reader.read()
    found = reader.counts()
    assert (found["packets"], found["kernel_drops"], found["open_flows"], found["evicted"]) == (
        1000, 7, 12, 3
    )  # fmt: skip
    assert found["delay_p50_s"] == quantile(metrics.delay, 0.5) == 0.005
    assert found["delay_p99_s"] == quantile(metrics.delay, 0.99) == 0.5
    assert found["drift"] == {
        "flows": 500, "apps": 2, "alarms": [{"app": HOSTILE[0], "rise": 0.125}]
    }  # fmt: skip
    assert found["packets_per_s"] == 0
    metrics.packets += 500
    reader.read()
    assert reader.counts()["packets_per_s"] > 0
    metrics.packets = 5  # another live
    reader.read()
    assert reader.counts()["packets_per_s"] == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not HTTP\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\napptell_x{ 1\n",
    ],
)
def test_another_server_than_live_is_a_fault_and_no_counters(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        reader = LiveMetrics(("127.0.0.1", server.getsockname()[1]))
        reader.read()
        thread.join()
    assert "no counters of apptell live at 127.0.0.1:" in reader.fault
    assert (reader.counts(), reader.is_ready) == ({}, False)


def test_the_page_waits_for_live_and_shows_its_drops_delays_and_drift(
    browser: Any,
    start: Callable[..., Running],
    tmp_path: Path,
    counted: tuple[Metrics, LiveMetrics],
) -> None:
    path = tmp_path / "now.sock"
    with counted[1] as metrics, LiveLink(path, metrics) as link:
        server = start(feed=link)
        assert server.ask("/readyz").status == 503
        browser.get(f"{server.address}/now")
        wait(browser, "document.getElementById('state').innerText === 'waiting for apptell live'")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
            client.sendall(lines(flow(1, 60), flow(2, 61)))
            wait(browser, "document.getElementById('state').innerText === 'live'")
            wait(browser, "!document.getElementById('drift').hidden")
            assert texts(browser, "#drift") == [
                f"Drift: the model no longer knows {HOSTILE[0]} (disagreement up by 13 %) as on held-out flows."
            ]
            shown = " ".join(texts(browser, "#tiles"))
            for words in ("Dropped packets", "Decision delay", "99 % within 500 ms", "Drift"):
                assert words in shown
            assert not faults(browser)
            browser.save_screenshot(str(tmp_path / "link.png"))
            assert server.ask("/readyz").status == 200
            assert b"apptell_link_records_total 2\n" in server.ask("/metrics").body
        wait(browser, "document.getElementById('state').innerText === 'waiting for apptell live'")
        browser.get("about:blank")
