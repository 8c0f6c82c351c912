"""Reports of a folder: listed, opened in a sandbox and compared; nothing in them is run."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")
from apptell.errors import OutputError
from apptell.reports.page import Section, write_page
from apptell.web.report_shelf import ReportShelf
from tests.web.conftest import Running  # noqa: TC001
from tests.web.test_history_page import faults, texts, wait

if TYPE_CHECKING:
    from collections.abc import Callable

EVIL = "<script>parent.hacked=1;window.hacked=1</script><img src=x onerror='parent.hacked=1'>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reports as apptell writes them, a hostile one, a link, and things that are no reports."""
    folder = tmp_path_factory.mktemp("shelf") / "reports"
    section = Section("sizes", "Sizes", head=("app", "flows"), rows=[("signal", 3)])
    for name, accuracy in (("first", 0.9), ("deep/second", 0.95)):
        metrics = {
            "accuracy": accuracy,
            "all": {"n_flows": 100},
            "apps": ["a"],
            "bad": float("nan"),
        }
        write_page(folder / name, f"Report {name}", ["Words."], [section], metrics)
    evil = folder / "evil <b>x"
    evil.mkdir()
    (evil / "report.html").write_text(f"<h1>evil</h1>{EVIL}")
    (evil / "metrics.json").write_text("[" * 100_000)
    (evil / "run.js").write_text("parent.hacked=1")
    (folder / "empty").mkdir()
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "report.html").write_text("secret")
    (folder / "link").symlink_to(outside)
    (folder / "first" / "out.html").symlink_to(outside / "report.html")
    return folder


@pytest.fixture(scope="module")
def shelf(start: Callable[..., Running], folder: Path) -> Running:
    return start(shelf=ReportShelf(folder))


def test_reports_are_listed_with_their_figures(shelf: Running) -> None:
    found = {each["name"]: each for each in shelf.ask("/api/reports").json["reports"]}
    assert set(found) == {"first", "deep/second", "evil <b>x"}
    assert found["first"]["figures"] == {"accuracy": 0.9, "all.n_flows": 100}
    assert {"metrics.json", "report.html", "sizes.csv"} <= set(found["first"]["files"])
    assert found["evil <b>x"]["figures"] == {}
    assert "run.js" not in found["evil <b>x"]["files"]


def test_files_of_a_report_are_shown_in_a_sandbox_or_downloaded(shelf: Running) -> None:
    page = shelf.ask("/reports/file/first/report.html")
    assert b"Report first" in page.body
    policy = page.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-same-origin; default-src 'none'")
    assert "script-src" not in policy
    assert "allow-scripts" not in policy
    table = shelf.ask("/reports/file/first/sizes.csv")
    assert table.headers["content-disposition"].startswith("attachment")
    assert json.loads(shelf.ask("/reports/file/deep/second/metrics.json").body)["accuracy"] == 0.95


@pytest.mark.parametrize(
    "path",
    ["../outside/report.html", "%2e%2e/outside/report.html", "first/../../outside/report.html",
     "link/report.html", "first/out.html", "/etc/passwd", "first//report.html", "first/.apptell-report",
     "first", "", "first/none.html", "evil%20%3Cb%3Ex/run.js", "first/%00.html",
     "first\\..\\..\\outside\\report.html"],
)  # fmt: skip
def test_nothing_outside_and_nothing_else_is_read(shelf: Running, path: str) -> None:
    answer = shelf.ask(f"/reports/file/{path}")
    assert answer.status == 404
    assert b"secret" not in answer.body


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such folder of reports"):
        ReportShelf(tmp_path / "none")


def test_reports_are_opened_and_two_are_compared_in_the_browser(
    browser: Any, shelf: Running
) -> None:
    browser.get(f"{shelf.address}/")
    wait(browser, "document.querySelectorAll('#list tbody tr').length === 3")
    assert not faults(browser)
    browser.find_element("css selector", "input[aria-label='Compare first']").click()
    browser.find_element("css selector", "input[aria-label='Compare deep/second']").click()
    wait(browser, "!document.getElementById('compare').hidden")
    assert texts(browser, "#sides tbody tr")[0].split("\t") == ["accuracy", "0.9", "0.95", "0.05"]
    for name in ("first", "evil <b>x"):
        (button,) = (
            b for b in browser.find_elements("css selector", "#list button") if b.text == name
        )
        button.click()
        wait(browser, f"document.getElementById('opened-title').innerText === {json.dumps(name)}")
        browser.switch_to.frame("frame")
        wait(browser, "document.readyState === 'complete' && document.querySelector('h1')")
        browser.switch_to.default_content()
    assert browser.execute_script("return window.hacked === undefined")
    noted = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert all("report.html" in line for line in noted), (
        "only what the hostile report tried was blocked"
    )
    assert noted


def test_an_empty_folder_says_what_to_do(
    browser: Any, start: Callable[..., Running], tmp_path: Path
) -> None:
    browser.get(f"{start(shelf=ReportShelf(tmp_path)).address}/reports")
    wait(browser, "document.querySelector('.empty')")
    assert "apptell evaluate" in browser.find_element("css selector", ".empty").text
