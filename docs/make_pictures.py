"""Makes the screenshots of ``apptell serve`` in docs/img, from made-up records, with Chromium.

    make pictures

The records are those of a made-up household: devices, apps of the catalogue, and a day's rhythm. No traffic
of anyone is in them.
"""

from __future__ import annotations

import argparse
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apptell.learning import train_model
from apptell.models import load_model
from apptell.models.model_shelf import ModelShelf
from apptell.records.schema import END, LIVE_RECORD, VERDICT
from apptell.testing import START_NS, app_messages, conversation, flow_batch, write_pcap
from apptell.watch.discover import discover
from apptell.web.application import build_application
from apptell.web.guard import Sessions
from apptell.web.live_link import LiveLink
from apptell.web.now_board import NowBoard
from apptell.web.serving import WebServer, listen
from apptell.web.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1240, 860
SHORT = 560
"""Height of pages with few rows."""
NOW_S = 300
"""Seconds that the page Now shows."""
TOKEN = "made-up-token-of-pictures"
LEARNED = ("briar", "matrix", "signal", "zoom")
"""Apps of the model on the pages of models and candidates; their flows are made up."""
HOUR_NS = 3_600_000_000_000
APPS = (
    # app, name, category, server name, share of flows, bytes of a flow (log10)
    ("youtube", "YouTube", "video", "rr3---sn-4g5e6nez.googlevideo.com", 9, 6.6),
    ("netflix", "Netflix", "video", "ipv4-c012-fra001-ix.1.oca.nflxvideo.net", 4, 6.7),
    ("whatsapp", "WhatsApp", "messaging", "mmg.whatsapp.net", 14, 4.9),
    ("instagram", "Instagram", "social", "scontent.cdninstagram.com", 13, 5.8),
    ("spotify", "Spotify", "music", "audio-fa.scdn.co", 8, 5.9),
    ("signal", "Signal", "messaging", "chat.signal.org", 9, 4.6),
    ("zoom", "Zoom", "conferencing", "us04web.zoom.us", 3, 6.3),
    ("telegram", "Telegram", "messaging", "web.telegram.org", 7, 5.0),
    ("tiktok", "TikTok", "video", "v16-webapp.tiktok.com", 5, 6.2),
    ("maps", "Google Maps", "navigation", "maps.googleapis.com", 5, 5.1),
    ("reddit", "Reddit", "social", "oauth.reddit.com", 5, 5.3),
    ("duolingo", "Duolingo", "education", "ios-api-2.duolingo.com", 3, 4.7),
)
SERVICES = (
    ("Google Fonts", "cdn", "fonts.gstatic.com", 7, 4.6),
    ("Google Analytics", "sdk", "app-measurement.com", 9, 3.9),
    ("Cloudflare", "cdn", "cdnjs.cloudflare.com", 6, 4.8),
    (None, None, None, 5, 4.2),
)
CLIENTS = ("10.0.0.21", "10.0.0.22", "10.0.0.34", "10.0.0.35", "10.0.0.40")


def household(folder: Path, n_flows: int = 24_000, days: int = 7, seed: int = 7) -> None:
    """Writes the records of some days until now."""
    rng = np.random.default_rng(seed)
    end_ns = time.time_ns() // 3_600_000_000_000 * 3_600_000_000_000
    kinds = [*APPS, *SERVICES]
    share = np.array([kind[-2] for kind in kinds], dtype=float)
    rows = []
    for i in range(n_flows):
        hour = rng.random() * 24 * days
        of_day = (end_ns / 3.6e12 + hour) % 24
        rhythm = 0.12 + max(math.sin((of_day - 8) / 16 * math.pi), 0) * 0.9
        if rng.random() > rhythm + 0.3 * (18 <= of_day <= 22):
            continue
        kind = kinds[int(rng.choice(len(kinds), p=share / share.sum()))]
        rows += record_pair(rng, kind, end_ns - int((24 * days - hour) * 3.6e12), i)
    rows.sort(key=lambda row: row["time"])
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, LIVE_RECORD), folder / "apptell-1.parquet")


