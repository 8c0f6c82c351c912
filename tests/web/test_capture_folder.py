"""Captures of the flows of a history: found by name or by time, and read for a flow's reason and packets."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")
import apptell
from apptell.errors import CaptureError, OutputError
from apptell.testing import START_NS, app_capture, write_pcap
from apptell.web.capture_folder import CaptureFolder, find_captures
from apptell.web.capture_jobs import CaptureSettings, identify_capture
from tests.web.conftest import patient_limits
from tests.web.test_history_page import faults, settled, texts, wait
from tests.web.test_now_page import SAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.conftest import Running

SECOND_NS = 1_000_000_000


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    """Six captures of two seconds each, as a ring of tcpdump leaves them; and things that are none."""
    folder = tmp_path / "ring"
    (folder / "deep").mkdir(parents=True)
    for i in range(6):
        begun = START_NS + i * 2 * SECOND_NS
        path = folder / ("deep" if i > 2 else ".") / f"ring{i}.pcap"
        write_pcap(path, app_capture(["signal", "zoom"], 1, start_ns=begun))
        os.utime(path, ns=(begun + 2 * SECOND_NS, begun + 2 * SECOND_NS))
    (folder / "notes.txt").write_text("no capture")
    (folder / ".hidden.pcap").write_bytes((folder / "ring1.pcap").read_bytes())
    (folder / "link.pcap").symlink_to(folder / "ring1.pcap")
    (folder / "loop").symlink_to(folder)
    return folder


def record(capture: str, start_s: float, end_s: float) -> dict[str, Any]:
    start_ns, end_ns = (START_NS + int(at * SECOND_NS) for at in (start_s, end_s))
    return {"capture": capture, "start_ns": start_ns, "end_ns": end_ns}


def names(found: list[str]) -> list[str]:
    return [Path(path).name for path in found]


def test_the_capture_that_the_record_names_is_the_one(ring: Path) -> None:
    assert names(find_captures(ring, record("ring1.pcap", 0, 1))) == ["ring1.pcap"]
    assert names(find_captures(ring, record("deep/ring4.pcap", 0, 1))) == ["ring4.pcap"]
    assert names(find_captures(ring, record("ring4.pcap", 0, 1))) == ["ring4.pcap"]


def test_captures_of_an_interface_are_found_by_time(ring: Path) -> None:
    assert names(find_captures(ring, record("wlan0", 4.5, 6.5))) == ["ring2.pcap", "ring3.pcap"]
    assert names(find_captures(ring, record("wlan0", 10.1, 99))) == ["ring5.pcap"]
    for name in ("link.pcap", "../ring1.pcap", ".hidden.pcap", ""):
        assert "link.pcap" not in names(find_captures(ring, record(name, 2.5, 3)))
    with pytest.raises(CaptureError, match="no capture in the folder has the packets"):
        find_captures(ring, record("wlan0", 100, 101))
    with pytest.raises(CaptureError, match="no capture in the folder has the packets"):
        find_captures(ring, record("wlan0", -10, -9))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such folder of captures"):
        CaptureFolder(tmp_path / "none", CaptureSettings())


def test_a_flow_of_the_history_has_its_reason_and_its_packets(
    browser: Any, start: Callable[..., Running], tmp_path: Path
) -> None:
    for name in ("captures", "records"):
        (tmp_path / name).mkdir()
    copy = tmp_path / "captures" / SAMPLE.name
    shutil.copy(SAMPLE, copy)
    settings = CaptureSettings(evidence="name,dns,address,range,model")
    identify_capture(copy, tmp_path / "records", settings, lambda _: None)
    kept = CaptureFolder(tmp_path / "captures", settings, limits=patient_limits())
    server = start(tmp_path / "records", kept=kept)
    assert server.ask("/api/status").json["has_captures"]
    browser.get(f"{server.address}/history?evidence=model&last=all")
    settled(browser)
    browser.find_element("css selector", "#flows a").click()
    settled(browser)
    wait(browser, "!document.getElementById('bytes-card').hidden")
    assert texts(browser, "#evidence .decides .label") == ["Model"]
    assert len(texts(browser, "#contributions tbody tr")) == 13
    browser.find_element("id", "more-parts").click()
    assert len(texts(browser, "#contributions tbody tr")) > 13
    assert not faults(browser)
    packets = server.ask(
        browser.find_element("id", "pcapng").get_attribute("href").removeprefix(server.address)
    )
    (tmp_path / "flow.pcapng").write_bytes(packets.body)
    (again,) = apptell.read_flows(
        tmp_path / "flow.pcapng", apptell.FlowOptions(transports=(6, 17))
    ).to_flows()
    assert again.community_id in browser.current_url.replace("%2F", "/").replace(
        "%3D", "="
    ).replace("%3A", ":").replace("%2B", "+")
    copy.unlink()
    answer = server.ask("/api/reason?" + browser.current_url.partition("?")[2])
    assert answer.status == 400
    assert "no capture in the folder has the packets of this flow" in answer.json["error"]
