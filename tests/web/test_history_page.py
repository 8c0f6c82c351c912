"""The history page and a flow's page in a real browser: opened, clicked, narrowed, searched and sorted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.history.rows import flow, mixed_records, verdict_of, write_records
from tests.web.conftest import Running, resize, scheme, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

AXE = Path(__file__).parent / "axe" / "axe.min.js"
HOSTILE = (
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    '"><svg onload=window.hacked=1>',
    "{{7*7}}${7*7}",
    "javascript:window.hacked=1",
    "\u202egnp.exe",
)


def wait(driver: Any, script: str) -> Any:
    """Waits until a script returns something true."""
    return wait_for(lambda: driver.execute_script(f"return ({script})"))


def opened(driver: Any, url: str) -> None:
    driver.get(url)
    settled(driver)


def settled(driver: Any) -> None:
    """Waits until the page has its data."""
    wait(
        driver,
        "document.querySelector('#flows td, #near td, .empty, .fault:not([hidden])') "
        "&& !document.body.hasAttribute('aria-busy')",
    )


def click(driver: Any, text: str, inside: str = "body") -> None:
    from selenium.webdriver.common.by import By

    for element in driver.find_elements(By.CSS_SELECTOR, f"{inside} button, {inside} a"):
        if element.text.startswith(text):
            element.click()
            settled(driver)
            return
    raise AssertionError(f"no {text!r} to click")


def texts(driver: Any, selector: str) -> list[str]:
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText.trim())",
        selector,
    )


def faults(driver: Any) -> list[str]:
    """What axe-core finds of serious or critical impact by WCAG 2.2 A and AA."""
    driver.execute_script(AXE.read_text(encoding="utf-8"))
    found = driver.execute_async_script(
        "const done = arguments[0], only = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];"
        "axe.run(document, {runOnly: only, resultTypes: ['violations']}).then((r) => done(r.violations), "
        "(e) => done([{impact: 'critical', id: String(e), nodes: []}]))"
    )
    return [
        f"{each['id']}: {[node['html'][:120] + str(node.get('failureSummary')) for node in each['nodes'][:3]]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def query_of(driver: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(driver.current_url).query, keep_blank_values=True)


def test_the_page_shows_the_sums_the_groups_and_the_flows(browser: Any, server: Running) -> None:
    opened(browser, f"{server.address}/history")
    assert texts(browser, "#tiles dd:nth-of-type(1)")[0] == "9"
    assert [text.split("\n")[0] for text in texts(browser, "#groups td:first-child")] == [
        "Zoom",
        "Signal",
        "Not named",
    ]
    assert len(texts(browser, "#flows tbody tr")) == 9
    assert texts(browser, "#legend li") == ["Zoom", "Signal", "Not named"]
    assert texts(browser, "#tiles dd:nth-of-type(1)")[3] == "2"
    widths, colours = browser.execute_script(
        "return [[...document.querySelectorAll('#groups .fill')].map((e) => parseFloat(e.style.width)),"
        "['#groups', '#legend'].map((at) => [...document.querySelectorAll(at + ' .dot')]"
        ".map((e) => e.className))]"
    )
    assert sum(widths) == pytest.approx(100, abs=0.1)
    assert colours[0] == colours[1]
    assert browser.execute_script("return document.querySelector('#chart canvas').width") > 300
    assert "18 records in 2 files" in browser.page_source


def test_clicks_narrow_everything_and_the_address_keeps_the_state(
    browser: Any, server: Running
) -> None:
    opened(browser, f"{server.address}/history")
    click(browser, "Signal", "#groups")
    assert query_of(browser) == {"app": ["signal"]}
    assert len(texts(browser, "#flows tbody tr")) == 6
    browser.execute_script(
        "const by = document.getElementById('by'); by.value = 'client'; by.dispatchEvent(new Event('change'))"
    )
    settled(browser)
    wait(browser, "document.getElementById('groups-title').innerText === 'By client'")
    click(browser, "10.0.0.2", "#legend")
    assert query_of(browser) == {"app": ["signal"], "by": ["client"], "client": ["10.0.0.2"]}
    assert len(texts(browser, "#flows tbody tr")) == 2
    here = browser.current_url
    click(browser, "App: signal", "#filters")
    assert len(texts(browser, "#flows tbody tr")) == 3
    browser.back()
    settled(browser)
    assert browser.current_url == here
    wait(browser, "document.querySelectorAll('#flows tbody tr').length === 2")
    opened(browser, here)
    assert texts(browser, "#filters li") == ["App: signal×", "Client: 10.0.0.2×"]
    assert len(texts(browser, "#flows tbody tr")) == 2


def test_searching_sorting_and_the_measure(browser: Any, server: Running) -> None:
    opened(browser, f"{server.address}/history")
    field = browser.find_element("css selector", "#search input")
    field.send_keys("signal.example\n")
    wait(browser, "document.getElementById('flows-count').innerText === '6 flows'")
    click(browser, "Bytes", "#flows")
    assert [
        int(t.split("\n")[1].split("/")[0]) for t in texts(browser, "#flows td:nth-child(3)")
    ] == [40_005, 40_004, 40_003, 40_002, 40_001, 40_000]
    click(browser, "Bytes", "#flows")
    assert (
        browser.execute_script(
            "return document.querySelector('#flows th[aria-sort]').getAttribute('aria-sort')"
        )
        == "ascending"
    )
    click(browser, "Flows", "#measures")
    assert query_of(browser) == {
        "q": ["signal.example"],
        "sort": ["bytes"],
        "order": ["asc"],
        "measure": ["flows"],
    }
    assert "q=signal.example" in browser.find_element("id", "csv").get_attribute("href")


def test_dragging_on_the_chart_chooses_a_time(browser: Any, server: Running) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    opened(browser, f"{server.address}/history")
    over = browser.find_element("css selector", "#chart .u-over")
    ActionChains(browser).move_to_element_with_offset(
        over, -300, 0
    ).click_and_hold().move_by_offset(150, 0).release().perform()
    wait(browser, "location.search.includes('from=')")
    settled(browser)
    assert 0 < len(texts(browser, "#flows tbody tr")) < 9
    click(browser, "All", "#ranges")
    assert len(texts(browser, "#flows tbody tr")) == 9


def test_a_flow_has_its_reason_its_traffic_and_its_record(browser: Any, server: Running) -> None:
    opened(browser, f"{server.address}/history?app=zoom")
    browser.find_element("css selector", "#flows a").click()
    settled(browser)
    assert browser.find_element("id", "who").text == "Zoom"
    assert (
        browser.find_element("id", "why").text
        == "Zoom, because the model finds its packets most like those of Zoom."
    )
    assert texts(browser, "#evidence .decides .label") == ["Model"]
    assert "not asked" in texts(browser, "#evidence li")[-1]
    assert "97 %" in texts(browser, "#probabilities .bar-row")[0]
    assert "50.0 kB in 4 packets" in browser.find_element("id", "traffic").text
    assert "1:flow6+/=" in texts(browser, "#record dd")
    assert texts(browser, "#near tbody td:first-child")


def test_a_flow_that_is_gone_is_said(browser: Any, server: Running) -> None:
    opened(browser, f"{server.address}/flow?community_id=1:none")
    assert "There is no such flow" in browser.find_element("id", "fault").text


def test_a_fault_of_the_request_is_shown_and_not_the_old_data(
    browser: Any, server: Running
) -> None:
    opened(browser, f"{server.address}/history?from=yesterday")
    assert "'yesterday' is not a time" in browser.find_element("id", "fault").text


def test_empty_histories_say_what_to_do(
    browser: Any, start: Callable[..., Running], tmp_path: Path
) -> None:
    opened(browser, f"{start(tmp_path).address}/history")
    assert (
        "apptell live -i wlan0 --out parquet:records/"
        in browser.find_element("css selector", ".empty").text
    )
    (tmp_path / "other").mkdir()
    mixed_records(tmp_path / "other")
    opened(browser, f"{start(tmp_path / 'other').address}/history?last=1h")
    assert (
        "The newest record is of 18 Nov 2026 11:11:40 UTC"
        in browser.find_element("css selector", ".empty").text
    )
    click(browser, "Show everything")
    assert len(texts(browser, "#flows tbody tr")) == 9


@pytest.mark.slow
def test_hostile_names_are_shown_and_never_run(
    browser: Any, start: Callable[..., Running], tmp_path: Path
) -> None:
    ends = [
        flow(i, i, server_name=text, app=text, app_name=text, category=text, client_address=text, service=text,
             community_id=text, dns_name=text, model=text, best_guess=text, runner_up=text, confidence=0.9,
             runner_up_confidence=0.05, threshold=0.5, evidence="model", ja4=text, outcome=text,
             end_reason=text)
        for i, text in enumerate(HOSTILE)
    ]  # fmt: skip
    write_records(tmp_path / "a.parquet", [row for end in ends for row in (verdict_of(end), end)])
    (tmp_path / "<img src=x onerror=window.hacked=1>.parquet").write_text("x")
    server = start(tmp_path)
    for by in ("app", "client", "server", "outcome", "model"):
        opened(browser, f"{server.address}/history?by={by}")
        shown = texts(browser, "#groups td:first-child")
        assert len(shown) == len(HOSTILE)
        assert HOSTILE[0].lower() in [text.lower() for text in shown]
    for text in HOSTILE:
        opened(browser, f"{server.address}/history?app={json.dumps(text)[1:-1]}&q={text[:5]}")
    opened(browser, f"{server.address}/history")
    for link in browser.execute_script(
        "return [...document.querySelectorAll('#flows a')].map((a) => a.href)"
    ):
        assert link.startswith(server.address)
        opened(browser, link)
        assert browser.find_element("id", "who").text
    assert browser.execute_script("return window.hacked === undefined")
    assert not browser.execute_script(
        "return document.querySelectorAll('main img, main script').length"
    )


@pytest.mark.parametrize(("width", "colours"), [(1240, "light"), (390, "dark")])
def test_no_page_has_a_serious_fault_of_accessibility_and_none_is_wider_than_the_screen(
    browser: Any, server: Running, width: int, colours: str
) -> None:
    resize(browser, width, 900)
    scheme(browser, colours)
    for path in ("/history?app=signal&app=&app=zoom", "/history?last=1h", "/api"):
        browser.get(f"{server.address}{path}")
        if "history" in path:
            settled(browser)
        assert not faults(browser), path
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, path
    opened(browser, f"{server.address}/flow?community_id=1:flow6%2B/%3D")
    assert not faults(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_keyboard_reaches_everything(browser: Any, server: Running) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    opened(browser, f"{server.address}/history")
    browser.execute_script(
        "window.reached = []; document.addEventListener('focusin', ({target: e}) => "
        "reached.push(e.id || e.textContent.trim() || e.name))"
    )
    ActionChains(browser).send_keys(Keys.TAB * 40).perform()
    reached = browser.execute_script("return reached")
    assert reached[0] == "Skip to the content"
    assert {"History", "theme", "7 days", "by", "q", "Zoom", "csv", "parquet"} <= set(reached)
    browser.execute_script("document.querySelector('#groups .pick').focus()")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait(browser, "location.search === '?app=zoom'")


def test_light_and_dark_are_chosen_and_kept(browser: Any, server: Running) -> None:
    opened(browser, f"{server.address}/history")

    def page() -> str:
        return browser.execute_script(
            "return getComputedStyle(document.documentElement).backgroundColor"
        )

    light = page()
    browser.find_element("id", "theme").click()
    dark = page()
    assert light != dark
    opened(browser, f"{server.address}/history")
    assert page() == dark
    browser.execute_script("localStorage.clear()")


def test_a_person_logs_in_and_lands_where_they_wanted(
    browser: Any, start: Callable[..., Running], tmp_path: Path
) -> None:
    mixed_records(tmp_path)
    server = start(tmp_path, token="0123456789abcdef")
    browser.get(f"{server.address}/history?app=zoom")
    assert not faults(browser)
    browser.find_element("name", "token").send_keys("wrong\n")
    wait(browser, "document.querySelector('.fault')")
    browser.find_element("name", "token").send_keys("0123456789abcdef\n")
    wait(browser, "document.querySelectorAll('#flows tbody tr').length === 1")
    assert query_of(browser) == {"app": ["zoom"]}
    click_log_out = browser.find_element("css selector", "form[action='/logout'] button")
    click_log_out.click()
    wait(browser, "location.pathname === '/login'")
