"""Mail with another client: imaplib and smtplib against Dovecot and Postfix, on mail's own ports."""

from __future__ import annotations

import asyncio
import email.message
import imaplib
import smtplib
import time
from typing import TYPE_CHECKING

from lab.servers import mail

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"check": 5, "read": 4, "search": 1.5, "send": 3, "idle": 1}
ROLES = ("imap", "smtp")
PORTS = {"imap": 993, "smtp": 465}


def serve(host: Host) -> None:
    """Dovecot and Postfix."""
    mail.serve(host, 993, 465, 2_400)


async def session(client: Client, plan: list[str]) -> None:
    """Signs in and follows the plan, in its own thread."""
    await asyncio.to_thread(_visit, client, plan)


def _visit(client: Client, plan: list[str]) -> None:
    person, account = client.person, client.account
    if "send" in plan:
        _send(client)
    name = client.name("imap")
    with imaplib.IMAP4_SSL(name, 993, ssl_context=client.context(), timeout=25) as box:
        box.login(account["user"], account["password"])
        box.select("INBOX")
        for action in plan:
            time.sleep(person.pause_s())
            if action == "check":
                box.fetch(f"{person.random.randint(1, 4)}:*", "(FLAGS UID ENVELOPE)")
            elif action == "read":
                box.fetch(str(person.random.randint(1, 6)), "(BODY.PEEK[])")
            elif action == "search":
                box.search(None, "TEXT", person.random.choice(("home", "train", "milk")))
            elif action == "idle":
                time.sleep(person.idle_s())
                box.noop()


def _send(client: Client) -> None:
    person, account = client.person, client.account
    message = email.message.EmailMessage()
    message["From"], message["To"] = account["address"], client.peer()["address"]
    message["Subject"] = person.text()[:70]
    message.set_content("\n".join(person.text() for _ in range(person.random.randint(1, 12))))
    if person.random.random() < 0.35:
        message.add_attachment(
            person.file()[:300_000], maintype="application", subtype="pdf", filename="a.pdf"
        )
    name = client.name("smtp")
    with smtplib.SMTP_SSL(name, 465, context=client.context(), timeout=25) as post:
        post.login(account["user"], account["password"])
        post.send_message(message)
