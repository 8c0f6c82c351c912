"""Builds four joined network namespaces for one network.

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
    """``gateway`` (packets as on the wire) or ``device`` (with its segmentation offload)."""
    subnet: int
    """16 bits of the device's addresses, so that networks do not share them."""
    rate_mbit: int = 50
    """Towards the device; half of it away from the device."""
    version: int = 4
    """Version of the Internet Protocol; NAT is used only with 4."""

    def address(self, place: str, number: int) -> str:
        """The address ``number`` on the device's, the link's or the servers' network."""
        if self.version == 6:
            middle = {"device": f"{self.subnet:x}", "link": "fffe", "servers": "2"}[place]
            return f"2001:db8:0:{middle}::{number:x}"
        device = f"10.{self.subnet >> 8}.{self.subnet & 255}"
        return f"{ {'device': device, 'link': '198.18.0', 'servers': '192.0.2'}[place] }.{number}"

    @property
    def prefix(self) -> int:
        """Bits that the addresses of one network share."""
        return 64 if self.version == 6 else 24


@dataclass
class World:
    """The running namespaces and everything started in them."""

    scratch: Path
    network: Network
    mtu: int
    holders: dict[str, int] = field(default_factory=dict)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def build(self) -> None:
        """Make the namespaces, the interfaces, the routes and the link."""
        for place in PLACES:
            holder = subprocess.Popen(
                ["unshare", "-n", "sleep", "infinity"], preexec_fn=partial(sandbox.become, None, 0)
            )
            self.children.append(holder)
            self.holders[place] = holder.pid
        time.sleep(0.2)
        self._veth("device", "wlan0", 2, "radio", "ap0", 1, net="device")
        self._veth("gateway", "wan0", 1, "servers", "eth0", 2, net="servers")
        address, prefix = self.network.address, self.network.prefix
        self.ip("device", f"link set wlan0 mtu {self.mtu}")
        self.ip("device", f"route add default via {address('device', 1)}")
        self.ip("servers", f"route add default via {address('servers', 1)}")
        knob = "ipv6.conf.all.forwarding" if self.network.version == 6 else "ipv4.ip_forward"
        for place, name, own, other in (("radio", "up0", 1, 2), ("gateway", "cell0", 2, 1)):
            self.ip(place, f"tuntap add dev {name} mode tun")
            ends = f"{address('link', own)} peer {address('link', other)}"
            self.ip(place, f"addr add {ends} dev {name}{self._nodad}")
            self.ip(place, f"link set {name} up mtu {self.mtu} txqueuelen 2000")
            self.run(place, ["sysctl", "-qw", f"net.{knob}=1"])
        self.ip("radio", f"-{self.network.version} route add default dev up0")
        self.ip("gateway", f"route add {address('device', 0)}/{prefix} dev cell0")
        self.run("servers", ["sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0"])
        # Linux counts local ports up from a start of each server's own: in a narrow range they mix
        self.run("device", ["sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 46143"])
        if self.network.nat:
            rule = "iptables -t nat -A POSTROUTING -o wan0 -j MASQUERADE"
            self.run("gateway", rule.split())
        settings = {
            k: v
            for k, v in asdict(self.network).items()
            if k in ("delay_ms", "jitter_ms", "loss", "reorder")
        }
        python = str(sandbox.lab_python())
        both_ends = [f"{self.holders['radio']}:up0", f"{self.holders['gateway']}:cell0"]
        self.spawn(None, [python, "-m", "lab.link", json.dumps(settings), *both_ends], log="link")
        rate = self.network.rate_mbit
        for place, name, mbit in (("radio", "up0", rate / 2), ("gateway", "cell0", rate)):
            rule = f"tc qdisc add dev {name} root tbf rate {mbit}mbit burst 64k latency 200ms"
            self.run(place, rule.split())

    @property
    def _nodad(self) -> str:
        return " nodad" if self.network.version == 6 else ""

    def _veth(
        self,
        near: str,
        near_name: str,
        near_n: int,
        far: str,
        far_name: str,
        far_n: int,
        *,
        net: str,
    ) -> None:
        names = ["name", near_name, "netns", str(self.holders[near]), "type", "veth", "peer"]
        subprocess.run(
            ["ip", "link", "add", *names, "name", far_name, "netns", str(self.holders[far])],
            check=True,
        )
        for place, name, number in ((near, near_name, near_n), (far, far_name, far_n)):
            address = f"{self.network.address(net, number)}/{self.network.prefix}"
            self.ip(place, "link set lo up")
            self.ip(place, f"addr add {address} dev {name}{self._nodad}")
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

    def reach(self, address: str, port: int, limit_s: float = 20) -> None:
        """Wait until the device reaches a server over the link; a RuntimeError when it does not."""
        words = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
        command = [str(sandbox.lab_python()), "-c", words, address, str(port)]
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            try:
                self.run("device", command, capture_output=True)
            except subprocess.CalledProcessError:
                time.sleep(0.5)
            else:
                return
        raise RuntimeError(f"the device does not reach {address} port {port} over the link")

    def stop(self) -> None:
        """End every process of this world; the interfaces go with the namespaces."""
        for child in reversed(self.children):
            if child.poll() is None:
                child.kill()
        for child in self.children:
            child.wait()
        self.children.clear()
