"""DNS over TLS on its own port: Unbound, and kdig (GnuTLS) with some questions over one connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"a": 6, "aaaa": 4, "txt": 1}
WORKERS = 8
PORTS = {"main": 853}
CONFIG = """server:
  directory: "{dir}"
  chroot: ""
  username: ""
  use-syslog: no
  logfile: ""
  pidfile: "{dir}/unbound.pid"
  interface: {address}@853
  tls-port: 853
  incoming-num-tcp: 400
  tcp-idle-timeout: 60000
  tls-service-key: "{key}"
  tls-service-pem: "{certificate}"
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  do-not-query-localhost: yes
  local-zone: "." static
{data}
"""


def serve(host: Host) -> None:
    """A resolver that knows some hundred names of ``.test`` and sends no queries."""
    certificate, key = host.certificate()
    rng, lines, names = host.random, [], []
    for number in range(200):
        name = f"{rng.getrandbits(rng.choice((16, 40, 80))):x}.n{number % 9}.test"
        names.append(name)
        for _ in range(rng.randint(1, 6)):
            lines.append(f'  local-data: "{name} 300 A 198.51.100.{rng.randint(1, 254)}"')
            lines.append(f'  local-data: "{name} 300 AAAA 2001:db8::{rng.getrandbits(16):x}"')
        note = f"v=1 {rng.getrandbits(400):x}"
        lines.append(f"  local-data: '{name} 300 TXT \"{note}\"'")
    host.extra["names"] = names
    values = {"address": host.roles["main"], "certificate": certificate, "key": key}
    text = CONFIG.format(dir=host.dir, data="\n".join(lines), **values)
    host.spawn(["unbound", "-d", "-c", str(host.write("unbound.conf", text))])


async def session(client: Client, plan: list[str]) -> None:
    """Ask the plan's questions over one connection."""
    server = client.name()
    command = ["kdig", f"@{server}", "-p", "853", f"+tls-ca={client.ca}", f"+tls-host={server}"]
    command += [
        "+keepopen",
        "+timeout=30",
        "+padding" if client.person.random.random() < 0.5 else "+nopadding",
    ]
    for action in plan or ["a"]:
        command += [client.person.random.choice(client.extra["names"]), action.upper()]
    process = await asyncio.create_subprocess_exec(*command, stdout=-3)
    try:
        if code := await process.wait():
            raise RuntimeError(f"kdig ended with {code}")
    finally:
        if process.returncode is None:
            process.kill()