def record_pair(rng: np.random.Generator, kind: Any, at_ns: int, i: int) -> list[dict[str, Any]]:
    """The verdict and the end of a made-up flow."""
    is_app = len(kind) == 6
    app, name, category, host = kind[:4] if is_app else (None, None, None, kind[2])
    size = int(10 ** rng.normal(kind[-1], 0.45))
    lasts = int(10 ** rng.normal(9.9, 0.7))
    by_model = is_app and rng.random() < 0.22
    confidence = round(float(rng.beta(14, 1.4)), 4) if by_model else None
    declined = confidence is not None and confidence < 0.85
    evidence = (
        "model" if by_model else rng.choice(["name", "name", "name", "dns"]) if host else None
    )
    shown = None if declined else app
    base: dict[str, Any] = {
        "time": at_ns, "community_id": f"1:{rng.bytes(15).hex()[:27]}=", "protocol": "udp" if i % 3 == 0 else "tcp",
        "client_address": str(rng.choice(CLIENTS, p=[0.36, 0.24, 0.18, 0.14, 0.08])), "client_port": int(rng.integers(32768, 61000)),
        "server_address": f"203.0.113.{int(rng.integers(2, 250))}", "server_port": 443,
        "app": shown, "app_name": name if shown else None, "category": category if shown else None,
        "service": None if is_app else kind[0], "service_kind": None if is_app else kind[1],
        "evidence": None if declined else evidence, "best_guess": app if by_model else None, "confidence": confidence,
        "runner_up": "telegram" if by_model and app != "telegram" else "signal" if by_model else None,
        "runner_up_confidence": round((1 - confidence) * 0.7, 4) if confidence is not None else None,
        "threshold": 0.85 if by_model else None, "payload_packets_seen": 5, "model": "fast@1f0c2d9ab3e4" if by_model else None,
        "outcome": "below threshold" if declined else "named" if app else "shared service" if host else "no evidence",
        "server_name": host if evidence == "name" else None, "dns_name": host if host and not by_model else None,
        "alpn": "h2", "ja4": "t13d1516h2_8daaf6152771_02713d6af862", "capture": "wlan0", "part": 0,
        "connection_id": int(rng.integers(1, 1 << 62)), "revised": False,
    }  # fmt: skip
    early = {
        "event": VERDICT, "end_time": at_ns + min(lasts, 180_000_000), "packets_to_server": 5, "packets_to_client": 4,
        "bytes_to_server": min(2640, size), "bytes_to_client": min(829, size),
    }  # fmt: skip
    late = {
        "event": END, "end_time": at_ns + lasts, "packets_to_server": 6 + size // 2600, "packets_to_client": 6 + size // 1300,
        "bytes_to_server": 2700 + size // 14, "bytes_to_client": 900 + size, "end_reason": "fin",
    }  # fmt: skip
    return [base | early, base | late]


