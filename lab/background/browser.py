"""A headless Chromium (BoringSSL, HTTP/2) on the same kind of pages: a new profile for each visit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from typing import TYPE_CHECKING

from lab.background import web

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"page": 1}
ROLES = web.ROLES
WORKERS = 2
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--disable-default-apps", "--disable-extensions",
    # the lab's authority is in no store of the browser
    "--ignore-certificate-errors", "--virtual-time-budget=4000", "--dump-dom",
)  # fmt: skip


def serve(host: Host) -> None:
    """The web kind's sites, once more with other pages."""
    web.serve(host)


async def session(client: Client, plan: list[str]) -> None:
    """One page with everything that it loads."""
    del plan
    role = client.person.random.choice(ROLES)
    number = client.person.random.randrange(len(client.extra["pages"]))
    url = f"https://{client.name(role)}/{number}.html"
    profile = tempfile.mkdtemp(prefix="lab-browser-")
    environment = {**os.environ, "HOME": profile}
    command = ["chromium", *FLAGS, f"--user-data-dir={profile}", url]
    quiet = {"stdout": -3, "stderr": -3, "start_new_session": True, "env": environment}
    process = await asyncio.create_subprocess_exec(*command, **quiet)
    try:
        await asyncio.wait_for(process.wait(), 40)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(profile, ignore_errors=True)
