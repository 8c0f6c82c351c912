"""Delta Chat: its own core (rustls) over JSON-RPC, with Dovecot and Postfix on port 443."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.servers import mail

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"text": 8, "group": 3, "picture": 2, "voice": 1, "file": 0.6, "idle": 2}
ROLES = ("imap", "smtp")
CORES: dict[int, Core] = {}


def serve(host: Host) -> None:
    """Dovecot and Postfix; the accounts' keys are made by the clients."""
    mail.serve(host, 443, 443, 2_500)


class Core:
    """One running core with one account; calls are JSON lines."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="lab-deltachat-")
        self.numbers = itertools.count(1)
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.account = 0
        self.card = ""
        """The account's address and public key, as people hand them on."""
        self.contacts: dict[int, int] = {}

    async def start(self) -> None:
        """Start the process and make an account."""
        command = Path(sys.executable).with_name("deltachat-rpc-server")
        environment = {**os.environ, "DC_ACCOUNTS_PATH": f"{self.folder}/accounts"}
        self.process = await asyncio.create_subprocess_exec(
            command, stdin=-1, stdout=-1, env=environment, limit=2**24
        )
        self.reader = asyncio.create_task(self._read())
        self.account = await self.call("add_account")

    async def _read(self) -> None:
        stream = self.process.stdout
        while stream is not None and (line := await stream.readline()):
            answer = json.loads(line)
            future = self.waiting.pop(answer.get("id"), None)
            if future is not None and not future.done():
                future.set_result(answer)

    async def call(self, method: str, *arguments: Any) -> Any:
        """One call and its result."""
        number = next(self.numbers)
        future = self.waiting[number] = asyncio.get_running_loop().create_future()
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": arguments}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")  # type: ignore[union-attr]
        answer = await asyncio.wait_for(future, 50)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error'].get('message')}"[:200])
        return answer["result"]


async def session(client: Client, plan: list[str]) -> None:
    """The first session signs in; the later ones reconnect, follow the plan and disconnect."""
    core = CORES.get(client.index)
    if core is None:
        core = Core()
        await core.start()
        account = client.account
        way: dict[str, str | int] = {
            "imapServer": client.name("imap"),
            "smtpServer": client.name("smtp"),
        }
        way |= {"imapPort": 443, "smtpPort": 443, "imapSecurity": "ssl", "smtpSecurity": "ssl"}
        way |= {"imapUser": account["user"], "smtpUser": account["user"]}
        way |= {"addr": account["address"], "password": account["password"]}
        way["certificateChecks"] = "acceptInvalidCertificates"
        await core.call("add_or_update_transport", core.account, way)
        core.card = await core.call("make_vcard", core.account, [1])
        CORES[client.index] = core
    await core.call("start_io", core.account)
    try:
        for action in plan:
            await client.pause()
            await _act(core, client, action)
        await asyncio.sleep(1 + client.person.pause_s())
    finally:
        await core.call("stop_io", core.account)


async def _act(core: Core, client: Client, action: str) -> None:
    person = client.person
    if action == "idle":
        await client.idle()
        return
    others = [index for index in CORES if index != client.index]
    if not others:
        return
    chosen = person.random.sample(others, min(len(others), 3 if action == "group" else 1))
    for index in chosen:
        if index not in core.contacts:
            found = await core.call("import_vcard_contents", core.account, CORES[index].card)
            core.contacts[index] = found[0]
    contacts = [core.contacts[index] for index in chosen]
    if action == "group":
        chat = await core.call("create_group_chat", core.account, person.text()[:30], False)
        for contact in contacts:
            await core.call("add_contact_to_chat", core.account, chat, contact)
    else:
        chat = await core.call("create_chat_by_contact_id", core.account, contacts[0])
    message: dict[str, Any] = {"text": person.text()}
    if action in ("picture", "voice", "file"):
        body = {"picture": person.picture, "voice": person.voice, "file": person.file}[action]()
        with tempfile.NamedTemporaryFile(dir=core.folder, suffix=".bin", delete=False) as sink:
            sink.write(body)
        message |= {"file": sink.name, "viewtype": "File"}
    await core.call("send_msg", core.account, chat, message)
