"""Prepares one messaging system: addresses, keys, accounts, files and servers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab import behaviour

if TYPE_CHECKING:
    import random
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

    from lab.tls import Authority
    from lab.world import World

NGINX_HEAD = """daemon off; user root; worker_processes 1; pid {dir}/nginx.pid;
error_log {dir}/nginx.log;
events {{ worker_connections 2048; }}
"""
NGINX_HTTP = """http {{
  types {{ text/html html; text/css css; application/javascript js;
    image/jpeg jpg; application/json json; }}
  default_type application/octet-stream; access_log off; server_tokens off;
  client_max_body_size 20m;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u;  scgi_temp_path {dir}/s; keepalive_timeout 30s;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:s:4m;
"""


def door(address: str, port: int = 443) -> str:
    """Address and port, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass
class Host:
    """What an app's ``serve`` may use, and what it leaves for its clients."""

    app: str
    world: World
    authority: Authority
    random: random.Random
    roles: dict[str, str]
    """Role → the address on which the app serves it, port 443."""
    names: dict[str, list[str]]
    """Role → the server names of that role."""
    n_accounts: int
    day: int
    accounts: list[dict[str, str]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def dir(self) -> Path:
        path = self.world.scratch / self.app
        path.mkdir(exist_ok=True, mode=0o755)
        return path

    def certificate(self, role: str = "main") -> tuple[Path, Path]:
        """Certificate and key of a role."""
        return (
            self.authority.folder / f"{self.app}-{role}.crt",
            self.authority.folder / f"{self.app}-{role}.key",
        )

    def write(self, name: str, text: str) -> Path:
        """A configuration file in the app's folder."""
        path = self.dir / name
        path.write_text(text)
        return path

    def spawn(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a server on the server side."""
        options.setdefault("env", dict(os.environ))
        return self.world.spawn(
            "servers", list(command), log=options.pop("log", self.app), **options
        )

    def make_accounts(self) -> list[dict[str, str]]:
        """Names and passwords drawn from the seed."""
        for number in range(self.n_accounts):
            user = behaviour.label(self.random).replace("-", "") + str(number)
            self.accounts.append({"user": user, "password": f"{self.random.getrandbits(48):x}"})
        return self.accounts

    def nginx(
        self, servers: str, *, name: str = "nginx", streams: str = "", http: str = ""
    ) -> None:
        """Start an nginx with the given ``server`` blocks."""
        text = NGINX_HEAD + NGINX_HTTP
        if streams:
            text = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n" + text
        config = text.format(dir=self.dir) + http + servers + "\n}\n" + streams
        path = self.write(f"{name}.conf", config)
        self.spawn(
            ["nginx", "-c", str(path), "-p", str(self.dir), "-e", str(self.dir / f"{name}.log")],
            log=f"{self.app}-{name}",
        )

    def door(self, role: str = "main", port: int = 443) -> str:
        """Address and port of a role, an IPv6 address in brackets."""
        return door(self.roles[role], port)

    def nginx_tls(self, role: str = "main", *, http2: bool = False) -> str:
        """The first lines of a TLS ``server`` block of a role."""
        certificate, key = self.certificate(role)
        flavour = " http2" if http2 else ""
        return (
            f"listen {self.door(role)} ssl{flavour} backlog=1024; server_name _;\n"
            f"ssl_certificate {certificate}; ssl_certificate_key {key};\n"
        )
