"""Candidates of ``discover``: looked at, named and sent to ``update`` from the page, by nobody who may not."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path  # noqa: TC003
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("sklearn")
from apptell.experiments.update import update
from apptell.learning import train_model
from apptell.models import load_model
from apptell.models.model_shelf import ModelShelf
from apptell.testing import START_NS, app_messages, conversation, flow_batch, write_pcap
from apptell.watch.discover import discover
from apptell.web import update_desk, update_worker
from apptell.web.bounded_process import ProcessEnding
from apptell.web.report_shelf import ReportShelf
from apptell.web.update_desk import UpdateDesk, UpdateTask
from tests.web.conftest import Running, log_in, resize, scheme, wait_for
from tests.web.test_history_page import HOSTILE, faults, texts, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "0123456789abcdef0123"
APPS = ["briar", "matrix", "signal", "zoom"]
HOUR = 3_600_000_000_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small forest that keeps its rows."""
    path = tmp_path_factory.mktemp("kept") / "model"
    labels = APPS * 30
    train_model(
        flow_batch(labels), labels, model="lengths-rf", out=path, hyperparameters={"n_trees": 10},
        unknown=True, keep_rows=True,
    )  # fmt: skip
    return path


def captured(folder: Path, app: str, begin: int) -> None:
    """Flows of an app by six clients."""
    for number in range(1, 7):
        packets = []
        for flow in range(5):
            packets += conversation(
                (f"192.168.9.{number}", 50_000 + flow), ("198.51.100.7", 443),
                app_messages(app, seed=100 * number + flow),
                start_ns=START_NS + (begin + number) * HOUR + flow * 1_000_000_000,
            )  # fmt: skip
        write_pcap(folder / f"{app}{number}.pcap", packets)


