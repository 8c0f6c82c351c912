"""Matrix: Synapse behind nginx, and matrix-nio; long polls, rooms, receipts, media, history."""

from __future__ import annotations

import asyncio
import io
import json
import random
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import nio

from lab.apps.matrixrest import Rest

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {
    "text": 9,
    "group": 3,
    "picture": 2,
    "voice": 1.2,
    "file": 0.5,
    "idle": 2,
    "history": 2.5,
    "typing": 2,
    "receipt": 2,
}
CONFIG = """server_name: {name}
pid_file: {dir}/synapse.pid
listeners:
- {{port: 8008, type: http, tls: false, x_forwarded: true, bind_addresses: [127.0.0.1],
   resources: [{{names: [client, media]}}]}}
database: {{name: sqlite3, args: {{database: {dir}/homeserver.db}}}}
media_store_path: {dir}/media
signing_key_path: {dir}/signing.key
trusted_key_servers: []
report_stats: false
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
log_config: {dir}/log.yaml
url_preview_enabled: false
macaroon_secret_key: a
form_secret: b
registration_shared_secret: c
enable_authenticated_media: false
dynamic_thumbnails: false
presence: {{enabled: {presence}}}
federation_domain_whitelist: []
"""
WORKERS = 20
LIMITS = (
    "rc_message",
    "rc_registration",
    "rc_joins_per_room",
    "rc_room_creation",
    "rc_admin_redaction",
    "rc_3pid_validation",
)


def serve(host: Host) -> None:
    """Synapse on SQLite, its limits out of the way, behind nginx."""
    text = CONFIG.format(
        dir=host.dir, name=host.names["main"][0], presence=str(host.day % 2 == 0).lower()
    )
    free = "{per_second: 10000, burst_count: 10000}"
    text += "".join(f"{name}: {free}\n" for name in LIMITS)
    text += f"rc_login: {{address: {free}, account: {free}, failed_attempts: {free}}}\n"
    text += f"rc_joins: {{local: {free}, remote: {free}}}\n"
    text += f"rc_invites: {{per_room: {free}, per_user: {free}, per_issuer: {free}}}\n"
    host.write(
        "log.yaml",
        "version: 1\nhandlers: {c: {class: logging.StreamHandler}}\n"
        "root: {level: ERROR, handlers: [c]}\n",
    )
    path = host.write("homeserver.yaml", text)
    host.make_accounts()
    host.world.run(
        "servers",
        [sys.executable, "-m", "synapse.app.homeserver", "-c", str(path), "--generate-keys"],
        capture_output=True,
    )
    host.spawn([sys.executable, "-m", "synapse.app.homeserver", "-c", str(path)])
    timeout = "proxy_read_timeout 120s; proxy_set_header Host $host; proxy_http_version 1.1;"
    place = f"location / {{ proxy_pass http://127.0.0.1:8008; {timeout} }}"
    host.nginx(f"server {{ {host.nginx_tls()} {place} }}")


def ready(host: Host) -> None:
    """Register the accounts and make the rooms, on the server side and so out of the capture."""
    script = [sys.executable, "-m", "lab.apps.matrix", json.dumps(host.accounts)]
    answer = host.world.run("servers", script, capture_output=True)
    host.extra.update(json.loads(answer.stdout))
    host.accounts[:] = host.extra.pop("accounts")


