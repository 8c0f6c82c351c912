"""XMPP: Prosody with direct TLS, and slixmpp; carbons, archive, rooms, pictures by upload."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import slixmpp
from slixmpp.util.sasl.mechanisms import SCRAM

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {
    "text": 9,
    "group": 4,
    "picture": 2,
    "voice": 1.3,
    "file": 0.6,
    "idle": 2,
    "history": 2,
    "ping": 1,
    "away": 1,
}
ROLES = ("main", "upload")
N_NAMES = 24
"""Each is a separate domain with two accounts."""
ALPN = {"main": "xmpp-client"}
CONFIG = """run_as_root = true
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
plugin_paths = {{}}
modules_enabled = {{ "roster", "saslauth", "disco", "carbons", "pep", "mam", "smacks",
  "ping", "csi_simple", "presence", "message", "iq", "blocklist", "vcard4", "bookmarks",
  "time", "version" }}
modules_disabled = {{ "s2s", "tls", "offline" }}
authentication = "internal_plain"
storage = "internal"
archive_expires_after = "never"
c2s_ports = {{}}
c2s_direct_tls_ports = {{ 443 }}
interfaces = {{ "{address}" }}
c2s_direct_tls_ssl = {{ certificate = "{certificate}", key = "{key}" }}
https_ports = {{}}
http_ports = {{ 5280 }}
http_interfaces = {{ "127.0.0.1" }}
limits = {{}}
log = {{ warn = "*console" }}
certificates = "{dir}"
ssl = {{ certificate = "{certificate}", key = "{key}" }}
smacks_hibernation_time = {hibernate}
"""


def serve(host: Host) -> None:
    """Prosody with a few domains, one room service and one upload service behind nginx."""
    data = host.dir / "data"
    certificate, key = host.certificate()
    text = CONFIG.format(
        dir=host.dir,
        address=host.roles["main"],
        certificate=certificate,
        key=key,
        hibernate=60 + host.day,
    )
    rooms = f"rooms.{host.names['main'][0]}"
    upload = host.names["upload"][0]
    for domain in host.names["main"]:
        text += f'VirtualHost "{domain}"\n'
    text += f'Component "{rooms}" "muc"\nmodules_enabled = {{ "muc_mam" }}\n'
    text += "muc_room_default_public = false\nmuc_room_locking = false\n"
    text += f'Component "{upload}" "http_file_share"\nhttp_external_url = "https://{upload}/"\n'
    text += 'http_paths = { file_share = "/share" }\n'
    for number, account in enumerate(host.make_accounts()):
        account["domain"] = host.names["main"][number % len(host.names["main"])]
        encoded = "".join(c if c.isalnum() else f"%{ord(c):02x}" for c in account["domain"])
        folder = data / encoded / "accounts"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{account['user']}.dat").write_text(
            f'return {{ password = "{account["password"]}" }};\n'
        )
    host.extra.update(
        rooms=[f"r{host.random.getrandbits(24):x}@{rooms}" for _ in range(5)], upload=upload
    )
    host.spawn(["prosody", "--config", str(host.write("prosody.cfg.lua", text)), "-F"])
    place = "location / { proxy_pass http://127.0.0.1:5280; proxy_set_header Host $host; }"
    host.nginx(f"server {{ {host.nginx_tls('upload', http2=False)} {place} }}")


def _salted(scram: SCRAM, text: bytes, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac(scram.hash().name, bytes(text), salt, iterations)


# slixmpp's own loop takes a second for all accounts' sign-ins on a busy machine; the bytes are the same
SCRAM.Hi = _salted


class Chat(slixmpp.ClientXMPP):
    """One stream; ``ready`` is set when the session has begun, ``gone`` when it has failed."""

    def __init__(self, client: Client) -> None:
        account = client.account
        super().__init__(
            f"{account['user']}@{account['domain']}/phone{client.number}", account["password"]
        )
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.rooms: set[str] = set()
        self.enable_starttls = False
        self.ssl_context = client.context(["xmpp-client"] if client.index % 2 else ())
        for plugin in (
            "xep_0030",
            "xep_0045",
            "xep_0085",
            "xep_0184",
            "xep_0198",
            "xep_0199",
            "xep_0280",
            "xep_0313",
            "xep_0352",
            "xep_0363",
        ):
            self.register_plugin(plugin)
        self.add_event_handler("session_start", lambda _: self._settle(None))
        self.add_event_handler(
            "failed_auth",
            lambda _: self._settle(PermissionError("sign-in refused")),
        )

    def _settle(self, error: Exception | None) -> None:
        """Says once whether the session has begun."""
        if self.ready.done():
            return
        if error is None:
            self.ready.set_result(True)
        else:
            self.ready.set_exception(error)


async def session(client: Client, plan: list[str]) -> None:
    """Signs in, announces itself, follows the plan and closes the stream."""
    chat = Chat(client)
    chat.connect(client.account["domain"], 443)
    try:
        await asyncio.wait_for(chat.ready, 60)
        if plan:
            chat.send_presence()
            await chat.get_roster(timeout=15)
            if client.person.random.random() < 0.6:
                await chat["xep_0280"].enable()
        for action in plan:
            await client.pause()
            await asyncio.wait_for(_act(chat, client, action), 40)
        await client.pause()
    finally:
        await chat.disconnect(wait=1.0)


async def _act(chat: Chat, client: Client, action: str) -> None:
    person, peer = client.person, client.peer()
    to = f"{peer['user']}@{peer['domain']}"
    if action == "idle":
        chat["xep_0352"].send_inactive()
        await client.idle()
        chat["xep_0352"].send_active()
    elif action == "ping":
        await chat["xep_0199"].ping(client.account["domain"], timeout=10)
    elif action == "away":
        chat.send_presence(
            pshow=person.random.choice(("away", "dnd", "xa")), pstatus=person.text()[:80]
        )
    elif action == "history":
        await chat["xep_0313"].retrieve(rsm={"max": str(person.random.randint(5, 40))}, timeout=20)
    elif action == "group":
        room = person.random.choice(client.extra["rooms"])
        if room not in chat.rooms:
            chat.rooms.add(room)
            await chat["xep_0045"].join_muc_wait(
                room,
                f"{client.account['user']}{client.number}",
                maxstanzas=person.random.randint(0, 15),
                timeout=15,
            )
        chat.send_message(mto=room, mbody=person.text(), mtype="groupchat")
    elif action == "text":
        if person.random.random() < 0.4:
            typing = chat.make_message(mto=to, mtype="chat")
            typing["chat_state"] = "composing"
            typing.send()
            await client.pause()
        chat.send_message(mto=to, mbody=person.text(), mtype="chat")
    else:
        await _share(
            chat,
            client,
            to,
            {"picture": person.picture, "voice": person.voice, "file": person.file}[action](),
        )


async def _share(chat: Chat, client: Client, to: str, body: bytes) -> None:
    answer = await chat["xep_0363"].request_slot(
        client.extra["upload"], "x.bin", len(body), "application/octet-stream", timeout=15
    )
    put, get = answer["http_upload_slot"]["put"], answer["http_upload_slot"]["get"]["url"]
    async with client.http() as http:
        headers = {h["name"]: h["value"] for h in put["headers"]}
        await http.call("PUT", put["url"], body, headers)
        chat.send_message(mto=to, mbody=get, mtype="chat")
        if client.person.random.random() < 0.4:
            await http.call("GET", get)
