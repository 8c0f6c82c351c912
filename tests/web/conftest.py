"""A running server in a thread, a plain HTTP client, and a headless Chromium."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.history.rows import mixed_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from apptell.web.site import Site
    from apptell.web.upload_desk import UploadDesk
    from apptell.web.worker_process import CaptureLimits


@dataclass
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that runs in a thread."""

    port: int
    site: Site
    token: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()


def desk_of(**options: Any) -> UploadDesk:
    """A desk that takes captures; a server of ``start`` ends it."""
    from apptell.web.capture_jobs import CaptureSettings
    from apptell.web.upload_desk import UploadDesk

    options = {"settings": CaptureSettings(), "limits": patient_limits(), **options}
    return UploadDesk(options.pop("settings"), **options).__enter__()


def patient_limits() -> CaptureLimits:
    """Bounds that a process meets which compiles its kernels first, on a busy machine."""
    from apptell.web.worker_process import CaptureLimits

    return CaptureLimits(seconds=900.0)


def send_capture(server: Running, data: bytes, name: str = "phone.pcap") -> dict[str, Any]:
    """Sends a capture, and waits until it is identified or has failed."""
    answer = server.ask(f"/api/uploads?{urlencode({'name': name})}", "POST", data)
    assert answer.status == 202, answer.body
    return settled_upload(server, answer.json["id"])


def settled_upload(server: Running, number: str) -> dict[str, Any]:
    """Waits until a capture is identified or has failed."""

    def settled() -> dict[str, Any] | None:
        found: dict[str, Any] = server.ask(f"/api/uploads/{number}").json
        return None if found.get("state") in ("waiting", "reading") else found

    found: dict[str, Any] = wait_for(settled)
    return found


def wait_for(look: Callable[[], Any]) -> Any:
    """Looks until there is something, ever more seldom, and returns it."""
    until, pause_s = time.monotonic() + 300, 0.02
    while not (found := look()):
        assert time.monotonic() < until, "what is waited for does not come"
        time.sleep(pause_s)
        pause_s = min(1.3 * pause_s, 0.5)
    return found


Start = "Callable[..., Running]"


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Running]]:
    """Starts servers; they end with the module."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    pytest.importorskip("duckdb")
    from apptell.history.record_history import RecordHistory
    from apptell.web.access_token import allowed_hosts
    from apptell.web.application import build_application
    from apptell.web.guard import Sessions
    from apptell.web.serving import WebServer, listen
    from apptell.web.site import Site

    running: list[tuple[WebServer, threading.Thread, Site]] = []

    def begin(records: Path | None = None, token: str | None = None, **parts: Any) -> Running:
        site = Site(Sessions(token), **parts)
        if records is not None:
            site.history = RecordHistory(records)
        listening = listen(("127.0.0.1", 0))
        ready = threading.Event()
        app = build_application(site, allowed_hosts("127.0.0.1", ["sensor.example"]))
        server = WebServer(app, ready.set)
        thread = threading.Thread(target=server.serve_socket, args=(listening,), daemon=True)
        port = listening.getsockname()[1]
        thread.start()
        assert ready.wait(60)
        running.append((server, thread, site))
        return Running(port, site, token)

    yield begin
    for server, thread, site in running:
        site.stopping.set()
        server.should_exit = True
        thread.join(30)
        if site.history is not None:
            site.history.close()
        if site.desk is not None:
            site.desk.__exit__()


@pytest.fixture(scope="module")
def server(start: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A server of the flows of ``mixed_records``."""
    folder = tmp_path_factory.mktemp("records")
    mixed_records(folder)
    return start(folder)


def chromium(width: int = 1240, height: int = 900, *, dark: bool = False) -> Any:
    """A headless Chromium; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    browser = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip(
            "neither Chromium nor its driver is installed (apt install chromium chromium-driver)"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    resize(found, width, height)
    found.set_script_timeout(60)
    return found


def resize(driver: Any, width: int, height: int) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )


def scheme(driver: Any, name: str) -> None:
    """Light or dark, as the system of the user would ask for."""
    features = [{"name": "prefers-color-scheme", "value": name}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def log_in(driver: Any, server: Running) -> None:
    """Shows the token of a server on its login page."""
    driver.delete_all_cookies()
    driver.get(f"{server.address}/login")
    field = driver.find_element("css selector", "input[type=password]")
    field.send_keys(server.token)
    field.submit()
    driver.execute_script("return document.readyState")


@pytest.fixture(scope="session")
def shared_browser() -> Iterator[Any]:
    driver = chromium()
    yield driver
    driver.quit()


@pytest.fixture
def browser(shared_browser: Any) -> Iterator[Any]:
    """The browser at its usual size, without messages of earlier pages; no error may stand in its console."""
    resize(shared_browser, 1240, 900)
    scheme(shared_browser, "light")
    shared_browser.get("about:blank")
    shared_browser.get_log("browser")
    yield shared_browser
    errors = [
        line
        for line in shared_browser.get_log("browser")
        if line["level"] == "SEVERE"
        # a refusal that a test asked for: the page shows it, and Chromium notes it as well
        and not re.search(r"status of 40[039] ", line["message"])
    ]
    assert not errors
