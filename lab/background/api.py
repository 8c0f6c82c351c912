"""Calls of apps to their own services: REST calls, beacons, update checks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aiohttp
import httpx

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"get": 6, "post": 4, "beacon": 3, "check": 2, "idle": 1}
ROLES = ("main", "h2")


def serve(host: Host) -> None:
    """Answers of drawn sizes from files, posts answered with 204."""
    site = host.dir / "site"
    site.mkdir()
    for number in range(60):
        rows = [
            {"id": host.random.getrandbits(40), "v": host.random.random()}
            for _ in range(int(host.random.paretovariate(0.8)) % 400 + 1)
        ]
        (site / f"{number}.json").write_text(json.dumps(rows))
    post = "location /post { return 204; } location /items { return 201 '{\"ok\":true}'; }"
    zipped = "gzip on; gzip_types application/json;"
    host.nginx(
        "\n".join(
            f"server {{ {host.nginx_tls(role, http2=role == 'h2')} root {site}; {zipped} {post} }}"
            for role in ROLES
        )
    )


async def session(client: Client, plan: list[str]) -> None:
    """A burst of calls, over a kept connection or one for each call."""
    person = client.person
    token = person.blob(person.random.choice((16, 90, 300))).hex()
    headers = {
        "Authorization": f"Bearer {token}",
        "User-Agent": f"okhttp/4.{client.index % 12}.0",
        "Accept-Encoding": "gzip",
    }
    if person.random.random() < 0.6:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=client.context(["http/1.1"]), force_close=person.random.random() < 0.3
            ),
            headers=headers,
        ) as http:
            base = f"https://{client.name('main')}"
            for action in plan or ["check"]:
                if action == "idle":
                    await client.idle()
                    continue
                method, path, body = _call(client, action)
                async with http.request(method, base + path, data=body) as answer:
                    await answer.read()
                await client.pause()
        return
    async with httpx.AsyncClient(
        http2=True, verify=client.context(["h2", "http/1.1"]), headers=headers, timeout=30
    ) as http2:
        base = f"https://{client.name('h2')}"
        for action in plan or ["check"]:
            if action == "idle":
                await client.idle()
                continue
            method, path, body = _call(client, action)
            await http2.request(method, base + path, content=body)
            await client.pause()


def _call(client: Client, action: str) -> tuple[str, str, bytes | None]:
    person = client.person
    if action == "get":
        query = person.blob(person.random.randint(2, 60)).hex()
        return (
            "GET",
            f"/{person.random.randrange(60)}.json?{query}",
            None,
        )
    if action == "check":
        return "GET", f"/{person.random.randrange(6)}.json", None
    size = person.lognormal(400 if action == "beacon" else 900, 1.0, 30, 60_000)
    return "POST", "/post" if action == "beacon" else "/items", person.blob(size)