def _ask(method: str, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(
        f"http://127.0.0.1:8008/_matrix/client/v3{path}",
        json.dumps(body).encode(),
        headers,
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def furnish(accounts: list[dict[str, str]]) -> dict[str, Any]:
    """Registered accounts with their tokens; each has joined a few of the public rooms."""
    for _ in range(200):
        try:
            urllib.request.urlopen(
                "http://127.0.0.1:8008/_matrix/client/versions", timeout=5
            ).close()
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.3)
    for account in accounts:
        made = _ask(
            "POST",
            "/register",
            {
                "username": account["user"],
                "password": account["password"],
                "auth": {"type": "m.login.dummy"},
            },
        )
        account.update(id=made["user_id"], token=made["access_token"], device=made["device_id"])
    rooms = []
    for number in range(max(4, len(accounts) // 4)):
        token = accounts[number]["token"]
        rooms.append(
            _ask("POST", "/createRoom", {"preset": "public_chat", "name": f"room {number}"}, token)[
                "room_id"
            ]
        )
    rng = random.Random(len(accounts))
    wanted = []
    for account in accounts:
        own = rng.sample(rooms, 3)
        account["rooms"] = " ".join(own)
        wanted += [(room, account["token"]) for room in own]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda w: _ask("POST", f"/join/{w[0]}", {}, w[1]), wanted))
    return {"accounts": accounts}


async def session(client: Client, plan: list[str]) -> None:
    """Signs in with the password or the kept token, syncs and follows the plan."""
    account = client.account
    base = f"https://{client.name()}"
    if client.chrome:
        async with client.http() as http:
            await _visit(Rest(http, base, account["id"]), client, plan)
        return
    config = nio.AsyncClientConfig(max_limit_exceeded=0, max_timeouts=1, request_timeout=60)
    chat = nio.AsyncClient(base, account["id"], config=config, ssl=client.context(["http/1.1"]))
    try:
        await _visit(chat, client, plan)
    finally:
        await chat.close()


async def _visit(chat: nio.AsyncClient | Rest, client: Client, plan: list[str]) -> None:
    person, account = client.person, client.account
    poll = None
    try:
        if person.random.random() < 0.25 or not plan:
            answer = await chat.login(account["password"], device_name="phone")
            if isinstance(answer, nio.LoginError):
                raise PermissionError(answer.message)
        else:
            chat.restore_login(account["id"], account["device"], account["token"])
        if not plan:
            return
        full = person.random.random() < 0.3
        await chat.sync(
            timeout=0,
            full_state=full,
            sync_filter=None
            if full
            else {"room": {"timeline": {"limit": person.random.randint(1, 20)}}},
        )
        poll = asyncio.create_task(_poll(chat, person.random.choice((3_000, 8_000, 30_000))))
        for action in plan:
            await client.pause()
            await _act(chat, client, action)
        await client.pause()
    finally:
        if poll is not None:
            poll.cancel()


async def _poll(chat: nio.AsyncClient | Rest, timeout_ms: int) -> None:
    while True:
        await chat.sync(timeout=timeout_ms)


async def _act(chat: nio.AsyncClient | Rest, client: Client, action: str) -> None:
    person, room = client.person, client.person.random.choice(client.account["rooms"].split())
    if action == "idle":
        await client.idle()
    elif action == "typing":
        await chat.room_typing(room, True, timeout=4_000)
    elif action == "history":
        await chat.room_messages(room, chat.next_batch, limit=person.random.randint(5, 60))
    elif action in ("text", "group", "receipt"):
        sent = await chat.room_send(
            room,
            "m.room.message",
            {"msgtype": "m.text", "body": person.text()},
            ignore_unverified_devices=True,
        )
        if action == "receipt" and isinstance(sent, nio.RoomSendResponse):
            await chat.room_read_markers(room, sent.event_id, sent.event_id)
    else:
        body = {"picture": person.picture, "voice": person.voice, "file": person.file}[action]()
        sent, _ = await chat.upload(
            io.BytesIO(body),
            content_type="application/octet-stream",
            filename="x.bin",
            filesize=len(body),
        )
        if isinstance(sent, nio.UploadError):
            raise ConnectionError(sent.message)
        await chat.room_send(
            room, "m.room.message", {"msgtype": "m.file", "body": "x.bin", "url": sent.content_uri}
        )
        if person.random.random() < 0.4:
            await chat.download(sent.content_uri)


if __name__ == "__main__":
    print(json.dumps(furnish(json.loads(sys.argv[1]))))
