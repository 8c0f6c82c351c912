"""Measures what open pages cost the path of packets: none, 100 of the same view, and 100 of different views.

    .venv/bin/python -m benchmarks.open_pages --rate 20000 --pages 100 --json out.json

A capture with the given rate of packets is made from the embedded sample, with new addresses in each pass, and
is replayed into the pipeline of ``apptell serve`` in this process. Another process opens the event streams of
the page Now and reads them. The phases take turns in one run. For each there are the packets that were read and
how far the replay is behind its clock, processor time of each thread, decision delays, and events received.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import apptell
from apptell.capture import open_capture
from apptell.flows import FlowOptions
from apptell.packets import Decoder, Status
from apptell.service import LiveOptions, ReplaySource
from apptell.service.warm_up import warm_up
from apptell.verdicts import choose_deciders
from apptell.web.access_token import allowed_hosts
from apptell.web.application import build_application
from apptell.web.guard import Sessions
from apptell.web.now_feed import NowFeed, open_feed, quantile
from apptell.web.serving import WebServer, listen
from apptell.web.site import Site

SAMPLE = Path(apptell.__file__).parent / "samples" / "named" / "named.pcap.xz"
SECOND = 1_000_000_000
TICK = os.sysconf("SC_CLK_TCK")
SETTLE_S = 2.0
EVEN_S = 20.0
NAMES = {"apptell_0": "decisions", "apptell_1": "packets", "AnyIO worker thread": "web"}
PHASES = ("no pages", "same view", "different views")


def make_capture(path: Path, rate: int, seconds: float) -> int:
    """Writes a capture of packets in equal distances; returns the number of packets."""
    frames: list[bytes] = []
    decode = Decoder()
    with open_capture(SAMPLE) as reader:
        for batch in reader:
            headers = decode(batch)
            for row in np.flatnonzero(headers.rows["status"] == Status.OK).tolist():
                one = headers.rows[row]
                first = int(one["ip_at"])
                if headers.buffer[first] >> 4 == 4:
                    data = headers.buffer[first : first + int(one["ip_bytes"])].tobytes()
                    frames.append(data)
    heads = np.dtype([("s", "<u4"), ("ns", "<u4"), ("captured", "<u4"), ("wire", "<u4")])
    size = np.array([len(frame) for frame in frames])
    begin = np.concatenate([[0], np.cumsum(size + heads.itemsize)])
    template = np.zeros(begin[-1], np.uint8)
    for at, frame in zip(begin[:-1], frames, strict=True):
        template[at + 16 : at + 16 + len(frame)] = np.frombuffer(frame, np.uint8)
    # the higher port number is the client's: its upper byte makes the flows of each pass new ones
    starts = begin[:-1] + 16 + (template[begin[:-1] + 16] & 15).astype(np.int64) * 4
    pair = template[starts[:, None] + np.arange(4)].astype(np.int64)
    client_first = pair[:, 0] * 256 + pair[:, 1] > pair[:, 2] * 256 + pair[:, 3]
    ports = starts + np.where(client_first, 0, 2)
    at_head = begin[:-1, None] + np.arange(16)
    n = 0
    with path.open("wb") as stream:
        stream.write(np.array([0xA1B23C4D, 0x00040002, 0, 0, 262_144, 101], "<u4").tobytes())
        while n < rate * seconds:
            own = template.copy()
            times = 1_790_000_000 * SECOND + (np.arange(n, n + len(frames)) * SECOND) // rate
            head = np.zeros(len(frames), heads)
            head["s"], head["ns"] = times // SECOND, times % SECOND
            head["captured"] = head["wire"] = size
            own[at_head] = head.view(np.uint8).reshape(-1, 16)
            shift = n // len(frames) + 1
            for byte in (14, 18):  # the third byte of both addresses: 64 networks
                own[begin[:-1] + 16 + byte] += np.uint8(shift % 64)
            own[ports] += np.uint8(shift // 64 % 256)
            stream.write(own.tobytes())
            n += len(frames)
    return n


READER = """
import json, selectors, socket, sys, time
port, pages, seconds, views = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])
poll, events, n_bytes = selectors.DefaultSelector(), 0, 0
for i in range(pages):
    one = socket.create_connection(("127.0.0.1", port))
    query = f"?client={views[i % len(views)]}" if views else ""
    one.sendall(f"GET /api/now/stream{query} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".encode())
    one.setblocking(False)
    poll.register(one, selectors.EVENT_READ)
until = time.monotonic() + seconds
while time.monotonic() < until:
    for key, _ in poll.select(0.2):
        data = key.fileobj.recv(1 << 20)
        events += data.count(b"data: ")
        n_bytes += len(data)
