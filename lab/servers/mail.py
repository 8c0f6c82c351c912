"""Runs Dovecot for IMAP and Postfix for SMTP, both over TLS."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from lab.behaviour import Person

if TYPE_CHECKING:
    from lab.host import Host

DOVECOT = """base_dir = {dir}/run
state_dir = {dir}/run
log_path = /dev/stderr
protocols = imap lmtp
listen = 127.0.0.1
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = maildir:~/Maildir
mail_uid = 5000
mail_gid = 5000
first_valid_uid = 5000
mail_max_userip_connections = 2000
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%n {dir}/users
}}
userdb {{
  driver = static
  args = uid=5000 gid=5000 home={dir}/mail/%n
}}
namespace inbox {{
  inbox = yes
  mailbox Sent {{
    auto = create
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    address = {imap}
    port = {imap_port}
    ssl = yes
  }}
  service_count = 0
  process_min_avail = 1
}}
service imap {{
  process_limit = 2000
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp_port}
  }}
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {auth_port}
  }}
}}
"""
MAIN = """compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = {name}
inet_interfaces = {smtp}
inet_protocols = all
mydestination =
alias_maps =
virtual_mailbox_domains = {domain}
virtual_transport = lmtp:inet:127.0.0.1:{lmtp_port}
smtpd_tls_chain_files = {key}, {certificate}
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{auth_port}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_peername_lookup = no
message_size_limit = 20000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
smtpd_client_connection_count_limit = 0
smtputf8_enable = no
import_environment = MAIL_CONFIG
maillog_file = /dev/stdout
"""
MASTER = """{smtp_door} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
QUEUES = {
    0o700: "active bounce corrupt defer deferred flush hold incoming private saved trace",
    0o755: "pid",
    0o710: "public",
    0o730: "maildrop",
}
"""Folders of a Postfix queue by their modes."""


def serve(host: Host, imap_port: int, smtp_port: int, local_port: int) -> None:
    """Start both on the addresses of the roles ``imap`` and ``smtp``."""
    domain = host.names["imap"][0].split(".", 1)[1]
    accounts = host.make_accounts()
    for account in accounts:
        account["address"] = f"{account['user']}@{domain}"
    host.write("users", "".join(f"{a['user']}:{a['password']}\n" for a in accounts))
    values = {
        "dir": host.dir,
        "domain": domain,
        "name": host.names["smtp"][0],
        "imap": host.roles["imap"],
        "smtp": host.roles["smtp"],
        "smtp_door": host.door("smtp", smtp_port),
        "imap_port": imap_port,
        "lmtp_port": local_port,
        "auth_port": local_port + 1,
    }
    certificate, key = host.certificate("imap")
    _fill(host, domain)
    text = DOVECOT.format(**values, certificate=certificate, key=key)
    path = host.write("dovecot.conf", text)
    host.spawn(["dovecot", "-F", "-c", str(path)], log=f"{host.app}-dovecot")
    certificate, key = host.certificate("smtp")
    folder = host.dir / "postfix"
    folder.mkdir()
    (folder / "main.cf").write_text(MAIN.format(**values, certificate=certificate, key=key))
    (folder / "master.cf").write_text(MASTER.format(**values))
    (folder / "dynamicmaps.cf").write_text("")
    _queue(host)
    host.spawn(["postfix", "-c", str(folder), "start-fg"], log=f"{host.app}-postfix")


def _queue(host: Host) -> None:
    """What ``postfix check`` makes, so that it is not run.

    It starts some 130 processes, one after the other: 37 s where the lab has a fiftieth of a core.
    """
    queue = host.dir / "queue"
    for folder in (queue, host.dir / "data"):
        folder.mkdir(mode=0o755)
    shutil.chown(host.dir / "data", "postfix")
    for mode, names in QUEUES.items():
        for name in names.split():
            (queue / name).mkdir()
            (queue / name).chmod(mode)
            if name != "pid":
                shutil.chown(queue / name, "postfix", "postdrop")
    (queue / "quick-start").touch()


def _fill(host: Host, domain: str) -> None:
    """Some letters in every inbox."""
    person = Person(f"{host.app}/{host.random.getrandbits(32)}")
    for account in host.accounts:
        box = host.dir / "mail" / account["user"] / "Maildir" / "new"
        box.mkdir(parents=True)
        for number in range(person.random.randint(6, 12)):
            body = "\r\n".join(person.text() for _ in range(person.random.randint(1, 30)))
            head = f"From: a{number}@{domain}\r\nTo: {account['address']}\r\n"
            head += f"Message-ID: <{person.random.getrandbits(64):x}@{domain}>\r\n"
            letter = f"{head}Subject: {person.text()[:60]}\r\n\r\n{body}\r\n"
            (box / f"{1_700_000_000 + number}.{number}.lab").write_text(letter)
    host.world.run("servers", ["chown", "-R", "5000:5000", str(host.dir / "mail")])
