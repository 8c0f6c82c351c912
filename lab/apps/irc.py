"""IRC over TLS: ngIRCd (GnuTLS) and the irc library; messages, channels, lists, long pastes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import irc.client_aio
import irc.connection

from lab.apps import weechat

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {
    "text": 8,
    "group": 8,
    "join": 3,
    "names": 1.5,
    "whois": 1.5,
    "link": 1.5,
    "idle": 2,
    "paste": 0.8,
    "list": 0.7,
}
CONFIG = """[Global]
Name = {name}
Info = chat
Listen = {address}
Ports =
{password}MotdPhrase = {motd}
[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxNickLength = 20
MaxPenaltyTime = 1
PingTimeout = {ping}
PongTimeout = 20
MaxJoins = 20
[Options]
DNS = no
Ident = no
PAM = no
SyslogFacility = local1
[SSL]
CertFile = {certificate}
KeyFile = {key}
Ports = 443
"""


def serve(host: Host) -> None:
    """A server with a few channels."""
    certificate, key = host.certificate()
    host.make_accounts()
    rooms = [f"r{host.random.getrandbits(24):x}" for _ in range(7)]
    host.extra["password"] = f"{host.random.getrandbits(40):x}" if host.day % 2 else ""
    password = f"Password = {host.extra['password']}\n" if host.day % 2 else ""
    motd = "welcome " * host.random.randint(1, 20)
    text = CONFIG.format(
        name=host.names["main"][0],
        address=host.roles["main"],
        motd=motd,
        password=password,
        ping=6 + host.day,
        certificate=certificate,
        key=key,
    )
    topics = "".join(
        f"[Channel]\nName = #{room}\nTopic = {room} talk\nModes = tn\n" for room in rooms
    )
    host.spawn(["ngircd", "-n", "-f", str(host.write("ngircd.conf", text + topics))])
    host.extra["rooms"] = rooms


class Chat(irc.client_aio.AioSimpleIRCClient):  # type: ignore[misc]
    """One connection; ``welcome`` is set when the server has let us in."""

    def __init__(self) -> None:
        super().__init__()
        self.welcome: asyncio.Event = asyncio.Event()
        self.gone: asyncio.Event = asyncio.Event()

    def on_welcome(self, *_: Any) -> None:
        """The server has let us in."""
        self.welcome.set()

    def on_disconnect(self, *_: Any) -> None:
        """The connection has ended."""
        self.gone.set()


async def session(client: Client, plan: list[str]) -> None:
    """Registers, joins, follows the plan and quits; every third account uses WeeChat."""
    if client.index % 3 == 2:
        await weechat.session(client, plan)
        return
    person, chat, name = client.person, Chat(), client.name()
    factory = irc.connection.AioFactory(ssl=client.context(), server_hostname=name)
    nick = f"{client.account['user'][:12]}{client.number % 1000}"
    password = client.extra["password"] or None
    await chat.connection.connect(
        name,
        443,
        nick,
        password=password,
        username="phone",
        ircname=person.text()[:30],
        connect_factory=factory,
    )
    try:
        await asyncio.wait_for(chat.welcome.wait(), 20)
        rooms = [
            f"#{r}"
            for r in person.random.sample(client.extra["rooms"], person.random.randint(1, 4))
        ]
        if plan:
            for room in rooms[:2] if person.random.random() < 0.5 else [",".join(rooms)]:
                chat.connection.join(room)
        for action in plan:
            await client.pause()
            await _act(chat.connection, client, action, rooms)
        await client.pause()
        chat.connection.quit(person.text()[:60])
        with contextlib.suppress(TimeoutError):  # the server says good-bye and closes
            await asyncio.wait_for(chat.gone.wait(), 5)
    finally:
        chat.connection.disconnect()


async def _act(connection: Any, client: Client, action: str, rooms: list[str]) -> None:
    person = client.person
    room, peer = (
        person.random.choice(rooms),
        f"{client.peer()['user'][:12]}{person.random.randint(1, 9)}",
    )
    if action == "idle":
        await client.idle()
    elif action == "join":
        connection.join(f"#{person.random.choice(client.extra['rooms'])}")
    elif action == "names":
        connection.names([room])
    elif action == "list":
        connection.list()
    elif action == "whois":
        connection.whois([peer])
    elif action == "link":
        connection.privmsg(
            room,
            f"{person.text()[:80]} https://files.example.test/{person.random.getrandbits(64):x}.jpg",
        )
    elif action == "paste":
        for _ in range(person.random.randint(3, 8)):
            connection.privmsg(room, person.text()[:390])
            await asyncio.sleep(0.05)
    else:
        for start in range(0, len(text := person.text()), 380):
            connection.privmsg(room if action == "group" else peer, text[start : start + 380])
