"""Web pages by HTTP/1.1 and HTTP/2: a page, then its parts over a few parallel connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import httpx

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"page": 6, "scroll": 3, "form": 1, "pause": 1}


def serve(host: Host) -> None:
    """A site of static pages; half of its names speak HTTP/2."""
    site = host.dir / "site"
    site.mkdir()
    host.extra["pages"] = pages = []
    for number in range(30):
        parts = []
        for part in range(host.random.randint(2, 18)):
            suffix, median = host.random.choice(
                (("css", 9_000), ("js", 22_000), ("jpg", 18_000), ("json", 1_500))
            )
            size = int(min(300_000, max(300, host.random.lognormvariate(0, 1.0) * median)))
            name = f"{number}-{part}.{suffix}"
            (site / name).write_bytes(host.random.randbytes(size // 2) + b" " * (size // 2))
            parts.append(name)
        html = (
            "<html>"
            + "".join(f'<img src="{name}">' for name in parts)
            + "lorem ipsum " * host.random.randint(20, 3_000)
        )
        (site / f"{number}.html").write_text(html)
        pages.append(parts)
    form = "gzip on; gzip_types text/css application/json; "
    form += "location /form { if ($request_method = POST) { return 204; } return 200 'ok'; }"
    blocks = (
        f"server {{ {host.nginx_tls(role, http2=role == 'h2')} root {site}; {form} }}"
        for role in ROLES
    )
    host.nginx("\n".join(blocks))


ROLES = ("main", "h2")


async def session(client: Client, plan: list[str]) -> None:
    """Visit pages."""
    if client.person.random.random() < 0.5:
        connector = aiohttp.TCPConnector(
            ssl=client.context(["http/1.1"]), limit_per_host=client.person.random.choice((1, 2, 4))
        )
        async with aiohttp.ClientSession(connector=connector, headers=_headers(client)) as http:
            base = f"https://{client.name('main')}"

            async def get(path: str) -> None:
                async with http.get(base + path) as answer:
                    await answer.read()

            async def post(data: bytes) -> None:
                async with http.post(base + "/form", data=data) as answer:
                    await answer.read()

            await _visit(client, plan or ["page"], get, post)
    else:
        async with httpx.AsyncClient(
            http2=True,
            verify=client.context(["h2", "http/1.1"]),
            headers=_headers(client),
            timeout=30,
        ) as http2:
            base = f"https://{client.name('h2')}"

            async def get2(path: str) -> None:
                await http2.get(base + path)

            async def post2(data: bytes) -> None:
                await http2.post(base + "/form", content=data)

            await _visit(client, plan or ["page"], get2, post2)


def _headers(client: Client) -> dict[str, str]:
    agent = f"Mozilla/5.0 (Linux; Android {9 + client.index % 6}; K) AppleWebKit/537.36 Mobile"
    cookie = client.person.random.randbytes(client.person.random.choice((8, 40, 300))).hex()
    return {"User-Agent": agent, "Accept-Language": "en", "Cookie": f"s={cookie}"}


async def _visit(client: Client, plan: list[str], get, post) -> None:  # type: ignore[no-untyped-def]
    pages = client.extra["pages"]
    for action in plan:
        number = client.person.random.randrange(len(pages))
        if action == "pause":
            await client.idle()
        elif action == "form":
            await post(client.person.text().encode())
        else:
            if action == "page":
                await get(f"/{number}.html")
            few = client.person.random.randint(1, 4) if action == "scroll" else len(pages[number])
            await asyncio.gather(*(get(f"/{part}") for part in pages[number][:few]))
        await client.pause()