@pytest.fixture(scope="module")
def seen(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``discover`` finds in captures of an app that the model does not know."""
    folder = tmp_path_factory.mktemp("seen")
    captured(folder, "viber", 0)
    discover([str(folder)], load_model(model), folder.parent / "seen-found", examples=2)
    return folder.parent / "seen-found"


@pytest.fixture(scope="module")
def reports(seen: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of reports: found candidates, hostile ones, damaged ones, and links that lead out of it."""
    folder = tmp_path_factory.mktemp("shelf") / "reports"
    shutil.copytree(seen, folder / "monday" / "found")
    evil = folder / "evil <b>"
    shutil.copytree(seen, evil)
    about = json.loads((evil / "found.json").read_text())
    one = about["candidates"][0]
    one |= {"name": HOSTILE[0], "first": HOSTILE[1], "guesses": {HOSTILE[2]: 3, "x": "many"}}
    one["evidence"] = [
        {"kind": HOSTILE[3], "value": text, "flows": 1, "lift": 2} for text in HOSTILE
    ]
    one["evidence"] += [{"kind": "dns"}, 7, {"kind": "dns", "value": "x", "lift": float("nan")}]
    shutil.rmtree(evil / "1" / "examples.pcap", ignore_errors=True)
    outside = folder.parent / "outside"
    shutil.copytree(seen, outside)
    (evil / "2").symlink_to(outside / "1")
    about["candidates"] += [
        {**one, "candidate": 2},
        {**one, "candidate": "../1"},
        {**one, "candidate": -1},
        3,
    ]
    about["model"] = HOSTILE[4]
    (evil / "found.json").write_text(json.dumps(about))
    (folder / "broken").mkdir()
    (folder / "broken" / "found.json").write_text("[" * 100_000)
    (folder / "link").symlink_to(outside)
    return folder


@pytest.fixture
def registry(model: Path, tmp_path: Path) -> Path:
    shelf = ModelShelf(tmp_path / "registry" / "phones")
    shelf.add(model)
    shelf.promote("1")
    return tmp_path / "registry"


@pytest.fixture
def desk() -> Iterator[UpdateDesk]:
    with UpdateDesk(print) as found:
        yield found


@pytest.fixture
def may_go_on(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Updates in this process instead of one of their own, which is quicker, once this is set."""
    event = threading.Event()

    def run_here(_: str, job: Any, *__: Any, report: Any, **___: Any) -> ProcessEnding:
        assert event.wait(300)
        return ProcessEnding("answer", 0, update_worker._updated(job, report))

    monkeypatch.setattr(update_desk, "run_bounded", run_here)
    return event


@pytest.fixture
def shown(
    start: Callable[..., Running], reports: Path, registry: Path, desk: UpdateDesk
) -> Running:
    return start(token=TOKEN, shelf=ReportShelf(reports), models=registry, updates=desk)


def post(server: Running, path: str, said: Any, **headers: str) -> Any:
    sent = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json", **headers}
    return server.ask(path, "POST", json.dumps(said).encode(), **sent)


def got(server: Running, path: str) -> Any:
    return server.ask(path, Authorization=f"Bearer {TOKEN}")


def ended(server: Running) -> dict[str, Any]:
    """The newest update when it has ended."""

    def over() -> dict[str, Any] | None:
        (one, *_) = got(server, "/api/updates").json["updates"]
        return None if one["state"] == "running" else one

    return dict(wait_for(over))


def body(app: str = "Viber", **changes: Any) -> dict[str, Any]:
    said = {"model": "phones", "version": "1", "found": "monday/found"}
    return {**said, "candidates": [{"candidate": 1, "app": app}], **changes}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_candidates_are_listed_as_discover_wrote_them(shown: Running, seen: Path) -> None:
    found = {each["name"]: each for each in got(shown, "/api/candidates").json["found"]}
    assert set(found) == {"monday/found", "evil <b>", "broken"}
    wrote = json.loads((seen / "found.json").read_text())
    own = found["monday/found"]
    assert (own["model"], own["flows"], own["strange"]) == (
        wrote["model"], wrote["flows"], wrote["strange"],
    )  # fmt: skip
    for shown_one, wrote_one in zip(own["candidates"], wrote["candidates"], strict=True):
        assert (
            shown_one.items()
            >= {k: v for k, v in wrote_one.items() if k not in ("format", "model")}.items()
        )
        assert shown_one["has_rows"]
        assert shown_one["has_examples"]
    assert "nested" in found["broken"]["fault"] or "not valid JSON" in found["broken"]["fault"]
    assert str(shown.site.shelf.folder) not in found["broken"]["fault"]  # type: ignore[union-attr]
    (evil,) = found["evil <b>"]["candidates"]
    assert [each["value"] for each in evil["evidence"]] == list(HOSTILE)
    assert evil["guesses"] == {HOSTILE[2]: 3, "x": 0}


def test_example_packets_are_given_only_when_asked_for(shown: Running, seen: Path) -> None:
    answer = got(shown, "/api/candidates/examples?found=monday/found&candidate=1")
    assert answer.body == (seen / "1" / "examples.pcap").read_bytes()
    assert answer.headers["content-disposition"] == 'attachment; filename="candidate-1.pcap"'
    for query in (
        "found=monday/found&candidate=9", "found=link&candidate=1", "found=../outside&candidate=1",
        "candidate=1",
        "found=evil%20%3Cb%3E&candidate=2", "found=monday/found/../found&candidate=1", "found=monday/found",
    ):  # fmt: skip
        assert got(shown, f"/api/candidates/examples?{query}").status == 404, query
    assert got(shown, "/api/candidates/examples?found=monday/found&candidate=../1").status == 400


def test_an_update_from_the_page_is_that_of_the_command_line(
    shown: Running, registry: Path, model: Path, seen: Path, tmp_path: Path
) -> None:
    before = contents(registry)
    answer = post(shown, "/api/updates", body())
    assert (answer.status, answer.json["state"]) == (202, "running")
    second = post(shown, "/api/updates", body())
    assert (second.status, second.json["error"][:14]) == (400, "another update")
    one = ended(shown)
    assert (one["state"], one["fault"]) == ("added", "")
    assert one["result"]["version"] == "2"
    own = update(model, add=[(seen / "1", "Viber")], out=tmp_path / "own")
    assert own.model is not None
    wanted = own.to_json()
    assert {name: one["result"][name] for name in wanted} == wanted, (
        "the same model, figure for figure"
    )
    after = contents(registry)
    assert {name: after[name] for name in before} == before, "nothing that was there has changed"
    assert ModelShelf(registry / "phones").current == "1", "it is not promoted"
    assert load_model(registry / "phones" / "2").hash == own.model.hash
    assert one["notes"]


def test_an_update_that_would_lose_an_app_is_refused(
    shown: Running, registry: Path, may_go_on: threading.Event
) -> None:
    may_go_on.set()
    # flows of zoom under another name: the new model gives half of zoom's flows to it
    captured_zoom = registry.parent / "zoom"
    captured_zoom.mkdir()
    rows = shown.site.shelf.folder / "monday" / "zoom"  # type: ignore[union-attr]
    if not rows.exists():
        _zoom_as_candidate(registry / "phones" / "1", rows)
    before = contents(registry)
    assert post(shown, "/api/updates", body("briar", found="monday/zoom")).status == 202
    one = ended(shown)
    assert (one["state"], one["result"]["version"]) == ("refused", None)
    assert "would lose" in one["result"]["refused"]
    assert contents(registry) == before


def _zoom_as_candidate(model: Path, folder: Path) -> None:
    """A folder of candidates whose rows are those of an app that the model knows."""
    import numpy as np

    from apptell.models import read_rows
    from apptell.models.training_rows import TrainingRows

    content = read_rows(model, load_model(model).info)
    assert content is not None
    rows = TrainingRows.from_bytes(content, "rows")
    own = rows.take(np.flatnonzero(rows.apps == "zoom"))
    many = TrainingRows.concat([own] * 4)
    about = {"format": 1, "candidate": 1, "name": "zoom", "flows": len(many)}
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "candidate.json").write_text(json.dumps(about))
    (folder / "1" / "rows.zip").write_bytes(many.to_bytes())
    (folder / "found.json").write_text(json.dumps({"model": "m", "candidates": [about]}))


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"model": "none"}, 404), ({"model": "../registry/phones"}, 404), ({"version": "9"}, 404),
     ({"version": "../phones/1"}, 404), ({"found": "link"}, 404), ({"found": "../outside"}, 404),
     ({"found": "monday"}, 404), ({"found": None}, 400), ({"candidates": []}, 400), ({"candidates": "1"}, 400),
     ({"candidates": [{"candidate": 99, "app": "x"}]}, 404),
     ({"candidates": [{"candidate": "1", "app": "x"}]}, 400),
     ({"candidates": [{"candidate": -1, "app": "x"}]}, 404),
     ({"candidates": [{"candidate": 1, "app": " "}]}, 400),
     ({"candidates": [{"candidate": 1, "app": "a\nb"}]}, 400),
     ({"candidates": [{"candidate": 1, "app": "x" * 257}]}, 400),
     ({"candidates": [{"candidate": 1, "app": "x"}] * 2}, 400),
     ({"found": "evil <b>", "candidates": [{"candidate": 2, "app": "x"}]}, 404)],
)  # fmt: skip
def test_an_update_of_something_else_is_refused(shown: Running, changes: Any, status: int) -> None:
    answer = post(shown, "/api/updates", body(**changes))
    assert answer.status == status, answer.body
    assert str(shown.site.shelf.folder.parent) not in answer.json["error"]  # type: ignore[union-attr]
    assert got(shown, "/api/updates").json["updates"] == []


def test_other_sites_and_those_without_the_token_begin_nothing(
    start: Callable[..., Running], shown: Running, reports: Path, registry: Path, desk: UpdateDesk
) -> None:
    said = json.dumps(body()).encode()
    for path in ("/api/updates", "/api/updates/1/cancel"):
        for status, headers in (
            (401, {"Content_Type": "application/json"}),
            (403, {"Content_Type": "application/json", "Authorization": f"Bearer {TOKEN}", "Origin": "http://evil"}),
            (415, {"Content_Type": "text/plain", "Authorization": f"Bearer {TOKEN}"}),
        ):  # fmt: skip
            assert shown.ask(path, "POST", said, **headers).status == status, (path, headers)
    free = start(shelf=ReportShelf(reports), models=registry, updates=desk)
    assert free.ask("/api/updates", "POST", said, Content_Type="application/json").status == 403
    assert free.ask("/api/candidates").json["can_update"] is False
    none = start(token=TOKEN, shelf=ReportShelf(reports))
    assert post(none, "/api/updates", body()).status == 404
    assert got(none, "/api/candidates").json["can_update"] is False
    assert desk.updates() == []


def test_an_update_can_be_cancelled_and_takes_no_longer_than_it_may(
    shown: Running, registry: Path, seen: Path
) -> None:
    before = contents(registry)
    assert post(shown, "/api/updates", body()).status == 202
    assert post(shown, "/api/updates/1/cancel", {}).status == 200
    assert ended(shown)["state"] == "cancelled"
    assert post(shown, "/api/updates/1/cancel", {}).status == 404
    assert post(shown, "/api/updates/x/cancel", {}).status == 404
    with UpdateDesk(print, limit_s=0.01) as desk:
        one = desk.begin(UpdateTask(registry / "phones", "1", [(seen / "1", "viber")]))
        while one.state == "running":
            time.sleep(0.05)
    assert (one.state, one.fault) == ("failed", "the update took longer than 0.01 s")
    with UpdateDesk(print) as desk:
        one = desk.begin(UpdateTask(registry / "phones", "1", [(seen / "1", "viber")], 64 << 20))
        while one.state == "running":
            time.sleep(0.05)
    assert one.state == "failed"
    assert contents(registry) == before


def test_candidates_are_named_and_sent_to_update_in_the_browser(
    browser: Any, shown: Running, registry: Path, tmp_path: Path, may_go_on: threading.Event
) -> None:
    log_in(browser, shown)
    browser.get(f"{shown.address}/candidates")
    wait(browser, "document.querySelectorAll('#list section').length >= 3")
    assert not faults(browser)
    assert browser.execute_script(
        "return window.hacked === undefined && !document.querySelector('main img, main script, main svg')"
    )
    card = browser.find_element("css selector", "section[aria-label='monday/found']")
    card.find_element("css selector", "summary").click()
    name = card.find_element("css selector", "input[aria-label='Name of candidate 1']")
    name.clear()
    name.send_keys("Viber")
    browser.save_screenshot(str(tmp_path / "candidates.png"))
    card.find_element("css selector", ".send button").click()
    wait(browser, "document.getElementById('ask').open")
    assert "candidate 1 as Viber" in texts(browser, "#ask-words")[0]
    browser.find_element("id", "ask-yes").click()
    wait(browser, "document.querySelector('#jobs progress')")
    assert not faults(browser)
    may_go_on.set()
    wait(browser, "document.querySelector('#jobs .tag')?.innerText === 'added'")
    assert "It is version 2, and not promoted" in texts(browser, "#jobs")[0]
    assert any(line.startswith("viber\t") for line in texts(browser, "#jobs tbody tr"))
    assert not faults(browser)
    browser.execute_script("scrollTo(0, 0)")
    browser.save_screenshot(str(tmp_path / "updated.png"))
    assert ModelShelf(registry / "phones").versions() == ["1", "2"]
    scheme(browser, "dark")
    resize(browser, 390, 844)
    assert not faults(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.save_screenshot(str(tmp_path / "candidates-phone.png"))
    browser.find_element("css selector", "#jobs a").click()
    wait(browser, "document.querySelector('#about pre')")
    assert "30 flows of viber (candidate viber)" in texts(browser, "#about")[0]


def test_a_reader_without_rights_sees_candidates_and_no_buttons(
    browser: Any, start: Callable[..., Running], reports: Path
) -> None:
    server = start(shelf=ReportShelf(reports))
    browser.get(f"{server.address}/candidates")
    wait(browser, "document.querySelectorAll('#list section').length >= 3")
    assert not browser.find_elements("css selector", "#list input, #list button, #updates button")
    assert not faults(browser)


def test_an_empty_folder_says_how_to_find_candidates(
    browser: Any, start: Callable[..., Running], tmp_path: Path
) -> None:
    browser.get(f"{start(shelf=ReportShelf(tmp_path)).address}/candidates")
    wait(browser, "document.querySelector('.empty')")
    assert "apptell discover" in browser.find_element("css selector", ".empty").text
