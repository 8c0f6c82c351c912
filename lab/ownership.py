"""Determines which user owned which connection, from the kernel's log of sockets.

Every app has its own user id, as on Android, and netfilter hands each opening and closing packet to user
space with the user id of the socket that sent it. That is how the paper's Network
Log works too: no connection is too short to be seen.
"""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from lab import pcap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.world import World

GROUP = 5
NFULA_PAYLOAD, NFULA_UID = 9, 11
RULES = (
    ("OUTPUT", "SYN,ACK", "SYN"),
    ("OUTPUT", "FIN", "FIN"),
    ("OUTPUT", "RST", "RST"),
    ("INPUT", "FIN", "FIN"),
    ("INPUT", "RST", "RST"),
)


@dataclass
class Owned:
    """One connection of the device and its owner."""

    protocol: int
    local: str
    local_port: int
    remote: str
    remote_port: int
    uid: int
    first_ns: int
    last_ns: int


def parse_log(record: bytes) -> tuple[int, bytes]:
    """User id (−1 when the kernel names none) and IP packet of one NFLOG record."""
    uid, packet, at = -1, b"", 4
    while at + 4 <= len(record):
        length = int.from_bytes(record[at : at + 2], "little")
        kind = int.from_bytes(record[at + 2 : at + 4], "little") & 0x7FFF
        if length < 4:
            break
        value = record[at + 4 : at + length]
        if kind == NFULA_UID:
            uid = int.from_bytes(value, "big")
        elif kind == NFULA_PAYLOAD:
            packet = value
        at += (length + 3) & ~3
    return uid, packet


def records(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Time in ns and bytes of each record of a little-endian microsecond pcap stream."""
    if len(stream.read(24)) < 24:
        return
    while len(head := stream.read(16)) == 16:
        seconds, micros, length = (int.from_bytes(head[i : i + 4], "little") for i in (0, 4, 8))
        yield seconds * 1_000_000_000 + micros * 1000, stream.read(length)


class Ledger:
    """Connections in the order of their opening packets."""

    def __init__(self) -> None:
        self.owned: list[Owned] = []
        self.counts: dict[int, int] = {}
        self._last: dict[pcap.Key, tuple[int, Owned]] = {}

    def note(self, time_ns: int, record: bytes) -> None:
        """One logged packet: a first SYN opens a connection, anything else moves its end."""
        uid, data = parse_log(record)
        p = pcap.decode(time_ns, data, len(data), pcap.RAW)
        if p is None or p.source.startswith("127.") or p.source == "::1":
            return
        sequence, owned = self._last.get(p.key) or self._last.get(p.back) or (None, None)
        if p.flags & (pcap.SYN | pcap.ACK) == pcap.SYN and sequence != p.sequence:
            owned = Owned(6, *p.key, uid, time_ns, time_ns)
            self._last[p.key] = p.sequence, owned
            self.owned.append(owned)
            self.counts[uid] = self.counts.get(uid, 0) + 1
        elif owned is not None:
            owned.last_ns = time_ns


class Watch(threading.Thread):
    """Fills a ledger from the device's log until ``stop``."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self.ledger = Ledger()
        for chain, mask, flags in RULES:
            tables = "ip6tables" if world.network.version == 6 else "iptables"
            rule = f"{tables} -A {chain} -p tcp --tcp-flags {mask} {flags} -j NFLOG"
            world.run("device", [*rule.split(), "--nflog-group", str(GROUP)])
        command = ["tcpdump", "-i", f"nflog:{GROUP}", "-U", "-B", "8192", "-w", "-", "-Z", "root"]
        self._log = world.spawn("device", command, log="nflog", stdout=subprocess.PIPE)

    def run(self) -> None:
        """Read the log to its end."""
        if self._log.stdout is not None:
            for time_ns, record in records(self._log.stdout):
                self.ledger.note(time_ns, record)

    def stop(self) -> list[Owned]:
        """End the log; every connection of the device."""
        self._log.terminate()
        self._log.wait()
        self.join()
        return self.ledger.owned
