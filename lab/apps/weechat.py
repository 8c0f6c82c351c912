"""IRC's second client: a headless WeeChat (GnuTLS), one process an account, steered by its FIFO."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.worker import Client

RUNNING: dict[int, WeeChat] = {}


class WeeChat:
    """A running client with one server entry, ``lab``."""

    def __init__(self, client: Client) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lab-weechat-"))
        self.fifo = self.folder / "fifo"
        self.settings = {
            "fifo.file.path": str(self.fifo),
            "weechat.network.gnutls_ca_system": "off",
            "weechat.network.gnutls_ca_user": client.ca,
            "irc.server_default.autoreconnect": "off",
            "irc.server_default.username": "phone",
            "irc.server_default.anti_flood_prio_high": "0",
            "irc.server_default.anti_flood_prio_low": "0",
            "irc.server_default.password": client.extra["password"],
            "logger.file.auto_log": "off",
        }

    async def start(self) -> None:
        """Start it and wait for its FIFO."""
        orders = [f"/set {name} {value}" for name, value in self.settings.items() if value]
        orders += ["/server add lab localhost/443 -ssl", "/fifo disable", "/fifo enable"]
        command = ["weechat-headless", "-d", str(self.folder)]
        for order in orders:
            command += ["-r", order]
        self.process = await asyncio.create_subprocess_exec(
            *command, stdin=-3, stdout=-3, stderr=-3
        )
        for _ in range(200):
            if self.fifo.exists():
                return
            await asyncio.sleep(0.05)
        raise TimeoutError("weechat-headless made no FIFO")

    def say(self, *lines: str) -> None:
        """Lines ``BUFFER *TEXT`` or ``*/COMMAND``."""
        descriptor = os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(descriptor, "".join(f"{line}\n" for line in lines).encode())
        finally:
            os.close(descriptor)


async def session(client: Client, plan: list[str]) -> None:
    """Connects, signs in, follows the plan and quits."""
    person = client.person
    chat = RUNNING.get(client.index)
    if chat is None or chat.process.returncode is not None:
        chat = RUNNING[client.index] = WeeChat(client)
        await chat.start()
    nick = f"{client.account['user'][:12]}{client.number % 1000}"
    rooms = person.random.sample(client.extra["rooms"], person.random.randint(1, 4))
    channels = ",".join(f"#{room}" for room in rooms) if plan else ""
    chat.say(
        f"*/set irc.server.lab.addresses {client.name()}/443",
        f"*/set irc.server.lab.nicks {nick}",
        f"*/set irc.server.lab.realname {person.text()[:30]}",
        f"*/set irc.server.lab.autojoin {channels or 'null'}",
        "*/connect lab",
    )
    await asyncio.sleep(1.2 + person.pause_s())
    for action in plan:
        await client.pause()
        await _act(chat, client, action, f"#{person.random.choice(rooms)}")
    await client.pause()
    chat.say(f"*/disconnect lab {person.text()[:60]}")
    await asyncio.sleep(1)


async def _act(chat: WeeChat, client: Client, action: str, room: str) -> None:
    person, server, place = client.person, "irc.server.lab", f"irc.lab.{room}"
    peer = f"{client.peer()['user'][:12]}{person.random.randint(1, 9)}"
    if action == "idle":
        await client.idle()
    elif action == "join":
        chat.say(f"{server} */join #{person.random.choice(client.extra['rooms'])}")
    elif action == "names":
        chat.say(f"{place} */names")
    elif action == "list":
        chat.say(f"{server} */quote LIST")
    elif action == "whois":
        chat.say(f"{server} */whois {peer}")
    elif action == "text":
        chat.say(f"{server} */msg {peer} {person.text()[:380]}")
    elif action == "paste":
        for _ in range(person.random.randint(3, 8)):
            chat.say(f"{place} *{person.text()[:380]}")
            await asyncio.sleep(0.05)
    elif action == "link":
        link = f"https://files.example.test/{person.random.getrandbits(64):x}.jpg"
        chat.say(f"{place} *{person.text()[:80]} {link}")
    else:
        chat.say(f"{place} *{person.text()[:380]}")
