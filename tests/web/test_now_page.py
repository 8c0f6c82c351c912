"""The live view of a replayed capture: the same sums as its records, in the stream and in a real browser."""

from __future__ import annotations

import json
import random
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import apptell
from tests.history.rows import flow, verdict_of
from tests.web.conftest import Running, resize, scheme, wait_for
from tests.web.test_history_page import HOSTILE, faults, texts, wait
from tests.web.test_now_board import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apptell.web.now_feed import NowFeed

SAMPLE = Path(apptell.__file__).parent / "samples" / "named" / "named.pcap.xz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("now") / "records"


@pytest.fixture(scope="module")
def feed(folder: Path) -> Iterator[NowFeed]:
    """The pipeline of a replay at full speed, which also writes records."""
    pytest.importorskip("starlette")
    from apptell.flows import FlowOptions
    from apptell.service import LiveOptions, ReplaySource
    from apptell.verdicts import choose_deciders
    from apptell.web.now_feed import open_feed

    deciders = choose_deciders(None, None, (), None, None)
    flows = FlowOptions(
        groups=("core", "segments", "names"), transports=(6, 17), lists_decided=True
    )
    options = LiveOptions(flows, evidence=deciders.evidence)
    with open_feed("sample", [ReplaySource(SAMPLE)], None, options, folder, print) as found:
        wait_for(lambda: found.has_ended)
        yield found


@pytest.fixture(scope="module")
def live(start: Callable[..., Running], feed: NowFeed, folder: Path) -> Running:
    return start(folder, feed=feed)


def test_the_view_adds_up_to_the_records_of_the_same_packets(live: Running) -> None:
    view = live.ask("/api/now").json
    total = live.ask("/api/overview").json["total"]
    assert (view["bytes"], view["flows"]) == (total["bytes"], total["flows"])
    assert view["flows"] == 68
    assert view["counts"]["state"] == "ended"
    assert view["counts"]["packets"] == 762
    by_app = live.ask("/api/overview?by=app").json["groups"]
    assert {row["key"]: row["bytes"] for row in view["top"]["app"]}.items() <= {
        group["key"] or "": group["bytes"] for group in by_app
    }.items()