print(json.dumps({"events": events, "bytes": n_bytes}))
"""


def cpu_s() -> dict[str, float]:
    """Processor seconds of each thread of this process, by its name."""
    found: dict[str, float] = {}
    for thread in threading.enumerate():
        try:
            stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        name = NAMES.get(thread.name, thread.name)
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / TICK
    return found


def phase(feed: NowFeed, port: int, pages: int, seconds: float, views: list[str]) -> dict[str, Any]:
    """One phase: the streams are open, and settled, while it is measured."""
    reader = None
    if pages:
        command = [sys.executable, "-c", READER, str(port), str(pages), str(seconds + SETTLE_S)]
        reader = subprocess.Popen([*command, json.dumps(views)], stdout=subprocess.PIPE, text=True)
    time.sleep(SETTLE_S)
    metrics = feed.metrics
    metrics.delay.counts[:] = 0
    begin_s, before, cpu = time.monotonic(), packets_of(feed), cpu_s()
    time.sleep(seconds)
    passed, packets, after = time.monotonic() - begin_s, packets_of(feed) - before, cpu_s()
    found: dict[str, Any] = {
        "packets_per_s": round(packets / passed),
        "us_per_packet": round((after["packets"] - cpu["packets"]) / max(packets, 1) * 1e6, 2),
        "delay_p50_s": quantile(metrics.delay, 0.5),
        "delay_p99_s": quantile(metrics.delay, 0.99),
        "cpu": {
            name: round((used - cpu.get(name, 0.0)) / passed, 4)
            for name, used in after.items()
            if used - cpu.get(name, 0.0) > 0
        },
    }
    if reader is not None:
        found |= json.loads(reader.communicate()[0])
    return found


def packets_of(feed: NowFeed) -> int:
    """Packets read so far; the metrics are behind by up to a second."""
    return sum(path.packets for path in feed._pipeline._paths)  # noqa: SLF001


def wait_until_even(feed: NowFeed, rate: int) -> None:
    """Waits until the replay reads at its rate: everything is compiled, and nothing is behind."""
    for _ in range(int(EVEN_S / SETTLE_S)):
        before = packets_of(feed)
        time.sleep(SETTLE_S)
        if abs((packets_of(feed) - before) / SETTLE_S / rate - 1) < 0.1:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    length = given.rounds * len(PHASES) * (given.seconds + SETTLE_S + 1.0) + EVEN_S + 5.0
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "made.pcap"
        made = make_capture(capture, given.rate, length)
        print(f"{made:,} packets made", flush=True)
        deciders = choose_deciders(None, None, (), None, None)
        flows = FlowOptions(
            groups=("core", "segments", "names"), transports=(6, 17), lists_decided=True
        )
        warm_up(flows, None, deciders.evidence)
        options = LiveOptions(flows, evidence=deciders.evidence)
        feed = open_feed("made", [ReplaySource(capture, 1.0)], None, options, None, print)
        site = Site(Sessions(None), feed=feed)
        listening = listen(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = WebServer(build_application(site, allowed_hosts("127.0.0.1", [])))
        web = threading.Thread(target=server.serve_socket, args=(listening,), name="web")
        web.start()
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in PHASES}
        with feed:
            wait_until_even(feed, given.rate)
            sums = feed._board._sums  # noqa: SLF001
            clients = [name for name in sums._keys["client"] if name]  # noqa: SLF001
            views = clients[: given.pages]
            print(f"{len(clients):,} clients, {len(sums):,} combinations", flush=True)
            for _ in range(given.rounds):
                for name in PHASES:
                    pages = 0 if name == "no pages" else given.pages
                    own = views if name == "different views" else []
                    found = phase(feed, port, pages, given.seconds, own)
                    rounds[name].append(found)
                    print(f"{name}: {found}", flush=True)
            site.stopping.set()
            server.should_exit = True
            web.join()
    report = {
        "rate": given.rate, "pages": given.pages, "seconds": given.seconds, "rounds": given.rounds,
        "load": os.getloadavg()[0], "cores": os.cpu_count(),
        "phases": {name: summary(found) for name, found in rounds.items()},
    }  # fmt: skip
    print(json.dumps(report["phases"], indent=1))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the rounds of a phase."""

    def middle(values: list[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return round(statistics.median(there), 4) if there else None

    names = sorted({name for each in rounds for name in each["cpu"]})
    return {
        "packets_per_s": middle([each["packets_per_s"] for each in rounds]),
        "us_per_packet": middle([each["us_per_packet"] for each in rounds]),
        "us_per_packet_least": min(each["us_per_packet"] for each in rounds),
        "delay_p50_s": middle([each["delay_p50_s"] for each in rounds]),
        "delay_p99_s": middle([each["delay_p99_s"] for each in rounds]),
        "cpu": {name: middle([each["cpu"].get(name, 0.0) for each in rounds]) for name in names},
        "events": middle([float(each.get("events", 0)) for each in rounds]),
    }


if __name__ == "__main__":
    main()
