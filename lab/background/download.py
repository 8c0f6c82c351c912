"""Packages, updates and repositories over HTTPS with curl (OpenSSL) and git (GnuTLS)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"fetch": 5, "resume": 1.5, "head": 1.5, "clone": 1.5}
ROLES = ("main",)


def serve(host: Host) -> None:
    """Packages of many sizes and three bare repositories served as files."""
    site = host.dir / "site"
    site.mkdir()
    for number in range(24):
        size = int(min(600_000, max(500, host.random.lognormvariate(10, 1.4))))
        (site / f"p{number}.deb").write_bytes(host.random.randbytes(size))
    for number in range(3):
        _repository(host, site / f"g{number}.git")
    host.nginx(f"server {{ {host.nginx_tls(http2=True)} root {site}; }}")


def _repository(host: Host, bare: os.PathLike[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def git(*arguments: str) -> None:
            subprocess.run(
                ["git", "-c", "user.name=a", "-c", "user.email=a@a.test", *arguments],
                cwd=folder,
                check=True,
                capture_output=True,
            )

        git("init", "-q")
        for number in range(host.random.randint(2, 12)):
            content = host.random.randbytes(host.random.randint(100, 20_000))
            Path(folder, f"f{number}").write_bytes(content)
        git("add", ".")
        git("commit", "-qm", "one")
        git("clone", "-q", "--bare", ".", str(bare))
        subprocess.run(["git", "update-server-info"], cwd=bare, check=True)


async def session(client: Client, plan: list[str]) -> None:
    """A few files by one curl, or a clone."""
    person, base = client.person, f"https://{client.name()}"
    if "clone" in plan and person.random.random() < 0.6:
        with tempfile.TemporaryDirectory() as folder:
            await _run(
                client,
                "git",
                "clone",
                "-q",
                f"{base}/g{person.random.randrange(3)}.git",
                f"{folder}/c",
            )
        return
    version = person.random.choice(("--http1.1", "--http2"))
    command = ["curl"]
    for number, action in enumerate(plan or ["head"]):
        extra = {"resume": ["-r", f"{person.random.randrange(400)}-"], "head": ["-I"]}.get(
            action, []
        )
        command += ["--next"] if number else []
        command += [
            "-s",
            version,
            "--cacert",
            client.ca,
            "-A",
            f"Updater/{client.index}",
            *extra,
            "-o",
            "/dev/null",
        ]
        command.append(f"{base}/p{person.random.randrange(24)}.deb")
    await _run(client, *command)


async def _run(client: Client, *command: str) -> None:
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSL_CAINFO": client.ca,
        "HOME": "/nonexistent",
    }
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=-3)
    try:
        if code := await process.wait():
            raise RuntimeError(f"{command[0]} ended with {code}")
    finally:
        if process.returncode is None:
            process.kill()
