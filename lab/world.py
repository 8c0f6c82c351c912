"""A network's settings in; four joined network namespaces out.

In a line: device ──veth── radio ──tun ~link~ tun── gateway ──veth── servers.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from lab import sandbox

if TYPE_CHECKING:
    from pathlib import Path

PLACES = ("device", "radio", "gateway", "servers")


@dataclass(frozen=True)
class Network:
    """What the way between the device and the servers does to packets."""

    name: str
    delay_ms: float
    jitter_ms: float
    loss: float
    reorder: float
    nat: bool
    tap: str
    """``gateway`` (packets as on the wire) or ``device`` (with the device's segmentation offload.

    `gateway`` (packets as on the wire) or ``device`` (with the device's segmentation offload).
    """
    subnet: int
    """Second and third byte of the device's addresses, so that networks do not share them."""
    rate_mbit: int = 50


@dataclass
class World:
    """The running namespaces and everything started in them."""

    scratch: Path
    network: Network
    mtu: int
    holders: dict[str, int] = field(default_factory=dict)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def device_address(self) -> str:
        return f"10.{self.network.subnet >> 8}.{self.network.subnet & 255}.2"

    def build(self) -> None:
        """Make the namespaces, the interfaces, the routes and the link."""
        for place in PLACES:
            holder = subprocess.Popen(
                ["unshare", "-n", "sleep", "infinity"], preexec_fn=partial(sandbox.become, None, 0)
            )
            self.children.append(holder)
            self.holders[place] = holder.pid
        time.sleep(0.2)
        outer = f"10.{self.network.subnet >> 8}.{self.network.subnet & 255}"
        self._veth("device", "wlan0", f"{outer}.2/24", "radio", "ap0", f"{outer}.1/24")
        self._veth("gateway", "wan0", "192.0.2.1/24", "servers", "eth0", "192.0.2.2/24")
        self.ip("device", f"link set wlan0 mtu {self.mtu}")
        self.ip("device", f"route add default via {outer}.1")
        self.ip("servers", "route add default via 192.0.2.1")
        for place, name, own, other in (("radio", "up0", 1, 2), ("gateway", "cell0", 2, 1)):
            self.ip(place, f"tuntap add dev {name} mode tun")
            self.ip(place, f"addr add 198.18.0.{own} peer 198.18.0.{other} dev {name}")
            self.ip(place, f"link set {name} up mtu {self.mtu} txqueuelen 2000")
            self.run(place, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        self.ip("radio", "route add default via 198.18.0.2")
        self.ip("gateway", f"route add {outer}.0/24 via 198.18.0.1")
        self.run("servers", ["sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0"])
        if self.network.nat:
            self.run(
                "gateway",
                ["iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE"],
            )
        settings = {
            k: v
            for k, v in asdict(self.network).items()
            if k in ("delay_ms", "jitter_ms", "loss", "reorder")
        }
        python = str(sandbox.lab_python())
        ends = [f"{self.holders['radio']}:up0", f"{self.holders['gateway']}:cell0"]
        self.spawn(None, [python, "-m", "lab.link", json.dumps(settings), *ends], log="link")
        self.run(
            "radio",
            [
                "tc",
                "qdisc",
                "add",
                "dev",
                "up0",
                "root",
                "tbf",
                "rate",
                f"{self.network.rate_mbit}mbit",
                "burst",
                "64k",
                "latency",
                "200ms",
            ],
        )

    def _veth(
        self, near: str, near_name: str, near_ip: str, far: str, far_name: str, far_ip: str
    ) -> None:
        names = ["name", near_name, "netns", str(self.holders[near]), "type", "veth", "peer"]
        subprocess.run(
            ["ip", "link", "add", *names, "name", far_name, "netns", str(self.holders[far])],
            check=True,
        )
        for place, name, address in ((near, near_name, near_ip), (far, far_name, far_ip)):
            self.ip(place, "link set lo up")
            self.ip(place, f"addr add {address} dev {name}")
            self.ip(place, f"link set {name} up")

    def ip(self, place: str, arguments: str) -> None:
        """One ``ip`` command in one namespace."""
        self.run(place, ["ip", *arguments.split()])

    def run(
        self, place: str, command: list[str], **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in one namespace and wait for it."""
        return subprocess.run(
            command,
            check=True,
            preexec_fn=partial(sandbox.become, self.holders[place], 0),
            **options,
        )

    def spawn(
        self,
        place: str | None,
        command: list[str],
        *,
        log: str,
        uid: int = 0,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a process that lives until ``stop``; its output goes to ``<log>.log``."""
        holder = self.holders[place] if place else None
        with (self.scratch / f"{log}.log").open("ab") as output:
            streams: dict[str, Any] = {
                "stdin": subprocess.DEVNULL,
                "stdout": output,
                "stderr": output,
                **options,
            }
            child = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                preexec_fn=partial(sandbox.become, holder, uid),
                **streams,
            )
        self.children.append(child)
        return child

    def stop(self) -> None:
        """End every process of this world; the interfaces go with the namespaces."""
        for child in reversed(self.children):
            if child.poll() is None:
                child.kill()
        for child in self.children:
            child.wait()
        self.children.clear()
