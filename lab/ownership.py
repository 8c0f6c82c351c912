"""The device's socket tables in; which user id owned which connection and when, out.

Every app has a user id of its own, as on Android. The kernel's tables name the owner of each
socket; they are read
about fifty times a second, so that no connection that exchanges data over the link is missed.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

TCP_TIME_WAIT = "06"


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
    inode: int = 0


def _address(text: str) -> tuple[str, int]:
    raw, port = text.split(":")
    words = [int(raw[i : i + 8], 16) for i in range(0, len(raw), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed), int(port, 16)


def parse_table(text: str) -> list[tuple[str, int, str, int, int, int]]:
    """Rows (local, port, remote, port, uid, inode) of a ``/proc/net/tcp`` table.

    Sockets without an owner left out.
    """
    rows = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] == TCP_TIME_WAIT or fields[9] == "0":
            continue
        local, remote = _address(fields[1]), _address(fields[2])
        if remote[1]:
            rows.append((*local, *remote, int(fields[7]), int(fields[9])))
    return rows


class Watch(threading.Thread):
    """Polls the tables of one namespace until ``stop``."""

    def __init__(self, holder: int, interval_s: float = 0.02) -> None:
        super().__init__(daemon=True)
        self.tables = [Path(f"/proc/{holder}/net/{name}") for name in ("tcp", "tcp6")]
        self.interval_s = interval_s
        self.owned: dict[tuple[str, int, str, int, int], Owned] = {}
        self.counts: dict[int, int] = {}
        self._over = threading.Event()

    def run(self) -> None:
        """Read, remember, sleep."""
        while not self._over.wait(self.interval_s):
            self.look()

    def look(self) -> None:
        """One reading of the tables."""
        now = time.time_ns()
        for table in self.tables:
            for local, lport, remote, rport, uid, inode in parse_table(table.read_text()):
                if remote.startswith("127.") or remote == "::1":
                    continue
                key = (local, lport, remote, rport, inode)
                if key not in self.owned:
                    self.owned[key] = Owned(6, local, lport, remote, rport, uid, now, now, inode)
                    self.counts[uid] = self.counts.get(uid, 0) + 1
                self.owned[key].last_ns = now

    def stop(self) -> list[Owned]:
        """End the thread; every connection seen, in order of its first sight."""
        self._over.set()
        self.join()
        return sorted(self.owned.values(), key=lambda o: o.first_ns)
