"""A registry of models: shown, compared, promoted and rolled back, by nobody who may not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path  # noqa: TC003
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")
from apptell.models import write_model
from apptell.models.model_shelf import ModelShelf
from tests.models.tiny import info, network
from tests.web.conftest import Running, log_in, resize, scheme
from tests.web.test_history_page import HOSTILE, faults, texts, wait

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "0123456789abcdef0123"
EVIL = sorted({text.lower() for text in HOSTILE})
LINEAGE = [
    {
        "parent": "tiny@00000000",
        "when": "2026-05-01T00:00:00Z",
        "forced": False,
        "added": [{"by": "candidate", "from": EVIL[0], "flows": {EVIL[1]: 30}}],
        "held_out": [
            {"app": "alpha", "flows": 40, "before": 0.9, "after": 0.95},
            {"app": EVIL[2], "flows": 8, "before": None, "after": 0.8},
            "not an object",
        ],
    },
    {"added": 7, "held_out": {"a": 1}},
]


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Three versions of one model, of which the first is in use; a hostile model; and things that are none."""
    folder = tmp_path / "registry"
    shelf = ModelShelf(folder / "phones")
    for number in (1, 2, 3):
        metrics = {"accuracy": round(0.8 + number / 20, 2), "all": {"n_flows": number}, "note": "x"}
        more: dict[str, Any] = {"lineage": LINEAGE} if number == 3 else {}
        made = tmp_path / f"m{number}"
        about = info(threshold=number / 10, metrics=metrics, **more)
        write_model(made, network(), about, f"# card {number}\n{EVIL[0]}\n")
        shelf.add(made)
    shelf.promote("1")
    evil = tmp_path / "evil"
    write_model(evil, network(n_apps=len(EVIL)), info(name=EVIL[1], apps=EVIL), "\n".join(EVIL))
    ModelShelf(folder / "evil").add(evil)
    (folder / "evil" / "broken").mkdir()
    (folder / "evil" / "broken" / "model.json").write_text("[" * 100_000)
    outside = tmp_path / "outside"
    shutil.copytree(folder / "phones", outside)
    (folder / "link").symlink_to(outside)
    (folder / "phones" / "linked").symlink_to(outside / "2")
    return folder


@pytest.fixture
def shown(start: Callable[..., Running], registry: Path) -> Running:
    return start(token=TOKEN, models=registry)


def post(server: Running, path: str, said: Any, **headers: str) -> Any:
    sent = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json", **headers}
    return server.ask(path, "POST", json.dumps(said).encode(), **sent)


def got(server: Running, path: str) -> Any:
    return server.ask(path, Authorization=f"Bearer {TOKEN}")


def test_versions_are_listed_with_what_their_folders_say(shown: Running) -> None:
    found = got(shown, "/api/models").json
    assert found["can_change"] is True
    evil, phones = found["models"]
    assert [each["version"] for each in phones["versions"]] == ["1", "2", "3"]
    assert (phones["current"], phones["before"], phones["fault"]) == ("1", None, "")
    assert [each["version"] for each in phones["promotions"]] == ["1"]
    first = phones["versions"][0]
    assert first["name"].startswith("tiny@")
    assert first["figures"] == {
        "accuracy": 0.85, "all.n_flows": 1, "apps": 3, "training flows": 0, "threshold": 0.1
    }  # fmt: skip
    assert phones["versions"][2]["updates"] == 2
    broken = next(each for each in evil["versions"] if each["version"] == "broken")
    assert "nested too deeply" in broken["fault"]


def test_a_version_is_described_with_its_lineage_and_card(shown: Running) -> None:
    found = got(shown, "/api/models/phones/3").json
    assert found["card"] == f"# card 3\n{EVIL[0]}\n"
    assert [each["app"] for each in found["apps"]] == ["alpha", "beta", "gamma"]
    first, second = found["lineage"]
    assert first["added"] == [{"by": "candidate", "from": EVIL[0], "flows": {EVIL[1]: 30}}]
    assert first["held_out"][1] == {"app": EVIL[2], "flows": 8, "after": 0.8}
    assert len(first["held_out"]) == 2
    assert (second["added"], second["held_out"]) == ([], [])