@contextmanager
def server(*arguments: str) -> Iterator[str]:
    """Runs ``apptell serve``; yields its address."""
    command = [sys.executable, "-m", "apptell.cli", "serve", "--listen", "0", *arguments]
    environment = {**os.environ, "COLUMNS": "200"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.startswith("Open http"):
                    address = line.split()[1].rstrip("/")
                    break
            else:
                raise SystemExit("the server did not start")
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield address
        finally:
            process.terminate()


@contextmanager
def browser(width: int = WIDTH, height: int = HEIGHT, *, dark: bool = False) -> Iterator[Any]:
    """A headless Chromium."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
    ):
        options.add_argument(argument)
    if dark:
        options.add_argument("--force-dark-mode")
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        yield driver
    finally:
        driver.quit()


def shoot(driver: Any, url: str, file: Path, sign: str) -> None:
    """A picture of a page, once a script finds the sign that it is complete."""
    driver.get(url)
    wait_until(driver, sign)
    save(driver, file)


def save(driver: Any, file: Path) -> None:
    """A picture of what the browser shows."""
    driver.save_screenshot(str(file))
    from PIL import Image

    with Image.open(file) as picture:
        picture.convert("RGB").save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "img")
    parser.add_argument("--only", choices=list(PICTURES), help="only some of the pictures")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, make in PICTURES.items():
        if given.only in (None, name):
            make(given.out)


class MadeUpCounters:
    """What a running live would count."""

    fault = ""
    is_ready = True

    def counts(self) -> dict[str, Any]:
        """The counters as the page shows them."""
        return {
            "packets_per_s": 4180.0, "bytes_per_s": 3_120_000.0, "open_flows": 212, "waiting_flows": 3,
            "kernel_drops": 0, "overloaded": 0, "evicted": 0, "delay_p50_s": 0.035, "delay_p99_s": 0.25,
        }  # fmt: skip


def picture_now(out: Path) -> None:
    """The page *Now* after five minutes of made-up traffic; a simulated clock plays them at once."""
    begin_s = time.time() - NOW_S
    at_s = begin_s
    board = NowBoard(lambda: at_s if at_s < begin_s + NOW_S else time.time())
    flows = [MadeUpFlow(*each) for each in now_flows(begin_s)]
    while at_s < begin_s + NOW_S:
        for flow in flows:
            if flow.begin_s <= at_s and not flow.is_known:
                board.write(flow.verdict)
                flow.is_known = True
        young = [flow for flow in flows if flow.is_known and flow.end_s > at_s]
        totals = [(flow.connection, 0, 0, flow.bytes_at(at_s)) for flow in young]
        board.meter(np.array(totals, dtype=OPEN_TOTALS))
        for flow in flows:
            if flow.is_known and at_s - 1 < flow.end_s <= at_s:
                board.write(flow.end)
        at_s += 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "now.sock")
        counters: Any = MadeUpCounters()
        with LiveLink(path, counters, board) as link, socket.socket(socket.AF_UNIX) as live:
            live.connect(str(path))
            with pages(Site(Sessions(None), feed=link)) as address, browser() as driver:
                shoot(driver, f"{address}/now", out / "serve-now.png", count_of("#top-app tr"))


OPEN_TOTALS = [("connection_id", "u8"), ("part", "i8"), ("packets", "i8"), ("bytes", "i8")]


class MadeUpFlow:
    """A flow of the last minutes, whose bytes come little by little."""

    def __init__(self, verdict: dict[str, Any], end: dict[str, Any], lasts_s: float) -> None:
        self.verdict, self.end = (
            pa.RecordBatch.from_pylist([row], LIVE_RECORD) for row in (verdict, end)
        )
        self.connection = verdict["connection_id"]
        self.begin_s = verdict["time"] / 1e9
        self.end_s = self.begin_s + lasts_s
        self.bytes = end["bytes_to_server"] + end["bytes_to_client"]
        self.is_known = False

    def bytes_at(self, at_s: float) -> int:
        """Bytes until a time."""
        return int(self.bytes * (at_s - self.begin_s) / (self.end_s - self.begin_s))


def now_flows(begin_s: float) -> Iterator[tuple[dict[str, Any], dict[str, Any], float]]:
    """Verdict, end and duration of made-up flows; those of many bytes last longer."""
    rng = np.random.default_rng(11)
    kinds = [*APPS, *SERVICES]
    share = np.array([kind[-2] for kind in kinds], dtype=float)
    for i, start_s in enumerate(np.sort(rng.random(520) * (NOW_S + 60) - 60).tolist()):
        kind = kinds[int(rng.choice(len(kinds), p=share / share.sum()))]
        verdict, end = record_pair(rng, kind, int((begin_s + start_s) * 1e9), i)
        lasts_s = 4 + rng.random() * min(end["bytes_to_client"] / 60_000, 90)
        yield verdict, end, lasts_s


@contextmanager
def pages(site: Site) -> Iterator[str]:
    """Runs the pages of a site in this process; yields their address."""
    listening = listen(("127.0.0.1", 0))
    ready = threading.Event()
    running = WebServer(build_application(site, ["127.0.0.1"]), ready.set)
    thread = threading.Thread(target=running.serve_socket, args=(listening,), daemon=True)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    thread.start()
    ready.wait()
    try:
        yield address
    finally:
        site.stopping.set()
        running.should_exit = True
        thread.join()


def picture_models(out: Path) -> None:
    """The registry with two versions of a model, and the candidate that the second one learned."""
    from apptell.experiments.update import update

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        labels = list(LEARNED) * 30
        options: dict[str, Any] = {"model": "lengths-rf", "hyperparameters": {"n_trees": 20}}
        first = home / "first"
        train_model(flow_batch(labels), labels, out=first, unknown=True, keep_rows=True, **options)
        seen = home / "monday"
        seen.mkdir()
        for app in ("viber", "wire"):
            for client in range(1, 7):
                unknown_app(seen / f"{app}{client}.pcap", app, client)
        found = home / "reports" / "monday"
        discover([str(seen)], load_model(first), found, examples=2)
        shelf = ModelShelf(home / "registry" / "phones")
        shelf.add(first)
        shelf.promote("1")
        update(first, out=home / "second", add=[(found / "1", "viber")])
        shelf.add(home / "second")
        token = home / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        arguments = ("--reports", str(found.parent), "--models", str(home / "registry"))
        arguments += ("--token-file", str(token))
        with server(*arguments) as address, browser(height=SHORT) as driver:
            driver.get(f"{address}/login")
            driver.find_element("css selector", "input[type=password]").send_keys(TOKEN + "\n")
            wait_until(driver, "!location.pathname.startsWith('/login')")
            shoot(driver, f"{address}/candidates", out / "serve-candidates.png", count_of("input"))
            driver.get(f"{address}/models")
            wait_until(driver, "document.querySelectorAll('input[type=checkbox]').length === 2")
            for i in range(2):
                driver.find_elements("css selector", "input[type=checkbox]")[i].click()
                time.sleep(0.5)
            save(driver, out / "serve-models.png")


def unknown_app(path: Path, app: str, client: int) -> None:
    """A capture of one client's flows of an app that the model does not know."""
    packets = []
    for flow in range(5):
        packets += conversation(
            (f"10.0.0.{20 + client}", 50_000 + flow), ("198.51.100.7", 443),
            app_messages(app, seed=100 * client + flow),
            start_ns=START_NS + client * HOUR_NS + flow * 1_000_000_000,
        )  # fmt: skip
    write_pcap(path, packets)


def picture_history(out: Path) -> None:
    """The pages of made-up records."""
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder, "records")
        household(records)
        with server("--records", str(records)) as address:
            with browser() as driver:
                shoot(driver, f"{address}/history?last=7d", out / "serve-history.png", ROWS)
                link = driver.find_element("css selector", "#flows a").get_attribute("href")
                shoot(driver, link, out / "serve-flow.png", count_of("#near td"))
            with browser(dark=True) as driver:
                dark = out / "serve-dark.png"
                shoot(driver, f"{address}/history?last=7d&by=category", dark, ROWS)
            with browser(390, 844) as driver:
                shoot(driver, f"{address}/history?last=7d", out / "serve-phone.png", ROWS)