def test_the_stream_sends_an_event_every_second(live: Running) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as client:
        client.sendall(b"GET /api/now/stream?app=signal HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = b""
        while got.count(b"\ndata: ") + got.startswith(b"data: ") < 2 or not got.endswith(
            b"\n\n\r\n"
        ):
            got += client.recv(65_536)
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"text/event-stream" in head
    first = next(line for line in body.decode().splitlines() if line.startswith("data: "))
    assert [row["key"] for row in json.loads(first.removeprefix("data: "))["top"]["app"]] == [
        "signal"
    ]


def test_a_server_without_a_source_says_so(start: Callable[..., Running]) -> None:
    server = start()
    for path in ("/api/now", "/api/now/stream", "/now"):
        assert server.ask(path).status == 404
    assert server.ask("/").headers["location"] == "/history"


def test_metrics_and_readiness_are_those_of_the_pipeline(live: Running) -> None:
    assert live.ask("/readyz").status == 503, "the source has ended"
    assert b"apptell_packets_total 762\n" in live.ask("/metrics").body
    assert live.ask("/").headers["location"] == "/now"


def test_the_page_shows_apps_and_a_click_narrows_everything(browser: Any, live: Running) -> None:
    browser.get(f"{live.address}/now")
    wait(browser, "document.querySelectorAll('#top-app tbody .pick').length")
    assert browser.find_element("id", "state").text == "the source has ended"
    assert "68 flows" in texts(browser, "#tiles")[0]
    apps = texts(browser, "#top-app tbody td:first-child")
    assert "Instagram" in apps
    colours = browser.execute_script(
        "return [...document.querySelectorAll('#legend button .dot')].map((dot) => dot.className)"
    )
    assert len(set(colours)) == len(colours) > 5
    index = apps.index("Instagram")
    browser.find_elements("css selector", "#top-app .pick")[index].click()
    wait(
        browser,
        "location.search === '?app=instagram' && document.querySelectorAll('#top-app tbody tr').length === 1",
    )
    assert texts(browser, "#filters li") == ["App: instagram×"]
    assert texts(browser, "#latest tbody td:nth-child(2)")[0].startswith("Instagram")
    browser.find_elements("css selector", "#measures button")[1].click()
    wait(browser, "location.search === '?app=instagram&measure=flows'")
    assert browser.find_element("id", "chart-title").text == "Flows by app, the last five minutes"
    browser.find_elements("css selector", "#measures button")[0].click()
    browser.find_element("css selector", "#filters button").click()
    wait(
        browser,
        "location.search === '' && document.querySelectorAll('#top-app tbody tr').length > 1",
    )
    browser.find_element("css selector", "#latest a").click()
    wait(browser, "location.pathname === '/flow' && document.querySelector('#record dd')")


EVENTS = """
const done = arguments[arguments.length - 1], stream = new EventSource("/api/now/stream");
let left = 3;
stream.onmessage = () => { if (!--left) { stream.close(); done(true); } };
"""


def test_what_is_drawn_again_is_still_the_same_element(browser: Any, live: Running) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.set_script_timeout(300)
    browser.get(f"{live.address}/now")
    wait(browser, "document.querySelectorAll('#top-app tbody .pick').length > 1")
    places = "#top-app .pick, #legend button, #latest a, #tiles dd"
    before = browser.find_elements("css selector", places)
    rows = [each for each in before if each.get_attribute("class") == "pick"]
    name = rows[1].text
    browser.execute_script("arguments[0].focus()", rows[1])
    browser.execute_async_script(EVENTS)
    assert browser.find_elements("css selector", places) == before
    assert browser.switch_to.active_element == rows[1]
    rows[1].send_keys(Keys.SPACE)
    wait(browser, "document.querySelectorAll('#top-app tbody tr').length === 1")
    assert texts(browser, "#top-app tbody .pick") == [name]


def test_nothing_moves_under_a_pressed_pointer(browser: Any, live: Running) -> None:
    from selenium.webdriver import ActionChains

    browser.set_script_timeout(300)
    browser.get(f"{live.address}/now")
    wait(browser, "document.querySelectorAll('#top-app tbody .pick').length > 1")
    pick = browser.find_elements("css selector", "#top-app .pick")[1]
    name = pick.text
    ActionChains(browser).click_and_hold(pick).perform()
    browser.execute_script("document.querySelector('#tiles dt').textContent = 'held'")
    browser.execute_async_script(EVENTS)
    assert texts(browser, "#tiles dt")[0] == "held"
    ActionChains(browser).release().perform()
    wait(browser, "document.querySelectorAll('#top-app tbody tr').length === 1")
    assert texts(browser, "#tiles dt")[0] != "held"
    assert texts(browser, "#top-app tbody .pick") == [name]


REFRESH = """
const done = arguments[arguments.length - 1];
import("/static/ui.js").then(({ h, fill, refresh }) => {
  const shown = h("ul"), again = h("ul");
  const row = ([key, text, name]) => h("li", { "data-key": key, class: name },
    key === null ? text : [h("b", {}, text), text.length % 2 ? h("i", {}, "odd") : null, ` ${text}`]);
  document.body.append(shown);
  const faults = [];
  let places = new Map();
  for (const wanted of arguments[0]) {
    refresh(shown, wanted.map(row));
    fill(again, wanted.map(row));
    if (shown.outerHTML !== again.outerHTML) faults.push([wanted, shown.outerHTML]);
    const keyed = [...shown.children].filter((each) => "key" in each.dataset);
    const now = new Map(keyed.map((each) => [each.dataset.key, each]));
    for (const [key, element] of now) {
      if (places.has(key) && places.get(key) !== element) faults.push(["another element", wanted, key]);
    }
    places = now;
  }
  shown.remove();
  done(faults);
});
"""


def test_a_refreshed_list_is_as_one_drawn_anew_and_keeps_its_elements(
    browser: Any, live: Running
) -> None:
    browser.get(f"{live.address}/now")
    wait(browser, "document.querySelectorAll('#top-app tbody .pick').length")
    chance = random.Random(5)
    lists = [
        [
            [key if key % 4 else None, "x" * chance.randrange(4), chance.choice([None, "a", "b"])]
            for key in chance.sample(range(1, 12), chance.randrange(9))
        ]
        for _ in range(300)
    ]
    assert browser.execute_async_script(REFRESH, lists) == []


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_page_is_accessible_and_fits_a_phone(browser: Any, live: Running, colours: str) -> None:
    scheme(browser, colours)
    for width in (1240, 390):
        resize(browser, width, 900)
        browser.get(f"{live.address}/now")
        wait(browser, "document.querySelectorAll('#top-app tbody .pick').length")
        assert not faults(browser)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_hostile_names_are_shown_and_never_run(browser: Any, live: Running, feed: NowFeed) -> None:
    feed._board.write(records(*(
        verdict_of(flow(i + 900, app=text, app_name=text, category=text, client_address=text, service=text,
                        outcome=text, server_name=text))
        for i, text in enumerate(HOSTILE)
    )))  # fmt: skip
    time.sleep(1.1)
    browser.get(f"{live.address}/now")
    wait(browser, "document.querySelectorAll('#top-outcome tbody .pick').length > 5")
    assert HOSTILE[0] in "".join(texts(browser, "#latest"))
    assert browser.execute_script(
        "return window.hacked === undefined && !document.querySelector('main img, main script')"
    )
