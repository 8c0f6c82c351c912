"""Runs one recording: capture, connections, session log and settings in a folder."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import cost, pcap, pcapdroid, sandbox
from lab.background import BACKGROUND, SHARES
from lab.behaviour import Habits
from lab.ownership import Owned, Watch
from lab.serving import Serving, kinds
from lab.tls import PROFILES
from lab.world import World

if TYPE_CHECKING:
    from lab.settings import Settings

SNAPLEN = 1_640
"""Ethernet, the longest IP and TCP headers, 1,500 bytes of payload."""
MAX_FAULTS = 0.5
"""The share of an app's sessions that may end with a fault."""
LIBRARIES = (
    "aiohttp", "aiomqtt", "grpcio", "httpx", "irc", "matrix-nio", "matrix-synapse", "paho-mqtt",
    "pymumble", "slixmpp", "websockets",
)  # fmt: skip
PACKAGES = (
    "chromium-headless-shell", "curl", "dovecot-core", "git", "haproxy", "knot-dnsutils", "mosquitto",
    "mumble-server", "nginx", "ngircd", "openssl", "postfix", "prosody", "unbound",
)  # fmt: skip


@dataclass
class Recorder:
    """Runs one recording."""

    settings: Settings
    folder: Path
    beside: str | None = None
    """A command that also captures, such as ``apptell live``; ends by SIGTERM."""
    world: World = field(init=False)
    serving: Serving = field(init=False)

    def run(self) -> dict[str, Any]:
        """Build, serve, record, tear down; returns what ``recording.json`` holds."""
        scratch = Path("/run/apptell-lab") / self.settings.recording
        scratch.mkdir(parents=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.world = World(scratch, self.settings.network, self.settings.mtu)
        try:
            self.world.build()
            self.serving = Serving(self.settings, self.world)
            self.serving.start()
            return self.record()
        finally:
            self.world.stop()
            for path in ("/etc/hosts", "/etc/resolv.conf"):
                subprocess.run(["umount", path], check=False, capture_output=True)
            keep = os.environ.get("APPTELL_LAB_LOGS")
            if keep:
                logs = shutil.ignore_patterns("site", "store", "run", "queue", "*.sock", "media")
                shutil.copytree(scratch, keep, dirs_exist_ok=True, ignore=logs)
            shutil.rmtree(scratch, ignore_errors=True)

    def uid(self, app: str) -> int:
        """An app's user id on the device, as Android gives them out."""
        return 10_100 + list(self.serving.modules).index(app)

    def specification(self) -> Path:
        """What the workers read."""
        s = self.settings
        habits = Habits().drifted(s.day) if s.drift else Habits()
        listing = {
            app: {
                "kind": kind,
                "names": self.serving.hosts[app].names,
                "accounts": self.serving.hosts[app].accounts,
                "extra": self.serving.hosts[app].extra,
                "workers": self.n_workers(app),
            }
            for app, kind in kinds(s).items()
        }
        content = {
            "seed": s.seed,
            "tls": s.tls,
            "ca": str(self.serving.authority.certificate),
            "habits": asdict(habits),
            "apps": listing,
        }
        path = self.world.scratch / "spec.json"
        path.write_text(json.dumps(content))
        (self.world.scratch / "openssl.cnf").write_text(PROFILES[s.tls].openssl_conf())
        return path

    def n_workers(self, app: str) -> int:
        """How many accounts of an app are at work at the same time."""
        usual = max(3, self.settings.workers // 2) if app in BACKGROUND else self.settings.workers
        return min(usual, int(getattr(self.serving.modules[app], "WORKERS", usual)))

    def record(self) -> dict[str, Any]:
        """Start capture and clients, wait for the quotas, stop them in the opposite order."""
        world = self.world
        specification = self.specification()
        tap = self.start_tap()
        beside = None if self.beside is None else self.start_beside(self.beside)
        watch = Watch(world)
        watch.start()
        started = time.time()
        crews = {app: self.start_crew(app, specification) for app in self.serving.modules}
        self.wait_for_quotas(crews, watch)
        for crew in crews.values():
            close(crew)
        deadline = time.monotonic() + 40
        while not all(map(ended, crews.values())) and time.monotonic() < deadline:
            time.sleep(0.2)
        spent = cost.processor_s(world.children)
        for crew in crews.values():
            crew.kill()
            crew.wait()
        time.sleep(1.0)
        owned = watch.stop()
        tap.terminate()
        tap.wait()
        if beside is not None:
            beside.terminate()
            beside.wait(timeout=60)
        return self.write(owned, started, watch, spent)

    @property
    def tapped(self) -> tuple[str, str]:
        """The place and the interface of the capture."""
        on_device = self.settings.network.tap == "device"
        return ("device", "wlan0") if on_device else ("gateway", "cell0")

    def start_beside(self, command: str) -> subprocess.Popen[bytes]:
        """Starts the command beside the capture, and waits for its packet socket."""
        place, interface = self.tapped
        words = shlex.split(command.replace("{interface}", interface))
        process = self.world.spawn(place, words, log="beside")
        sockets = Path(f"/proc/{process.pid}/net/packet")
        deadline = time.monotonic() + 300
        while len(sockets.read_text().splitlines()) < 3 and time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"{words[0]} ended: {process.returncode}")
            time.sleep(0.2)
        time.sleep(0.5)
        return process

    def start_tap(self) -> subprocess.Popen[bytes]:
        """Tcpdump at the gateway or on the device."""
        place, interface = self.tapped
        command = [
            "tcpdump",
            "-i",
            interface,
            "-s",
            str(SNAPLEN),
            "-B",
            "16384",
            "-U",
            "-Z",
            "root",
        ]
        command += ["-w", str(self.folder / "capture.pcap"), "tcp"]
        tap = self.world.spawn(place, command, log="tcpdump")
        time.sleep(0.6)
        return tap

    def start_crew(self, app: str, specification: Path) -> subprocess.Popen[bytes]:
        """The clients of one app, under its user id."""
        environment = {
            **os.environ,
            "OPENSSL_CONF": str(self.world.scratch / "openssl.cnf"),
            "SSL_CERT_FILE": str(self.serving.authority.certificate),
            "GRPC_DNS_RESOLVER": "native",
            "HOME": "/nonexistent",
            "PYTHONPATH": str(older(self.settings.version)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "lab.worker", app, str(specification)]
        with (self.world.scratch / f"sessions-{app}.jsonl").open("wb") as sink:
            return self.world.spawn(
                "device",
                command,
                log=f"client-{app}",
                stdin=subprocess.PIPE,
                stdout=sink,
                env=environment,
                uid=self.uid(app),
            )

    def wait_for_quotas(self, crews: dict[str, subprocess.Popen[bytes]], watch: Watch) -> None:
        """Tell each crew to stop when its app has its flows."""
        s, shown = self.settings, 0.0
        deadline = time.monotonic() + s.limit_s
        waiting, counts = dict(crews), self.counts(watch)
        while waiting and time.monotonic() < deadline:
            time.sleep(0.2)
            for app in list(waiting):
                n_flows = watch.ledger.counts.get(self.uid(app), 0)
                enough = app in BACKGROUND and counts["other"] >= s.quotas["other"]
                if n_flows >= self.quota(app) or enough or ended(waiting[app]):
                    close(waiting.pop(app))
            counts = self.counts(watch)
            if time.monotonic() > shown + 10:
                shown = time.monotonic()
                state = " ".join(f"{app} {n}/{s.quotas[app]}" for app, n in counts.items())
                print(f"  {s.recording}: {state}", file=sys.stderr, flush=True)

    def quota(self, app: str) -> int:
        """Flows of an app; each kind of background has its share of ``other``."""
        if app not in SHARES:
            return self.settings.quotas[app]
        return -(-self.settings.quotas["other"] * SHARES[app] // sum(SHARES.values()))

    def counts(self, watch: Watch) -> dict[str, int]:
        """Connections so far for each label."""
        counts = dict.fromkeys(self.settings.quotas, 0)
        for app in self.serving.modules:
            label = "other" if app in BACKGROUND else app
            counts[label] += watch.ledger.counts.get(self.uid(app), 0)
        return counts

    def names(self) -> dict[str, list[str]]:
        """Server names of each label: the lab's own record, which the labelling never sees."""
        found: dict[str, list[str]] = {}
        for app, host in self.serving.hosts.items():
            label = "other" if app in BACKGROUND else app
            found.setdefault(label, []).extend(n for names in host.names.values() for n in names)
        return found

    def write(
        self, owned: list[Owned], started: float, watch: Watch, spent: dict[str, float]
    ) -> dict[str, Any]:
        """The connections CSV, the session log and ``recording.json``."""
        s = self.settings
        owners = {
            self.uid(app): ("other" if app in BACKGROUND else app, f"test.lab.{app}")
            for app in self.serving.modules
        }
        capture = self.folder / "capture.pcap"
        totals = pcap.totals(pcap.read(capture)[1])
        pcapdroid.write_csv(self.folder / "connections.csv", owned, owners, totals)
        if s.keep_payload:
            shorten(capture, s.keep_payload)
        with (self.folder / "sessions.jsonl").open("wb") as sink:
            for app in self.serving.modules:
                sink.write((self.world.scratch / f"sessions-{app}.jsonl").read_bytes())
        check_faults(self.folder / "sessions.jsonl")
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
            "version": s.version,
            "drift": s.drift,
            "names": self.names(),
            "link": asdict(s.network),
            "processor_s": spent,
            "versions": versions(older(s.version)),
        }
        (self.folder / "recording.json").write_text(json.dumps(content, indent=1) + "\n")
        return content


def check_faults(path: Path) -> None:
    """A RuntimeError when an app's sessions mostly failed: such flows are not what the app does."""
    sessions: dict[str, list[str | None]] = {}
    for line in path.read_text().splitlines():
        content = json.loads(line)
        sessions.setdefault(content["app"], []).append(content["fault"])
    for app, faults in sessions.items():
        found = [fault for fault in faults if fault is not None]
        if len(found) > max(MAX_FAULTS * len(faults), 2):
            raise RuntimeError(
                f"{len(found)} of {len(faults)} sessions of {app} failed: {found[0]}"
            )


def shorten(capture: Path, n_payload: int) -> None:
    """Keep the first packets of each flow of a capture, in the order of their times."""
    link, packets = pcap.read(capture)
    kept = [p for head in pcap.flow_heads(packets, n_payload).values() for p in head]
    kept.sort(key=lambda p: p.time_ns)
    short = capture.with_suffix(".short")
    with short.open("wb") as sink:
        pcap.write(sink, link, kept)
    short.rename(capture)


def close(crew: subprocess.Popen[bytes]) -> None:
    """End a crew's input, which asks it to stop."""
    if crew.stdin is not None and not crew.stdin.closed:
        crew.stdin.close()


def ended(crew: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended; it is left to be waited for, and its times to be read."""
    how = os.WEXITED | os.WNOWAIT | os.WNOHANG
    return crew.returncode is not None or os.waitid(os.P_PID, crew.pid, how) is not None


def older(version: str) -> Path:
    """The folder of a set of client libraries, put before those of the environment."""
    return sandbox.lab_python().parent.parent / version


def versions(clients: Path) -> dict[str, str]:
    """What the servers and libraries call themselves; ``clients`` holds some of the clients'."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    for distribution in importlib.metadata.distributions(path=[str(clients)]):
        if distribution.name in LIBRARIES:
            found[distribution.name] = distribution.version
    for package in PACKAGES:
        command = ["dpkg-query", "-W", "-f=${Version}", package]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            found[package] = re.sub(r"^\d+:", "", asked.stdout)
    return found