@pytest.mark.parametrize(
    "name",
    ["phones/4", "phones/linked", "link/1", "none/1", "..%2f/1", "phones/..%2f..%2foutside%2f1",
     "phones/%2e%2e", "phones/.", "phones/current", "phones/1%00", "phones/1/model.json"],
)  # fmt: skip
def test_nothing_but_versions_is_read(shown: Running, name: str) -> None:
    answer = got(shown, f"/api/models/{name}")
    assert answer.status in (400, 404)
    assert b"card" not in answer.body


def test_a_version_is_promoted_and_rolled_back(shown: Running, registry: Path) -> None:
    answer = post(shown, "/api/models/phones/promote", {"version": "2", "instead_of": "1"})
    assert (answer.status, answer.json) == (200, {"model": "phones", "current": "2"})
    assert (registry / "phones" / "current").read_text() == "2\n"
    answer = post(shown, "/api/models/phones/rollback", {"instead_of": "2"})
    assert answer.json == {"model": "phones", "current": "1"}
    answer = post(shown, "/api/models/phones/rollback", {"instead_of": "1"})
    assert answer.status == 400
    assert answer.json["error"] == "phones: no version was in use before 1"
    assert ModelShelf(registry / "phones").versions() == ["1", "2", "3"], "nothing is deleted"


@pytest.mark.parametrize(
    ("said", "status"),
    [({"version": "2"}, 409), ({"version": "2", "instead_of": "3"}, 409),
     ({"version": "2", "instead_of": None}, 409),
     ({"version": "4", "instead_of": "1"}, 400), ({"version": "../evil/1", "instead_of": "1"}, 400),
     ({"version": "linked", "instead_of": "1"}, 400), ({"version": ["2"], "instead_of": "1"}, 400),
     ({"instead_of": "1"}, 400), ([], 400), ("2", 400)],
)  # fmt: skip
def test_a_change_that_is_not_exactly_meant_changes_nothing(
    shown: Running, registry: Path, said: Any, status: int
) -> None:
    assert post(shown, "/api/models/phones/promote", said).status == status
    assert (registry / "phones" / "current").read_text() == "1\n"


def test_other_sites_and_those_without_the_token_change_nothing(
    start: Callable[..., Running], shown: Running, registry: Path
) -> None:
    said = {"version": "2", "instead_of": "1"}
    session = shown.ask("/login", "POST", f"token={TOKEN}".encode()).headers["set-cookie"]
    own = session.split(";")[0]
    path, body = "/api/models/phones/promote", json.dumps(said).encode()
    refused: list[tuple[int, dict[str, str]]] = [
        (401, {"Content_Type": "application/json"}),
        (401, {"Content_Type": "application/json", "Authorization": "Bearer wrong"}),
        (403, {"Content_Type": "application/json", "Cookie": own, "Origin": "http://evil.example"}),
        (403, {"Content_Type": "application/json", "Cookie": own, "Origin": "null"}),
        (403, {"Content_Type": "application/json", "Cookie": own, "Sec_Fetch_Site": "cross-site"}),
        (415, {"Content_Type": "text/plain", "Cookie": own}),
        (415, {"Content_Type": "application/x-www-form-urlencoded", "Cookie": own}),
        (413, {"Content_Type": "application/json", "Cookie": own, "Content_Length": "99999999"}),
    ]
    for status, headers in refused:
        assert shown.ask(path, "POST", body, **headers).status == status, headers
    assert shown.ask(path, "GET", Cookie=own).status == 404
    open_to_all = start(models=registry)
    answer = open_to_all.ask(path, "POST", body, Content_Type="application/json")
    assert answer.status == 403
    assert "has no token" in answer.json["error"]
    assert open_to_all.ask("/api/models").json["can_change"] is False
    assert (registry / "phones" / "current").read_text() == "1\n"
    assert shown.ask(path, "POST", body, Content_Type="application/json", Cookie=own).status == 200


