"""Remote procedure calls over HTTP/2: grpcio (BoringSSL) on both sides, single calls and streams."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from lab.host import Host
    from lab.worker import Client

ACTIONS = {"call": 7, "stream": 2, "upload": 1, "idle": 1}
ALPN = {"main": "h2"}


def serve(host: Host) -> None:
    """The server's own process; it holds its TLS itself."""
    certificate, key = host.certificate()
    command = [sys.executable, "-m", "lab.servers.remote", host.door(), str(certificate), str(key)]
    host.spawn(command)


async def session(client: Client, plan: list[str]) -> None:
    """One channel and the calls of the plan."""
    person = client.person
    trust = grpc.ssl_channel_credentials(Path(client.ca).read_bytes())
    # a pool of its own, or every session would share one connection
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"{client.name()}:443", trust, options=options) as channel:
        for action in plan or ["call"]:
            if action == "idle":
                await client.idle()
                continue
            if action == "stream":
                count = person.random.randint(2, 20).to_bytes(4, "big")
                async for _ in channel.unary_stream("/lab.Feed/Watch")(count, timeout=20):
                    pass
            else:
                median = 20_000 if action == "upload" else 300
                size = int(person.lognormal(median, 1.0, 8, 200_000))
                method = person.random.choice(("/lab.Api/Get", "/lab.Api/List", "/lab.Sync/Put"))
                meta = [("authorization", person.blob(person.random.choice((20, 80))).hex())]
                await channel.unary_unary(method)(person.blob(size), timeout=20, metadata=meta)
            await client.pause()
