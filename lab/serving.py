"""Runs all servers of a recording, with names and keys."""

from __future__ import annotations

import importlib
import random
import re
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import apps, behaviour, front, sandbox
from lab.background import BACKGROUND
from lab.host import Host, door
from lab.tls import Authority

if TYPE_CHECKING:
    from lab.settings import Settings
    from lab.world import World

FRONT = 9
"""The number of the front end's address; the servers' own follow from 11 on."""


def kinds(settings: Settings) -> dict[str, str]:
    """App → the package that holds its module, for the apps of a recording."""
    messaging = [name for name in settings.quotas if name in (*apps.APPS, *apps.MORE)]
    background = BACKGROUND if settings.quotas.get("other") else ()
    return {**dict.fromkeys(messaging, "apps"), **dict.fromkeys(background, "background")}


def load(kind: str, app: str) -> Any:
    """The module of an app or of a kind of background."""
    return importlib.import_module(f"lab.{kind}.{app}")


class Serving:
    """The servers of one recording."""

    def __init__(self, settings: Settings, world: World) -> None:
        self.settings, self.world = settings, world
        self.random = random.Random(f"{settings.seed}/servers")
        self.zone = f"{behaviour.label(self.random)}.test"
        self.authority = Authority(world.scratch / "keys", f"{behaviour.label(self.random)} root")
        self.hosts: dict[str, Host] = {}
        self.modules = {app: load(kind, app) for app, kind in kinds(settings).items()}
        self._names: set[str] = set()
        self._lines: list[str] = []
        self._routes: dict[str, tuple[str, str]] = {}
        self._alpn: dict[str, str] = {}
        self._doors: dict[tuple[str, int], str] = {}
        self._front = world.network.address("servers", FRONT)

    def start(self) -> None:
        """Names and certificates, servers, the front end, and what an app must have ready."""
        for app in self.modules:
            self.hosts[app] = self._place(app)
        sandbox.cover_hosts(self.world.scratch, self._lines)
        for app, module in self.modules.items():
            module.serve(self.hosts[app])
        if self.settings.front != "none":
            self._start_front()
        self._wait()
        self.world.reach(*next(iter(self._doors)))
        for app, module in self.modules.items():
            if hasattr(module, "ready"):
                module.ready(self.hosts[app])

    def _place(self, app: str) -> Host:
        """Addresses, names and certificates for each role of an app."""
        s, module = self.settings, self.modules[app]
        ports = getattr(module, "PORTS", {})
        roles, names = {}, {}
        for role in getattr(module, "ROLES", ("main",)):
            address = roles[role] = self.own_address(11 + len(self._doors))
            self._doors[address, ports.get(role, 443)] = app
            n_names = getattr(module, "N_NAMES", s.n_names)
            names[role] = [self.new_name() for _ in range(n_names)]
            self.authority.issue(f"{app}-{role}", [f"*.{self.zone}"])
            backend = f"{app}-{role}"
            usual = "h2,http/1.1" if role == "h2" else ""
            self._alpn[backend] = getattr(module, "ALPN", {}).get(role, usual)
            # what has a port of its own never stands behind the front end
            target = address if s.front == "none" or role in ports else self._front
            self._lines += [f"{target} {name}" for name in names[role]]
            if target == self._front:
                self._routes.update(dict.fromkeys(names[role], (backend, address)))
        rng = random.Random(f"{s.seed}/{app}")
        n_accounts = s.workers * 2
        return Host(app, self.world, self.authority, rng, roles, names, n_accounts, s.day)

    def new_name(self) -> str:
        """A server name that no other role has."""
        while (name := f"{behaviour.label(self.random)}.{self.zone}") in self._names:
            pass
        self._names.add(name)
        return name

    def own_address(self, number: int) -> str:
        """A separate address on the server side."""
        network = self.world.network
        address = network.address("servers", number)
        # neighbour discovery, unlike ARP, answers only for the interface's own addresses
        bits = "128 dev eth0 nodad" if network.version == 6 else "32 dev lo"
        self.world.ip("servers", f"addr add {address}/{bits}")
        return address

    def _start_front(self) -> None:
        self.own_address(FRONT)
        folder = self.authority.folder
        self.authority.issue("front", [f"*.{self.zone}"])
        wildcard = folder / "front.both.pem"
        text = front.configuration(
            self.settings.front, self._front, self._routes, wildcard, self._alpn
        )
        front.start(self.world, folder, text)

    def _wait(self, limit_s: float = 180) -> None:
        """Until every server listens."""
        deadline = time.monotonic() + limit_s
        folder = Path(f"/proc/{self.world.holders['servers']}/net")
        missing = dict(self._doors)
        while missing and time.monotonic() < deadline:
            time.sleep(0.2)
            text = (folder / "tcp").read_text() + (folder / "tcp6").read_text()
            missing = {
                place: app for place, app in missing.items() if not listening(*place).search(text)
            }
        if missing:
            absent = [
                f"{app} at {door(*place)}{self._last_words(app)}" for place, app in missing.items()
            ]
            raise RuntimeError(
                f"servers that did not start in {limit_s:.0f} s: {'; '.join(absent)}"
            )

    def _last_words(self, app: str) -> str:
        """How the logs of an app's servers end, for a message."""
        logs = [path.read_text(errors="replace") for path in self.world.scratch.glob(f"{app}*.log")]
        lines = [text.strip().splitlines()[-1] for text in logs if text.strip()]
        return f" ({' | '.join(lines)})" if lines else ""


def listening(address: str, port: int) -> re.Pattern[str]:
    """What ``/proc/net/tcp`` and ``tcp6`` say of a socket that listens there.

    An IPv4 address may be held as a mapped one, so its end is enough.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return re.compile("".join(f"{word:08X}" for word in words) + f":{port:04X} 0+:0000 0A")
