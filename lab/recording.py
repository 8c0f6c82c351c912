"""A recording's settings in; a folder with capture, connections, session log and settings out."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import apps, behaviour, front, pcap, pcapdroid, sandbox
from lab.background import BACKGROUND
from lab.behaviour import Habits
from lab.host import Host
from lab.ownership import Owned, Watch
from lab.tls import PROFILES, Authority
from lab.world import World

if TYPE_CHECKING:
    from lab.settings import Settings

SNAPLEN = 1_640
"""Ethernet, the longest IP and TCP headers, 1,500 bytes of payload."""


@dataclass
class Recorder:
    """Runs one recording."""

    settings: Settings
    folder: Path
    world: World = field(init=False)
    hosts: dict[str, Host] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Build, serve, record, tear down; returns what ``recording.json`` holds."""
        scratch = Path("/run/apptell-lab") / self.settings.recording
        scratch.mkdir(parents=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.world = World(scratch, self.settings.network, self.settings.mtu)
        try:
            self.world.build()
            self.serve()
            return self.record()
        finally:
            self.world.stop()
            subprocess.run(
                "umount /etc/hosts /etc/resolv.conf", shell=True, check=False, capture_output=True
            )
            keep = os.environ.get("APPTELL_LAB_LOGS")
            if keep:
                shutil.copytree(
                    scratch,
                    keep,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("site", "store"),
                )
            shutil.rmtree(scratch, ignore_errors=True)

    def kinds(self) -> dict[str, str]:
        """App → the package that holds its module, for the apps of this recording."""
        messaging = [name for name in self.settings.quotas if name in apps.APPS]
        background = BACKGROUND if self.settings.quotas.get("other") else ()
        return {**dict.fromkeys(messaging, "apps"), **dict.fromkeys(background, "background")}

    def serve(self) -> None:
        """Names, certificates, servers, and the front end where there is one."""
        s = self.settings
        rng = random.Random(f"{s.seed}/servers")
        zone = f"{behaviour.label(rng).replace('-', '')}.test"
        authority = Authority(self.world.scratch / "keys", f"{behaviour.label(rng)} root")
        lines, routes, alpn = [], {}, {}
        number = 10
        for app, kind in self.kinds().items():
            module = load(kind, app)
            roles, names = {}, {}
            for role in getattr(module, "ROLES", ("main",)):
                number += 1
                roles[role] = f"192.0.2.{number}"
                self.world.ip("servers", f"addr add {roles[role]}/32 dev lo")
                names[role] = [
                    f"{behaviour.label(rng)}.{zone}"
                    for _ in range(getattr(module, "N_NAMES", s.n_names))
                ]
                authority.issue(f"{app}-{role}", [f"*.{zone}"])
                backend = f"{app}-{role}"
                alpn[backend] = getattr(module, "ALPN", {}).get(
                    role, "h2,http/1.1" if role == "h2" else ""
                )
                target = roles[role] if s.front == "none" else "192.0.2.9"
                lines += [f"{target} {name}" for name in names[role]]
                routes.update(dict.fromkeys(names[role], (backend, roles[role])))
            host = Host(
                app,
                self.world,
                authority,
                random.Random(f"{s.seed}/{app}"),
                roles,
                names,
                s.workers * 2,
                s.day,
            )
            self.hosts[app] = host
        sandbox.cover_hosts(self.world.scratch, lines)
        for app, kind in self.kinds().items():
            load(kind, app).serve(self.hosts[app])
        if s.front != "none":
            self.world.ip("servers", "addr add 192.0.2.9/32 dev lo")
            authority.issue("front", [f"*.{zone}"])
            text = front.configuration(
                s.front, "192.0.2.9", routes, authority.folder / "front.both.pem", alpn
            )
            front.start(self.world, authority.folder, text)
        self.authority = authority
        self.wait_for_servers(
            [address for host in self.hosts.values() for address in host.roles.values()]
        )
        for app, kind in self.kinds().items():
            ready = getattr(load(kind, app), "ready", None)
            if ready is not None:
                ready(self.hosts[app])

    def wait_for_servers(self, addresses: list[str]) -> None:
        """Until every server listens on port 443, or half a minute has passed."""
        deadline = time.monotonic() + 40
        table = Path(f"/proc/{self.world.holders['servers']}/net/tcp")
        missing = set(addresses)
        while missing and time.monotonic() < deadline:
            time.sleep(0.2)
            text = table.read_text()
            wild = "00000000:01BB 00000000:0000 0A" in text
            missing = {a for a in missing if not wild and _listening(a) not in text}
        if missing:
            owners = {
                address: app for app, host in self.hosts.items() for address in host.roles.values()
            }
            raise RuntimeError(
                f"servers that did not start: {', '.join(sorted(owners[a] for a in missing))}"
            )

    def uid(self, app: str) -> int:
        """An app's user id on the device, as Android gives them out."""
        return 10_100 + list(self.kinds()).index(app)

    def specification(self) -> Path:
        """What the workers read."""
        s = self.settings
        habits = Habits().drifted(s.day) if s.drift else Habits()
        kinds = self.kinds()
        listing = {
            app: {
                "kind": kinds[app],
                "names": host.names,
                "accounts": host.accounts,
                "extra": host.extra,
                "workers": self.n_workers(app),
            }
            for app, host in self.hosts.items()
        }
        content = {
            "seed": s.seed,
            "tls": s.tls,
            "ca": str(self.authority.certificate),
            "habits": asdict(habits),
            "apps": listing,
        }
        path = self.world.scratch / "spec.json"
        path.write_text(json.dumps(content))
        (self.world.scratch / "openssl.cnf").write_text(PROFILES[s.tls].openssl_conf())
        return path

    def n_workers(self, app: str) -> int:
        """Concurrent accounts of an app."""
        return max(2, self.settings.workers // 2) if app in BACKGROUND else self.settings.workers

    def record(self) -> dict[str, Any]:
        """Start capture and clients, wait for the quotas, stop them in the opposite order."""
        s, world = self.settings, self.world
        path = self.specification()
        place, interface = (
            ("device", "wlan0") if s.network.tap == "device" else ("gateway", "cell0")
        )
        capture = self.folder / "capture.pcap"
        tap = world.spawn(
            place,
            [
                "tcpdump",
                "-i",
                interface,
                "-s",
                str(SNAPLEN),
                "-B",
                "16384",
                "-U",
                "-w",
                str(capture),
                "-Z",
                "root",
                "tcp",
            ],
            log="tcpdump",
        )
        time.sleep(0.6)
        watch = Watch(world.holders["device"])
        watch.start()
        started = time.time()
        environment = {
            **os.environ,
            "OPENSSL_CONF": str(world.scratch / "openssl.cnf"),
            "SSL_CERT_FILE": str(self.authority.certificate),
            "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
            "HOME": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        crews = {}
        for app in self.kinds():
            sink = (self.world.scratch / f"sessions-{app}.jsonl").open("wb")
            options: dict[str, Any] = {
                "stdin": subprocess.PIPE,
                "stdout": sink,
                "env": environment,
                "uid": self.uid(app),
            }
            crews[app] = world.spawn(
                "device",
                [sys.executable, "-m", "lab.worker", app, str(path)],
                log=f"client-{app}",
                **options,
            )
        self.wait_for_quotas(crews, watch)
        for crew in crews.values():
            close(crew)
            crew.wait(timeout=40)
        time.sleep(1.0)
        owned = watch.stop()
        tap.terminate()
        tap.wait()
        return self.write(owned, started, watch)

    def wait_for_quotas(self, crews: dict[str, subprocess.Popen[bytes]], watch: Watch) -> None:
        """Tell each crew to stop when its app has its flows; the background shares one quota."""
        s, deadline, shown = self.settings, time.monotonic() + self.settings.limit_s, 0.0
        open_crews = dict(crews)
        while open_crews and time.monotonic() < deadline:
            time.sleep(0.2)
            counts = self.counts(watch)
            for app in list(open_crews):
                label = "other" if app in BACKGROUND else app
                if counts[label] >= s.quotas[label] or open_crews[app].poll() is not None:
                    close(open_crews.pop(app))
            if time.monotonic() > shown + 10:
                shown = time.monotonic()
                print(
                    f"  {s.recording}: "
                    + " ".join(f"{k} {v}/{s.quotas[k]}" for k, v in counts.items()),
                    file=sys.stderr,
                    flush=True,
                )

    def counts(self, watch: Watch) -> dict[str, int]:
        """Connections so far for each label."""
        counts = dict.fromkeys(self.settings.quotas, 0)
        for app in self.kinds():
            counts["other" if app in BACKGROUND else app] += watch.counts.get(self.uid(app), 0)
        return counts

    def write(self, owned: list[Owned], started: float, watch: Watch) -> dict[str, Any]:
        """The connections CSV, the session log and ``recording.json``."""
        s = self.settings
        owners = {
            self.uid(app): ("other" if app in BACKGROUND else app, f"test.lab.{app}")
            for app in self.kinds()
        }
        capture = self.folder / "capture.pcap"
        totals = pcap.totals(pcap.read(capture)[1])
        pcapdroid.write_csv(self.folder / "connections.csv", owned, owners, totals)
        if s.keep_payload:
            shorten(capture, s.keep_payload)
        with (self.folder / "sessions.jsonl").open("wb") as sink:
            for app in self.kinds():
                sink.write((self.world.scratch / f"sessions-{app}.jsonl").read_bytes())
        content = {
            "recording": s.recording,
            "seed": s.seed,
            "device": f"{s.tls}-mtu{s.mtu}",
            "network": s.network.name,
            "day": s.day,
            "front": s.front,
            "tap": s.network.tap,
            "started": round(started, 3),
            "seconds": round(time.time() - started, 1),
            "capture_bytes": capture.stat().st_size,
            "flows": self.counts(watch),
            "drift": s.drift,
            "link": asdict(s.network),
            "versions": versions(),
        }
        (self.folder / "recording.json").write_text(json.dumps(content, indent=1) + "\n")
        return content


def shorten(capture: Path, n_payload: int) -> None:
    """Keep the first packets of each flow of a capture, in the order of their times."""
    link, packets = pcap.read(capture)
    kept = [p for head in pcap.flow_heads(packets, n_payload).values() for p in head]
    kept.sort(key=lambda p: p.time_ns)
    short = capture.with_suffix(".short")
    with short.open("wb") as sink:
        pcap.write(sink, link, kept)
    short.rename(capture)


def load(kind: str, app: str) -> Any:
    """The module of an app or of a kind of background."""
    return importlib.import_module(f"lab.{kind}.{app}")


def close(crew: subprocess.Popen[bytes]) -> None:
    """End a crew's input, which asks it to stop."""
    if crew.stdin is not None and not crew.stdin.closed:
        crew.stdin.close()


def _listening(address: str) -> str:
    a, b, c, d = (int(part) for part in address.split("."))
    return f"{d:02X}{c:02X}{b:02X}{a:02X}:01BB 00000000:0000 0A"


def versions() -> dict[str, str]:
    """What the servers and libraries call themselves."""
    names = (
        "aiohttp",
        "aiomqtt",
        "deltachat-rpc-server",
        "httpx",
        "irc",
        "matrix-nio",
        "matrix-synapse",
        "paho-mqtt",
        "pymumble",
        "slixmpp",
        "websockets",
    )
    found = {name: importlib.metadata.version(name) for name in names}
    for package in (
        "chromium",
        "curl",
        "dovecot-core",
        "haproxy",
        "mosquitto",
        "mumble-server",
        "nginx",
        "ngircd",
        "openssl",
        "postfix",
        "prosody",
    ):
        asked = subprocess.run(
            ["dpkg-query", "-W", "-f=${Version}", package],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0:
            found[package] = re.sub(r"^\d+:", "", asked.stdout)
    return found
