"""Models a link: packets of one TUN device arrive at the other delayed, lost or reordered, by a seed.

Run as ``python -m lab.link SETTINGS PID:TUN PID:TUN``, each TUN in the network namespace of its
process.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time

from lab import sandbox

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001


class LinkModel:
    """Decides for each packet of one direction when it arrives; ``None`` means that it is lost.

    Delay is ``delay_ms`` plus a gamma-distributed extra of mean ``jitter_ms``. Packets stay in
    order, as on most access links, except that a share ``reorder`` is held back by up to four more
    milliseconds and let be overtaken.
    """

    def __init__(
        self, delay_ms: float, jitter_ms: float, loss: float, reorder: float, seed: int
    ) -> None:
        self.delay_ms, self.jitter_ms, self.loss, self.reorder = delay_ms, jitter_ms, loss, reorder
        self._random = random.Random(seed)
        self._last_s = 0.0

    def arrival_s(self, now_s: float) -> float | None:
        """When a packet sent at ``now_s`` arrives, in the same clock."""
        if self._random.random() < self.loss:
            return None
        extra_ms = self._random.gammavariate(2.0, self.jitter_ms / 2) if self.jitter_ms else 0.0
        due_s = now_s + (self.delay_ms + extra_ms) / 1e3
        if self._random.random() < self.reorder:
            return max(due_s, self._last_s) + self._random.uniform(0.5, 4.0) / 1e3
        self._last_s = max(due_s, self._last_s)
        return self._last_s


def open_tun(holder: int, name: str) -> int:
    """A descriptor of TUN device ``name`` in the network namespace of process ``holder``."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
    sandbox.libc.setns(there, sandbox.CLONE_NEWNET)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN_NO_PI))
    sandbox.libc.setns(home, sandbox.CLONE_NEWNET)
    os.close(home)
    os.close(there)
    return tun


def carry(tuns: tuple[int, int], models: tuple[LinkModel, LinkModel]) -> None:
    """Carry packets both ways for ever."""
    poll = select.epoll()
    for tun in tuns:
        poll.register(tun, select.EPOLLIN)
    side = {tuns[0]: 0, tuns[1]: 1}
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else -1
        for tun, _ in poll.poll(timeout):
            for _ in range(64):
                try:
                    packet = os.read(tun, 65535)
                except BlockingIOError:
                    break
                due = models[side[tun]].arrival_s(time.monotonic())
                if due is not None:
                    number += 1
                    heapq.heappush(waiting, (due, number, tuns[1 - side[tun]], packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now + 5e-5:
            _, _, tun, packet = heapq.heappop(waiting)
            try:
                os.write(tun, packet)
            except BlockingIOError:
                continue  # a full queue drops, as a router does


def main() -> None:
    """Read the settings and the two ends from the command line."""
    settings = json.loads(sys.argv[1])
    seed = settings.pop("seed", 0)
    ends = [end.split(":") for end in sys.argv[2:4]]
    tuns = tuple(open_tun(int(holder), name) for holder, name in ends)
    carry(tuns, (LinkModel(**settings, seed=seed), LinkModel(**settings, seed=seed + 1)))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
