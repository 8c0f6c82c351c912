"""The page Try it in a real browser: a capture is chosen or dropped, and its flows are asked."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")
from apptell.testing import app_capture, client_hello, conversation, flow_batch, write_pcap
from tests.web.conftest import Running, desk_of, resize, scheme, send_capture
from tests.web.test_history_page import click, faults, settled, texts, wait
from tests.web.test_now_page import SAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MARKUP = "<img/src=x/onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def trying(start: Callable[..., Running]) -> Running:
    from apptell.web.capture_jobs import CaptureSettings

    settings = CaptureSettings(evidence="name,dns,address,range,model")
    return start(desk=desk_of(settings=settings, most_bytes=1_000_000))


def drop(driver: Any, name: str, data: bytes) -> None:
    """Drops a file on the page, as a person would."""
    driver.execute_script(
        "const bytes = Uint8Array.from(atob(arguments[1]), (c) => c.charCodeAt(0));"
        "const data = new DataTransfer(); data.items.add(new File([bytes], arguments[0]));"
        "const how = {dataTransfer: data, bubbles: true, cancelable: true};"
        "for (const kind of ['dragenter', 'dragover', 'drop'])"
        " document.body.dispatchEvent(new DragEvent(kind, how));",
        name,
        base64.b64encode(data).decode(),
    )


def opened(driver: Any, server: Running) -> None:
    driver.get(f"{server.address}/")
    wait(driver, "document.getElementById('most').innerText")


def test_a_capture_is_chosen_and_its_flows_are_shown_asked_and_deleted(
    browser: Any, trying: Running
) -> None:
    opened(browser, trying)
    assert browser.current_url.endswith("/try")
    assert "at most 1.0 MB" in browser.find_element("id", "drop").text
    assert not faults(browser)
    browser.find_element("id", "file").send_keys(str(SAMPLE))
    wait(browser, "document.querySelectorAll('#flows tbody tr').length > 10")
    assert browser.find_element("id", "title").text == SAMPLE.name
    assert "762 packets, 68 flows with a verdict" in browser.find_element("id", "extent").text
    assert "Instagram" in texts(browser, "#groups td:first-child")
    assert not faults(browser)
    browser.find_element("css selector", "#search input").send_keys("netflix\n")
    wait(browser, "document.getElementById('flows-count').innerText !== '68 flows'")
    click(browser, "Bytes", "#flows")
    assert "sort=bytes" in browser.current_url
    assert "upload=" in browser.current_url
    for form in ("csv", "parquet", "jsonl"):
        assert f"flows.{form}?q=netflix" in browser.find_element("id", form).get_attribute("href")
    browser.find_element("css selector", "#flows a").click()
    settled(browser)
    wait(browser, "!document.getElementById('bytes-card').hidden")
    assert browser.find_element("id", "who").text == "Netflix"
    assert texts(browser, "#evidence .decides .label") == ["Server name"]
    assert "nflxvideo" in browser.find_element("id", "why").text or "netflix" in (
        browser.find_element("id", "why").text
    )
    assert (
        browser.execute_script("return document.querySelector('#picture img').naturalWidth") == 87
    )
    assert len(browser.find_elements("css selector", "#packet-chart rect")) > 4
    browser.find_element("css selector", "#segments-details summary").click()
    assert len(texts(browser, "#segments .hex")) == 5
    titles = browser.execute_script(
        "return [...document.querySelectorAll('.hex b')].map((e) => e.title)"
    )
    assert "ClientHello" in titles
    for colours in ("light", "dark"):
        for width in (1240, 390):
            resize(browser, width, 900)
            scheme(browser, colours)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert not faults(browser)
    assert "packets.pcapng?" in browser.find_element("id", "pcapng").get_attribute("href")
    resize(browser, 1240, 900)
    browser.execute_script("scrollTo(0, 0)")
    browser.find_element("id", "back").click()
    wait(browser, "document.querySelectorAll('#flows tbody tr').length > 10")
    browser.find_element("id", "forget").click()
    wait(browser, "location.pathname === '/try' && !location.search")
    assert not trying.site.captures()._uploads


def test_hostile_names_in_a_dropped_capture_are_shown_and_never_run(
    browser: Any, trying: Running, tmp_path: Path
) -> None:
    plain = "a" * len(MARKUP)
    hello = client_hello(plain).replace(plain.encode(), MARKUP.encode())
    request = f"GET / HTTP/1.1\r\nHost: {MARKUP}\r\nUser-Agent: {MARKUP}\r\n\r\n".encode()
    packets = []
    for i, first in enumerate((hello, request)):
        messages = [(True, first), (False, b"\x16\x03\x03" * 40)] * 3
        packets += conversation(("10.0.0.2", 40_000 + i), ("203.0.113.9", 443 - i), messages)
    data = write_pcap(tmp_path / "a.pcap", sorted(packets)).read_bytes()
    opened(browser, trying)
    drop(browser, f"{MARKUP}.pcap", data)
    wait(browser, "document.querySelectorAll('#flows tbody tr').length === 2")
    assert "onerror" in browser.find_element("id", "title").text
    for link in browser.execute_script(
        "return [...document.querySelectorAll('#flows a')].map((a) => a.href)"
    ):
        browser.get(link)
        wait(browser, "!document.getElementById('bytes-card').hidden")
        assert texts(browser, "#contributions tbody tr"), "the model says what it rests on"
        assert not browser.execute_script(
            "return [...document.images].some((e) => e.closest('main') && e.src && !e.src.startsWith('data:'))"
        )
    assert browser.execute_script("return window.hacked === undefined")


def test_what_cannot_be_taken_is_said_and_another_can_be_tried(
    browser: Any, trying: Running
) -> None:
    opened(browser, trying)
    drop(browser, "empty.pcap", b"")
    assert browser.find_element("id", "trouble").text == "empty.pcap is empty."
    drop(browser, "large.pcap", bytes(1_000_001))
    assert "at most 1.0 MB" in browser.find_element("id", "trouble").text
    drop(browser, "<b>text</b>.txt", b"hello")
    wait(browser, "!document.getElementById('trouble').hidden")
    assert "not a known capture format" in browser.find_element("id", "trouble").text
    assert browser.find_element("id", "drop").is_displayed()
    assert not browser.get_log("browser")
    browser.get(f"{trying.address}/try?upload=none")
    wait(browser, "!document.getElementById('trouble').hidden")
    assert "there is no such result" in browser.find_element("id", "trouble").text
    (noted,) = browser.get_log("browser")
    assert (
        "/api/uploads/none - Failed to load resource: the server responded with a status of 404"
        in noted["message"]
    )


def test_similar_flows_of_the_training_set_are_shown_and_names_of_its_apps_run_nothing(
    browser: Any, start: Callable[..., Running], tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    from apptell.learning import train_model
    from apptell.web.capture_jobs import CaptureSettings

    labels = [app for app in (MARKUP, "signal") for _ in range(8)]
    shown = [app if app == "signal" else "zoom" for app in labels]  # what their packets are like
    model = tmp_path / "model"
    train_model(flow_batch(shown, seed=0), labels, model="paper-rf", out=model, keep_rows=True)
    settings = CaptureSettings(evidence="model", model=str(model), threshold=0.0)
    server = start(desk=desk_of(settings=settings))
    capture = write_pcap(tmp_path / "zoom.pcap", app_capture(["zoom"], 1, seed=3))
    number = send_capture(server, capture.read_bytes())["id"]
    browser.get(f"{server.address}/try?upload={number}")
    wait(browser, "document.querySelectorAll('#flows a').length")
    browser.get(browser.execute_script("return document.querySelector('#flows a').href"))
    wait(browser, "!document.getElementById('similar-card').hidden")
    words = browser.find_element("id", "similar-words").text
    assert words.startswith(
        f"The 16 most similar of the 16 flows of the training set: 8 of {MARKUP}"
    )
    rows = texts(browser, "#similar tbody tr")
    assert len(rows) == 5
    assert MARKUP in rows[0]
    assert "statistics" not in rows[0], "what both have is said in words"
    assert not faults(browser)
    assert browser.execute_script("return window.hacked === undefined")
