"""MQTT chat: Mosquitto, and paho by way of aiomqtt; a retained message is a room's last word."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiomqtt

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"text": 9, "picture": 2, "voice": 1.5, "file": 0.7, "group": 3, "idle": 2, "listen": 3}
PATIENCE_S = 60
"""For TLS and sign-in. paho takes the keep-alive for it, and a busy machine needs more than 4 s."""
CONFIG = """per_listener_settings false
allow_anonymous false
password_file {passwords}
listener 443 {address}
certfile {certificate}
keyfile {key}
persistence false
max_inflight_messages {inflight}
max_queued_messages 200
user root
"""


def serve(host: Host) -> None:
    """A broker with one password file."""
    lines = "".join(f"{a['user']}:{a['password']}\n" for a in host.make_accounts())
    passwords = host.write("passwords", lines)
    host.world.run("servers", ["mosquitto_passwd", "-U", str(passwords)])
    certificate, key = host.certificate()
    values = {"passwords": passwords, "certificate": certificate, "key": key}
    text = CONFIG.format(**values, address=host.roles["main"], inflight=20 + host.day)
    host.spawn(["mosquitto", "-c", str(host.write("mosquitto.conf", text))])
    host.extra["rooms"] = [f"r{host.random.getrandbits(32):x}" for _ in range(6)]


async def session(client: Client, plan: list[str]) -> None:
    """Signs in, subscribes to the inbox and rooms, and follows the plan."""
    person, user = client.person, client.account["user"]
    rooms = person.random.sample(client.extra["rooms"], person.random.randint(1, 4))
    version = person.random.choice((aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5))
    options = {"protocol": version, "keepalive": PATIENCE_S, "tls_context": client.context()}
    if version is aiomqtt.ProtocolVersion.V311:
        options["clean_session"] = person.random.random() < 0.3
    who = {"username": user, "password": client.account["password"], "identifier": f"phone-{user}"}
    chat = aiomqtt.Client(client.name(), 443, timeout=PATIENCE_S, **who, **options)
    inner = chat._client  # noqa: SLF001 - neither library lets these two be set
    inner.connect_timeout = float(PATIENCE_S)
    async with chat as mqtt:
        inner._keepalive = person.random.choice((4, 8, 15))  # noqa: SLF001
        if not plan:
            return
        await mqtt.subscribe([(f"inbox/{user}/#", 1)] + [(f"room/{room}/#", 1) for room in rooms])
        reader = asyncio.create_task(_read(mqtt, client))
        for action in plan:
            await client.pause()
            await _act(mqtt, client, action, rooms)
        await client.pause()
        reader.cancel()


async def _read(mqtt: aiomqtt.Client, client: Client) -> None:
    """Acknowledge what arrives, as a chat shows two ticks."""
    async for message in mqtt.messages:
        parts = str(message.topic).split("/")
        if parts[0] == "inbox" and parts[-1] == "m":
            ticks = json.dumps({"by": client.account["user"], "n": client.number})
            await mqtt.publish(f"inbox/{parts[1]}/seen", ticks, qos=0)


async def _act(mqtt: aiomqtt.Client, client: Client, action: str, rooms: list[str]) -> None:
    person = client.person
    if action in ("idle", "listen"):
        await client.idle()
        return
    is_group = action == "group"
    inbox = f"room/{person.random.choice(rooms)}" if is_group else f"inbox/{client.peer()['user']}"
    head = {"from": client.account["user"], "id": person.random.getrandbits(64)}
    if action in ("text", "group"):
        if person.random.random() < 0.4:
            await mqtt.publish(f"{inbox}/typing", json.dumps(head), qos=0)
            await client.pause()
        words = json.dumps({**head, "text": person.text()})
        await mqtt.publish(f"{inbox}/m", words, qos=1, retain=is_group)
        return
    body = {"picture": person.picture, "voice": person.voice, "file": person.file}[action]()
    await mqtt.publish(f"{inbox}/m", json.dumps({**head, "kind": action, "size": len(body)}), qos=1)
    for start in range(0, len(body), 32_768):
        await mqtt.publish(f"{inbox}/part/{start}", body[start : start + 32_768], qos=1)
