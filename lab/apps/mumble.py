"""Mumble: its server, and pymumble; text, channels, pictures, speech through the TCP tunnel."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from lab import mumblepb

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

WORKERS = 24
IDLE_LOOP_S, TALKING_LOOP_S = 0.08, 0.02
"""How long pymumble's thread waits for the server before it looks at its own queue."""
ACTIONS = {
    "text": 7,
    "group": 5,
    "picture": 1.5,
    "talk": 3,
    "move": 3,
    "idle": 3,
    "mute": 1.5,
    "comment": 1,
}
CONFIG = """database={dir}/mumble.sqlite
dbus=
ice=
logfile=
port=443
host={address}
sslCert={certificate}
sslKey={key}
autobanAttempts=0
messagelimit=50
messageburst=200
users=500
bandwidth={bandwidth}
timeout=30
welcometext={welcome}
imagemessagelength=400000
textmessagelength=20000
opusthreshold=0
allowping=false
uname=root
"""


def serve(host: Host) -> None:
    """A server whose channels the first client makes."""
    certificate, key = host.certificate()
    host.make_accounts()
    welcome = "welcome " * host.random.randint(1, 30)
    text = CONFIG.format(
        dir=host.dir,
        address=host.roles["main"],
        certificate=certificate,
        key=key,
        bandwidth=60_000 + 4_000 * host.day,
        welcome=welcome,
    )
    path = host.write("murmur.ini", text)
    host.world.run(
        "servers", ["murmurd", "-fg", "-ini", str(path), "-supw", "lab"], capture_output=True
    )
    host.spawn(["murmurd", "-fg", "-ini", str(path)])
    host.extra["channels"] = [
        f"room {host.random.getrandbits(20):x}" for _ in range(host.random.randint(4, 14))
    ]


def ready(host: Host) -> None:
    """Make the channels as the server's owner, on the server side and so out of the capture."""
    script = [sys.executable, "-m", "lab.apps.mumble", host.roles["main"], *host.extra["channels"]]
    host.world.run("servers", script, timeout=60)


def furnish(address: str, channels: list[str]) -> None:
    """Connect as the owner and make channels."""
    mumblepb.install()
    import pymumble_py3

    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
    ssl.wrap_socket = lambda sock, **_: plain.wrap_socket(sock)  # type: ignore[attr-defined]
    chat = pymumble_py3.Mumble(address, "SuperUser", port=443, password="lab")
    chat.start()
    chat.is_ready()
    for channel in channels:
        chat.channels.new_channel(0, channel, temporary=False)
    deadline = time.monotonic() + 20
    while len(chat.channels) <= len(channels) and time.monotonic() < deadline:
        time.sleep(0.1)
    os._exit(0)


def _wrap(client: Client, name: str) -> Any:
    """What stands in for ``ssl.wrap_socket``, which knows no server name and no device settings."""
    context = client.context()

    def wrap_socket(sock: Any, **_: Any) -> ssl.SSLSocket:
        return context.wrap_socket(sock, server_hostname=name)

    return wrap_socket


_connecting = threading.local()


class _Ssl:
    """The ``ssl`` module as pymumble sees it; each thread wraps with the session it connects."""

    PROTOCOL_TLS = ssl.PROTOCOL_TLS

    @staticmethod
    def wrap_socket(sock: Any, **options: Any) -> Any:
        """A socket with the device's TLS."""
        return _connecting.wrap(sock, **options)


def _connect(client: Client) -> Any:
    mumblepb.install()
    import pymumble_py3
    from pymumble_py3 import mumble as library

    name = client.name()
    user = f"{client.account['user']}-{client.number}"
    chat = pymumble_py3.Mumble(name, user, port=443, reconnect=False)
    chat.set_loop_rate(IDLE_LOOP_S)
    chat.parent_thread = threading.main_thread()

    library.ssl = _Ssl
    _connecting.wrap = _wrap(client, name)
    chat.init_connection()
    chat.connect()
    return chat


def _loop(chat: Any) -> None:
    with contextlib.suppress(Exception):  # a closed socket ends the loop
        chat.loop()


async def session(client: Client, plan: list[str]) -> None:
    """Connects, waits for the channels and follows the plan."""
    chat = await asyncio.to_thread(_connect, client)
    if chat.control_socket is None or chat.connected >= 3:
        raise ConnectionError("no connection")
    threading.Thread(target=_loop, args=(chat,), daemon=True).start()
    try:
        for _ in range(1_000):
            if chat.connected == 2:
                break
            await asyncio.sleep(0.05)
        else:
            raise TimeoutError("no server sync")
        for action in plan:
            await client.pause()
            await _act(chat, client, action)
        await client.pause()
    finally:
        chat.exit = True
        await asyncio.sleep(0.05)
        chat.control_socket.close()


async def _act(chat: Any, client: Client, action: str) -> None:
    person = client.person
    others = [u for u in list(chat.users.values()) if u is not chat.users.myself]
    channels = list(chat.channels.values())
    if action == "idle":
        await asyncio.sleep(0)
        chat.ping()
        await client.idle()
    elif action == "move":
        person.random.choice(channels).move_in()
    elif action == "mute":
        chat.users.myself.mute() if person.random.random() < 0.5 else chat.users.myself.unmute()
    elif action == "comment":
        chat.users.myself.comment(person.text())
    elif action == "talk":
        await _talk(chat, client)
    else:
        body = person.text()
        if action == "picture":
            picture = base64.b64encode(person.thumbnail() * 3).decode()
            body = f'<img src="data:image/jpeg;base64,{picture}"/>'
        if action == "text" and others:
            person.random.choice(others).send_text_message(body)
        else:
            chat.my_channel().send_text_message(body)


async def _talk(chat: Any, client: Client) -> None:
    """Some seconds of noise through the Opus encoder: speech as far as the wire can tell."""
    chat.sound_output.set_audio_per_packet(client.person.random.choice((0.02, 0.04, 0.06)))
    seconds = client.person.lognormal(1.2, 0.6, 0.3, 5)
    chat.set_loop_rate(TALKING_LOOP_S)
    for _ in range(int(seconds / 0.1)):
        chat.sound_output.add_sound(client.person.blob(9_600))
        await asyncio.sleep(0.1)
    chat.set_loop_rate(IDLE_LOOP_S)


if __name__ == "__main__":
    furnish(sys.argv[1], sys.argv[2:])
