"""Runs one app's sessions on the device, and writes a JSON line for each.

Run as ``python -m lab.worker APP SPEC`` inside the device's namespace under the app's user id; ends
on end of input.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.behaviour import Habits, Person
from lab.tls import PROFILES, client_context
from lab.webclient import Http, aiohttp_session, curl_session

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager


SESSION_LIMIT_S = 150


@dataclass
class Client:
    """What a session may use.

    The person, the account, the names of the servers and the device's TLS settings.
    """

    app: str
    spec: dict[str, Any]
    person: Person
    account: dict[str, str]
    index: int
    number: int

    @property
    def extra(self) -> dict[str, Any]:
        extra: dict[str, Any] = self.spec["apps"][self.app]["extra"]
        return extra

    @property
    def ca(self) -> str:
        return str(self.spec["ca"])

    def name(self, role: str = "main") -> str:
        """One of the server names of a role."""
        return str(self.person.random.choice(self.spec["apps"][self.app]["names"][role]))

    def context(self, alpn: Sequence[str] = ()) -> ssl.SSLContext:
        """A TLS context with the device's settings, one for all sessions of an app."""
        return kept_context(self.spec["tls"], self.ca, tuple(alpn))

    @property
    def chrome(self) -> bool:
        """Whether this device speaks HTTP as Chrome on Android does."""
        return PROFILES[self.spec["tls"]].chrome

    def http(self, headers: dict[str, str] | None = None) -> AbstractAsyncContextManager[Http]:
        """An HTTP session with the device's stack."""
        if self.chrome:
            return curl_session(self.ca, headers or {})
        return aiohttp_session(self.context(["http/1.1"]), headers or {})

    def peer(self) -> dict[str, str]:
        """Another account."""
        accounts = self.spec["apps"][self.app]["accounts"]
        return dict(
            self.person.random.choice([a for a in accounts if a is not self.account] or accounts)
        )

    async def pause(self) -> None:
        """Between two actions."""
        await asyncio.sleep(self.person.pause_s())

    async def idle(self) -> None:
        """A longer silence."""
        await asyncio.sleep(self.person.idle_s())


@functools.cache
def kept_context(profile: str, ca: str, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """The context of a TLS profile and an ALPN offer."""
    return client_context(PROFILES[profile], Path(ca), alpn)


class Crew:
    """Keeps a number of accounts busy until it is stopped."""

    def __init__(self, app: str, spec: dict[str, Any]) -> None:
        self.app, self.spec = app, spec
        self.module = importlib.import_module(f"lab.{spec['apps'][app]['kind']}.{app}")
        self.over = asyncio.Event()
        self.number = 0

    def report(self, **fields: Any) -> None:
        """One line about one session."""
        sys.stdout.write(json.dumps({"app": self.app, **fields}) + "\n")
        sys.stdout.flush()

    async def one(self, index: int) -> None:
        """Sessions of one account, one after another."""
        settings = self.spec["apps"][self.app]
        habits = Habits(**self.spec["habits"])
        await asyncio.sleep(Person(f"{self.spec['seed']}/{self.app}/{index}").random.uniform(0, 4))
        while not self.over.is_set():
            self.number += 1
            person = Person(f"{self.spec['seed']}/{self.app}/{index}/{self.number}", habits)
            accounts = settings["accounts"]
            account = accounts[index % len(accounts)] if accounts else {}
            client = Client(self.app, self.spec, person, account, index, self.number)
            plan = person.plan(self.module.ACTIONS)
            start, fault = time.time(), None
            try:
                await asyncio.wait_for(self.module.session(client, plan), SESSION_LIMIT_S)
            except Exception as error:  # noqa: BLE001 - a failed session is recorded, whatever its cause
                fault = f"{type(error).__name__}: {error}"[:200]
                await asyncio.sleep(0.5)
            self.report(
                account=index,
                plan=plan,
                start=start,
                seconds=round(time.time() - start, 3),
                fault=fault,
            )
            await self.rest(person)

    async def rest(self, person: Person) -> None:
        """Between two sessions of one account."""
        try:
            await asyncio.wait_for(self.over.wait(), person.lognormal(0.8, 1.0, 0.05, 10))
        except TimeoutError:
            return

    async def run(self) -> None:
        """All accounts until the input ends, then the sessions in hand."""
        loop = asyncio.get_running_loop()
        threading.Thread(
            target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(self.over.set)), daemon=True
        ).start()
        # connecting blocks in some libraries, and all accounts may connect at the same time
        loop.set_default_executor(ThreadPoolExecutor(64))
        opening = getattr(self.module, "opening", None)
        if opening is not None:
            await opening(self.spec)
        tasks = [
            asyncio.create_task(self.one(i)) for i in range(self.spec["apps"][self.app]["workers"])
        ]
        await self.over.wait()
        _, late = await asyncio.wait(tasks, timeout=12)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def main() -> None:
    """Read the command line and work."""
    app, path = sys.argv[1:3]
    logging.basicConfig(level=os.environ.get("APPTELL_LAB_LEVEL", "ERROR"))
    asyncio.run(Crew(app, json.loads(Path(path).read_text())).run())
    os._exit(0)  # libraries may leave threads behind


if __name__ == "__main__":
    main()