def test_a_server_without_a_registry_says_so(server: Running) -> None:
    for path in ("/models", "/api/models", "/api/models/phones/1"):
        assert server.ask(path).status == 404
    assert b"--models DIR" in server.ask("/api/models").body


@pytest.fixture
def page(browser: Any, shown: Running) -> Any:
    log_in(browser, shown)
    browser.get(f"{shown.address}/models")
    wait(browser, "document.querySelectorAll('#list tbody tr').length === 5")
    return browser


def test_a_version_is_promoted_and_rolled_back_in_the_browser(
    page: Any, shown: Running, registry: Path, tmp_path: Path
) -> None:
    assert not faults(page)
    page.find_element("css selector", "button[aria-label='Promote phones/3']").click()
    wait(page, "document.getElementById('ask').open")
    assert not faults(page)
    page.save_screenshot(str(tmp_path / "ask.png"))
    assert "It replaces version 1." in texts(page, "#ask-words")[0]
    page.find_element("id", "ask-no").click()
    assert (registry / "phones" / "current").read_text() == "1\n", "a question changes nothing"
    page.find_element("css selector", "button[aria-label='Promote phones/3']").click()
    page.find_element("id", "ask-yes").click()
    wait(page, "!document.getElementById('done').hidden")
    assert texts(page, "#done") == ["Version 3 of phones is in use."]
    assert (registry / "phones" / "current").read_text() == "3\n"
    wait(page, "document.querySelector('.card-head .downloads button')")
    page.find_element("css selector", ".card-head .downloads button").click()
    page.find_element("id", "ask-yes").click()
    wait(
        page,
        "document.getElementById('done').innerText === 'Version 1 of phones is in use again.'",
    )
    assert (registry / "phones" / "current").read_text() == "1\n"


def test_a_page_that_shows_an_old_state_changes_nothing(page: Any, registry: Path) -> None:
    ModelShelf(registry / "phones").promote("2")
    page.find_element("css selector", "button[aria-label='Promote phones/3']").click()
    page.find_element("id", "ask-yes").click()
    wait(page, "!document.getElementById('ask-fault').hidden")
    assert "load the page again" in texts(page, "#ask-fault")[0]
    assert (registry / "phones" / "current").read_text() == "2\n"
    # the refusal is shown on the page; Chromium also notes it in its console
    notes = [line["message"] for line in page.get_log("browser") if line["level"] == "SEVERE"]
    assert all("status of 409" in note for note in notes)


def test_two_versions_are_compared_and_one_is_opened(page: Any, tmp_path: Path) -> None:
    for name in ("phones/1", "phones/3"):
        page.find_element("css selector", f"input[aria-label='Compare {name}']").click()
    wait(page, "!document.getElementById('compare').hidden")
    assert texts(page, "#sides tbody tr")[0].split("\t") == ["accuracy", "0.85", "0.95", "0.1"]
    page.find_element("css selector", "button[aria-label='Open phones/3']").click()
    wait(page, "!document.getElementById('opened').hidden && document.querySelector('#about pre')")
    assert "40\t90 %\t95 %" in texts(page, "#about")[0]
    assert not faults(page)
    page.save_screenshot(str(tmp_path / "models.png"))
    scheme(page, "dark")
    resize(page, 390, 844)
    assert not faults(page)
    page.save_screenshot(str(tmp_path / "models-dark-phone.png"))
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390


def test_hostile_models_are_shown_and_never_run(page: Any) -> None:
    for name in ("evil/1", "phones/3"):
        page.find_element("css selector", f"button[aria-label='Open {name}']").click()
        wait(
            page,
            f"document.getElementById('opened-title').innerText.endsWith('{name[:4]}' + '{name[4:-2]}')",
        )
        assert EVIL[0] in texts(page, "#about")[0]
    assert page.execute_script(
        "return window.hacked === undefined && !document.querySelector('main img, main script, main svg')"
    )
