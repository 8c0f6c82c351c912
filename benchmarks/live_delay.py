"""Measures what the delay of live verdicts consists of, from the deciding packet to the written record.

    sudo .venv/bin/python benchmarks/live_delay.py CAPTURES... --start 20000 --hold 6

``apptell live`` reads one end of a pair of virtual Ethernet interfaces while ``live_traffic.py`` sends into the
other, as in ``live.py cost``. It runs with clocks around its stages. Prints as JSON, in ms, for each part of
the delay, its median, its 99th percentile, and its mean in the slowest 2 % of the flows.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from live import HERE, METRICS, NAMESPACE, _metrics, send

SLOWEST = 0.98


class Clocks:
    """Times, ns since 1970 UTC, of each batch of packets and of each flow that was decided while open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        """When reading began, when it ended, and when the packets had been worked on."""
        self.flows: list[tuple[int, ...]] = []
        """Deciding packet, number of the batch, hand-over, beginning and end of identification."""
        self.written: dict[int, int] = {}
        """When the record of a verdict was written, by the time of the deciding packet."""
        self._handed: dict[int, tuple[int, int]] = {}
        self._gathered = 0

    def install(self) -> None:
        """Puts clocks around the stages of ``live``."""
        from apptell.capture.live import LiveCapture
        from apptell.service.live_pipeline import LivePipeline
        from apptell.service.outputs.file import LineFile
        from apptell.service.packet_path import PacketPath
        from apptell.service.work import WorkQueue

        for kind, name, clocked in (
            (LiveCapture, "read", self._read),
            (PacketPath, "_add", self._add),
            (WorkQueue, "put", self._put),
            (WorkQueue, "gather", self._gather),
            (LivePipeline, "_time", self._time),
            (LineFile, "write", self._write),
        ):
            setattr(kind, name, _around(getattr(kind, name), clocked))

    def _read(self, call: Any, _: Any) -> Any:
        begin = time.time_ns()
        packets = call()
        if packets is not None and len(packets):
            self.batches.append([begin, time.time_ns(), 0])
        return packets

    def _add(self, call: Any, _: Any) -> None:
        call()
        self.batches[-1][2] = time.time_ns()

    def _put(self, call: Any, batches: Any) -> None:
        for flows, kind, _ in batches:
            if kind == "decided":
                self._handed[id(flows)] = (len(self.batches) - 1, time.time_ns())
        call()

    def _gather(self, call: Any, *_: Any) -> Any:
        works = call()
        self._gathered = time.time_ns()
        return works

    def _time(self, call: Any, works: Any) -> None:
        end = time.time_ns()
        for work in works:
            if work.kind == "decided":
                batch, handed = self._handed.pop(id(work.flows))
                decided = work.flows.numpy("decided_ns").tolist()
                self.flows += ((at, batch, handed, self._gathered, end) for at in decided)
        call()

    def _write(self, call: Any, records: Any) -> None:
        call()
        if records.values("event")[0] == "verdict":
            now = time.time_ns()
            self.written.update((at, now) for at in records.values("end_time"))

    def parts(self) -> dict[str, list[float]]:
        """Median, 99th percentile, and mean in the slowest flows of each part, ms."""
        flows, batches = np.array(self.flows), np.array(self.batches)
        packet, batch, handed, gathered, decided = flows.T
        begun, read, _ = batches[batch].T
        free = np.concatenate([[0], batches[:-1, 2]])[batch]
        waiting = np.maximum(begun - np.maximum(packet, free), 0)
        found = {
            "the packets before are worked on": np.maximum(free - packet, 0),
            "packets gather": waiting,
            "the kernel hands a block over": read - np.maximum(packet, begun),
            "packets, flows, names, evidence": handed - read,
            "hand-over to the thread of verdicts": gathered - handed,
            "verdicts and records": decided - gathered,
            "all up to here, as the metric has it": decided - packet,
            "the record is written": np.array([self.written[at] for at in packet]) - decided,
        }
        is_slow = decided - packet >= np.quantile(decided - packet, SLOWEST)
        return {
            name: [
                round(float(value) / 1e6, 2)
                for value in (*np.quantile(part, (0.5, 0.99)), part[is_slow].mean())
            ]
            for name, part in found.items()
        }


def _around(function: Any, clocked: Any) -> Any:
    """A method that is called by ``clocked``, which gets the call and the method's arguments."""

    def method(owner: Any, *arguments: Any) -> Any:
        return clocked(lambda: function(owner, *arguments), *arguments)

    return method


def trace(out: Path) -> None:
    """Runs ``apptell live`` with clocks."""
    from apptell.cli import main as run

    clocks = Clocks()
    clocks.install()
    sys.argv = ["apptell", "live", "-i", "right", "--metrics", str(METRICS), "--out"]
    sys.argv.append("jsonl:/dev/null")
    try:
        run()
    finally:
        out.write_text(json.dumps(clocks.parts(), indent=1))


def main() -> None:
    """Sends packets and prints the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", nargs="*")
    parser.add_argument("--start", type=float, default=20_000, help="packets/s")
    parser.add_argument("--hold", type=float, default=6.0, help="seconds")
    parser.add_argument("--out", type=Path, default=Path("out/live_delay.json"))
    parser.add_argument("--trace", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trace:
        trace(options.out)
        return
    if not options.inside:
        again = [sys.executable, __file__, *sys.argv[1:], "--inside"]
        raise SystemExit(subprocess.call(["unshare", "-n", "bash", "-c", NAMESPACE, "-", *again]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "live_delay.py"), "--trace", "--out", str(options.out)]
    sensor = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not _is_ready():
            time.sleep(0.1)
        time.sleep(1.0)
        send(options.captures, options.start, int(options.start * options.hold))
        time.sleep(1.0)
        sensor.send_signal(signal.SIGINT)
        sensor.wait(60)
    finally:
        sensor.kill()
    print(f"load {os.getloadavg()[0]:.1f}", options.out.read_text(), sep="\n")


def _is_ready() -> bool:
    try:
        return bool(_metrics()["apptell_ready"])
    except OSError:
        return False


if __name__ == "__main__":
    main()
