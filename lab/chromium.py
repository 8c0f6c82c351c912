"""Controls one headless Chromium through the DevTools protocol.

It uses a pipe and not a port, so nothing of it is on the network. Each visit gets its own browser context
(cookies, cache and connections), so one process serves many visits.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
from typing import Any

PROGRAM = "chromium-headless-shell"
FLAGS = (
    "--headless", "--no-sandbox", "--no-zygote", "--in-process-gpu", "--disable-gpu",
    "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--disable-default-apps", "--disable-extensions", "--remote-debugging-pipe",
    # the lab's authority is in no store of the browser
    "--ignore-certificate-errors",
)  # fmt: skip


class Chromium:
    """One running browser."""

    def __init__(self) -> None:
        self.n_visits = self.n_open = 0
        self.numbers = itertools.count(1)
        self.answers: dict[int, asyncio.Future[Any]] = {}
        self.events: dict[tuple[str, str], asyncio.Future[Any]] = {}

    async def start(self) -> None:
        """Start the process with an empty profile."""
        self.profile = tempfile.mkdtemp(prefix="lab-browser-")
        orders_out, orders_in = os.pipe()
        words_out, words_in = os.pipe()
        command = [PROGRAM, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        # Chromium wants the pipe at descriptors 3 and 4
        script = f'exec "$@" 3<&{orders_out} 4>&{words_in}'
        self.process = await asyncio.create_subprocess_exec(
            "bash", "-c", script, "bash", *command,
            stdout=-3, stderr=-3, start_new_session=True, pass_fds=(orders_out, words_in),
            env={**os.environ, "HOME": self.profile},
        )  # fmt: skip
        os.close(orders_out)
        os.close(words_in)
        loop = asyncio.get_running_loop()
        self.words = asyncio.StreamReader(limit=2**26)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.words), os.fdopen(words_out, "rb")
        )
        self.orders, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(orders_in, "wb")
        )
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            try:
                message = json.loads((await self.words.readuntil(b"\0"))[:-1])
            except asyncio.IncompleteReadError:
                return
            if "id" in message:
                future = self.answers.pop(message["id"], None)
            else:
                future = self.events.pop((message.get("sessionId", ""), message["method"]), None)
            if future is not None and not future.done():
                future.set_result(message)

    async def call(self, method: str, session: str = "", **values: Any) -> dict[str, Any]:
        """One command and its result."""
        number = next(self.numbers)
        order: dict[str, Any] = {"id": number, "method": method, "params": values}
        if session:
            order["sessionId"] = session
        future = self.answers[number] = asyncio.get_running_loop().create_future()
        self.orders.write(json.dumps(order).encode() + b"\0")
        answer = await asyncio.wait_for(future, 30)
        if "error" in answer:
            raise RuntimeError(f"chromium: {method}: {answer['error'].get('message')}")
        return dict(answer["result"])

    async def load(self, session: str, url: str) -> None:
        """Go to a page and wait until it has loaded."""
        loaded = asyncio.get_running_loop().create_future()
        self.events[session, "Page.loadEventFired"] = loaded
        await self.call("Page.navigate", session, url=url)
        await asyncio.wait_for(loaded, 25)

    @contextlib.asynccontextmanager
    async def visit(self) -> Any:
        """A fresh context with one page; yields the page's session."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        try:
            target = await self.call(
                "Target.createTarget", url="about:blank", browserContextId=context
            )
            attached = await self.call(
                "Target.attachToTarget", targetId=target["targetId"], flatten=True
            )
            await self.call("Page.enable", attached["sessionId"])
            yield attached["sessionId"]
        finally:
            await self.call("Target.disposeBrowserContext", browserContextId=context)

    async def stop(self) -> None:
        """End the browser and its profile."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        self.reader.cancel()
        shutil.rmtree(self.profile, ignore_errors=True)
