"""A WebSocket chat server that passes JSON messages on to a room or a person."""

from __future__ import annotations

import asyncio
import collections
import json
import secrets
import sys
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

ROOMS: dict[str, collections.deque[dict[str, Any]]] = collections.defaultdict(
    lambda: collections.deque(maxlen=200)
)
ONLINE: dict[str, set[web.WebSocketResponse]] = collections.defaultdict(set)
MEMBERS: dict[str, set[str]] = collections.defaultdict(set)


async def live(request: web.Request) -> web.StreamResponse:
    """One client's socket."""
    socket = web.WebSocketResponse(heartbeat=20, max_msg_size=2**21)
    await socket.prepare(request)
    user = request.match_info["user"]
    ONLINE[user].add(socket)
    try:
        async for raw in socket:
            if raw.type is WSMsgType.TEXT:
                await answer(socket, user, json.loads(raw.data))
    finally:
        ONLINE[user].discard(socket)
    return socket


async def answer(socket: web.WebSocketResponse, user: str, message: dict[str, Any]) -> None:
    """Route one message."""
    kind, key = message["type"], message.get("room") or message.get("to") or ""
    if kind == "hello":
        for room in message["rooms"]:
            MEMBERS[room].add(user)
        unread = {room: len(ROOMS[room]) for room in message["rooms"]}
        await socket.send_json(
            {"type": "welcome", "session": secrets.token_hex(16), "unread": unread}
        )
    elif kind == "history":
        await socket.send_json({"type": "page", "items": list(ROOMS[key])[-message["count"] :]})
    elif kind == "message":
        ROOMS[key].append({k: v for k, v in message.items() if k not in ("data", "preview")})
        await socket.send_json({"type": "ack", "id": message["id"]})
        await spread(key, {**message, "from": user}, but=user)
    elif kind == "typing":
        await spread(key, {"type": "typing", "from": user}, but=user)


async def spread(key: str, message: dict[str, Any], but: str) -> None:
    """To everyone of a room, or to one person."""
    for user in MEMBERS.get(key, {key}):
        for socket in list(ONLINE.get(user, ())):
            if user != but:
                try:
                    await asyncio.wait_for(socket.send_json(message), 5)
                except (TimeoutError, ConnectionError):
                    ONLINE[user].discard(socket)


async def upload(request: web.Request) -> web.Response:
    """Keep a file for the time of the recording."""
    name = secrets.token_hex(12)
    (request.app["store"] / name).write_bytes(await request.read())
    return web.json_response({"path": f"/files/{name}", "sha": secrets.token_hex(32)})


def main() -> None:
    """Serve on the address of the command line."""
    address, port, store = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    app = web.Application(client_max_size=2**24)
    app["store"] = store
    app.add_routes(
        [web.get("/live/{user}", live), web.post("/upload", upload), web.static("/files", store)]
    )
    web.run_app(app, host=address, port=port, print=lambda *_: None, access_log=None)


if __name__ == "__main__":
    main()
