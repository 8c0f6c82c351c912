"""A WebSocket chat behind nginx: JSON messages, pictures by HTTPS upload."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {
    "text": 9,
    "group": 4,
    "picture": 2.2,
    "voice": 1.5,
    "file": 0.7,
    "idle": 2,
    "history": 2,
    "typing": 2,
}


def serve(host: Host) -> None:
    """The chat's own process behind nginx."""
    host.make_accounts()
    host.extra["rooms"] = [f"r{host.random.getrandbits(32):x}" for _ in range(6)]
    (host.dir / "store").mkdir(mode=0o777)
    host.spawn(
        [
            sys.executable,
            "-m",
            "lab.servers.websocketchat",
            "127.0.0.1",
            "9101",
            str(host.dir / "store"),
        ]
    )
    headers = (
        "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $up; "
        "proxy_http_version 1.1;"
    )
    place = f"location / {{ proxy_pass http://127.0.0.1:9101; proxy_read_timeout 120s; {headers} }}"
    upgrade = "map $http_upgrade $up { default upgrade; '' close; }\n"
    host.nginx(f"server {{ {host.nginx_tls()} {place} }}", http=upgrade)


async def session(client: Client, plan: list[str]) -> None:
    """Opens the socket, presents a token and follows the plan."""
    person = client.person
    name = client.name()
    token = base64.urlsafe_b64encode(person.blob(person.random.choice((24, 48, 96)))).decode()
    async with connect(
        f"wss://{name}/live/{client.account['user']}",
        ssl=client.context(["http/1.1"]),
        ping_interval=person.random.choice((3, 5, 10)),
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=person.random.choice((None, "deflate")),
        open_timeout=20,
    ) as socket:
        await socket.send(
            json.dumps(
                {
                    "type": "hello",
                    "user": client.account["user"],
                    "since": client.number,
                    "rooms": client.extra["rooms"],
                }
            )
        )
        await socket.recv()
        reader = asyncio.create_task(_read(socket))
        for action in plan:
            await client.pause()
            await _act(socket, client, action, name, token)
        await client.pause()
        reader.cancel()


async def _read(socket: ClientConnection) -> None:
    async for raw in socket:
        message = json.loads(raw)
        if message.get("type") == "message":
            await socket.send(json.dumps({"type": "seen", "id": message["id"]}))


async def _act(
    socket: ClientConnection, client: Client, action: str, name: str, token: str
) -> None:
    person = client.person
    target = (
        {"room": person.random.choice(client.extra["rooms"])}
        if action == "group"
        else {"to": client.peer()["user"]}
    )
    message = {"type": "message", "id": person.random.getrandbits(53), **target}
    if action == "idle":
        await client.idle()
    elif action == "typing":
        await socket.send(json.dumps({"type": "typing", **target}))
    elif action == "history":
        await socket.send(
            json.dumps({"type": "history", "count": person.random.randint(5, 60), **target})
        )
    elif action in ("text", "group"):
        await socket.send(json.dumps({**message, "text": person.text()}))
    else:
        body = {"picture": person.picture, "voice": person.voice, "file": person.file}[action]()
        if (
            action == "voice" or person.random.random() < 0.3
        ):  # small things go down the socket itself
            await socket.send(
                json.dumps(
                    {**message, "kind": action, "data": base64.b64encode(body[:60_000]).decode()}
                )
            )
            return
        async with client.http({"Authorization": f"Bearer {token}"}) as http:
            answer = await http.call("POST", f"https://{name}/upload", body)
            place = json.loads(answer)["path"]
            await socket.send(
                json.dumps(
                    {
                        **message,
                        "kind": action,
                        "path": place,
                        "preview": base64.b64encode(person.thumbnail()).decode(),
                    }
                )
            )
            if person.random.random() < 0.4:
                await http.call("GET", f"https://{name}{place}")
