"""Adaptive video segments, music, and WebSocket tickers."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import aiohttp
from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"watch": 3, "tick": 3, "subscribe": 2, "idle": 1}
ROLES = ("main", "ticker")


def serve(host: Host) -> None:
    """Segments in three qualities, and a ticker behind the same kind of nginx."""
    site = host.dir / "site"
    site.mkdir()
    for quality, size in (("low", 25_000), ("mid", 90_000), ("high", 220_000)):
        for number in range(6):
            (site / f"{quality}{number}.m4s").write_bytes(
                host.random.randbytes(int(size * host.random.uniform(0.6, 1.5)))
            )
    (site / "list.m3u8").write_text(
        "#EXTM3U\n" + "\n".join(f"#EXTINF:4,\nlow{n}.m4s" for n in range(80))
    )
    host.spawn([sys.executable, "-m", "lab.servers.ticker", "127.0.0.1", "9102"], log="ticker")
    pass_on = (
        "location / { proxy_pass http://127.0.0.1:9102; proxy_http_version 1.1; "
        "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }"
    )
    host.nginx(
        f"server {{ {host.nginx_tls()} root {site}; }}\n"
        f"server {{ {host.nginx_tls('ticker')} {pass_on} }}"
    )


async def session(client: Client, plan: list[str]) -> None:
    """Watch for a while, or follow a ticker."""
    person = client.person
    if person.random.random() < 0.5:
        async with connect(
            f"wss://{client.name('ticker')}/feed", ssl=client.context(["http/1.1"]), open_timeout=20
        ) as socket:
            for action in plan or ["tick"]:
                if action != "idle":
                    names = [
                        f"{person.random.getrandbits(24):x}"
                        for _ in range(person.random.randint(1, 12))
                    ]
                    await socket.send(
                        json.dumps(
                            {"op": action, "args": names, "rate": person.random.choice((2, 5, 20))}
                        )
                    )
                try:
                    async with asyncio.timeout(person.pause_s() * 2):
                        async for _ in socket:
                            pass
                except TimeoutError:
                    continue
        return
    quality = person.random.choice(("low", "mid", "high"))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=client.context(["http/1.1"]))
    ) as http:
        base = f"https://{client.name()}"
        async with http.get(f"{base}/list.m3u8") as answer:
            await answer.read()
        for _ in plan:
            headers = (
                {"Range": f"bytes={person.random.randrange(2_000)}-"}
                if person.random.random() < 0.5
                else {}
            )
            async with http.get(
                f"{base}/{quality}{person.random.randrange(6)}.m4s", headers=headers
            ) as answer:
                await answer.read()
            await client.pause()
