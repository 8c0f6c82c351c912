"""A headless Chromium (BoringSSL, HTTP/2) on the same kind of pages: a new context for each visit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lab.background import web
from lab.chromium import Chromium

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"page": 4, "pause": 1}
ROLES = web.ROLES
WORKERS = 5
VISITS_PER_BROWSER = 40


class _Kept:
    """The running browser."""

    browser: Chromium | None = None
    lock = asyncio.Lock()


def serve(host: Host) -> None:
    """The web kind's sites, once more with other pages."""
    web.serve(host)


async def session(client: Client, plan: list[str]) -> None:
    """Some pages with everything that they load."""
    async with _Kept.lock:
        if _Kept.browser is None or _Kept.browser.process.returncode is not None:
            _Kept.browser = Chromium()
            await _Kept.browser.start()
        browser = _Kept.browser
        browser.n_visits += 1
        browser.n_open += 1
        if browser.n_visits >= VISITS_PER_BROWSER:
            _Kept.browser = None  # the last of its visits ends it
    person = client.person
    try:
        async with browser.visit() as page:
            for action in plan[:4] or ["page"]:
                if action == "pause":
                    await client.idle()
                    continue
                name = client.name(person.random.choice(ROLES))
                number = person.random.randrange(len(client.extra["pages"]))
                await browser.load(page, f"https://{name}/{number}.html")
                await client.pause()
    finally:
        browser.n_open -= 1
        if not browser.n_open and _Kept.browser is not browser:
            await browser.stop()