def picture_try(out: Path) -> None:
    """The embedded sample, dropped on the page, and the reason of one of its flows."""
    sample = HERE.parent / "src/apptell/samples/named/named.pcap.xz"
    kinds = "name,dns,address,range,model"
    with server("--evidence", kinds) as address, browser() as driver:
        driver.get(f"{address}/try")
        wait_until(driver, "document.getElementById('most').innerText")
        driver.find_element("id", "file").send_keys(str(sample))
        wait_until(driver, ROWS)
        save(driver, out / "serve-try.png")
        driver.get(f"{driver.current_url}&evidence=model")
        wait_until(driver, ROWS)
        driver.find_element("css selector", "#flows a").click()
        wait_until(driver, "document.getElementById('picture')?.querySelector('img')")
        driver.execute_script(
            "document.getElementById('model-card').scrollIntoView(); scrollBy(0, -70)"
        )
        save(driver, out / "serve-reason.png")


def count_of(selector: str) -> str:
    """A script that counts elements."""
    return f"document.querySelectorAll('{selector}').length"


ROWS = count_of("#flows td") + " && " + count_of("#chart canvas")


def wait_until(driver: Any, script: str) -> None:
    """Waits until a script returns something true."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 300).until(lambda d: d.execute_script(f"return {script}"))
    time.sleep(1.0)


PICTURES = {
    "now": picture_now,
    "history": picture_history,
    "try": picture_try,
    "models": picture_models,
}


if __name__ == "__main__":
    main()
