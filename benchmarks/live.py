"""Measures live capture over a veth pair: packets without loss, decision delay, and a long run.

    sudo .venv/bin/python benchmarks/live.py throughput CAPTURES... --peers-python PYTHON
    sudo .venv/bin/python benchmarks/live.py cost CAPTURES... --peers-python PYTHON --start 15000
    .venv/bin/python benchmarks/live.py replay CAPTURES... --beside PYTHON
    sudo .venv/bin/python benchmarks/live.py soak CAPTURES... --seconds 1800 --flows 1000000

Each program reads one end of the pair while ``live_traffic.py`` sends into the other, in a network namespace of
its own. A rate is held for some seconds and passes when the program counted every packet that was sent; rates
go up by a factor until one fails twice. Peers: ndpiReader from the path, nfstream of PYTHON; and a receiver
that only counts, once with our ring, once with none. Needs root, ip and unshare. ``replay`` needs none of it:
processor time of ``live --replay --speed max`` with evidence on a file of some passes, in turn with that of
other checkouts' interpreters.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from live_traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
METRICS = 9109
NAMESPACE = """
set -e
ip link set lo up
ip link add left type veth peer name right
sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || true
ip link set left up
ip link set right up
exec "$@"
"""
NFSTREAM = """
from nfstream import NFStreamer
def main():
    print("ready", flush=True)
    for flow in NFStreamer(source="right", n_dissections=20, idle_timeout=90, active_timeout=10**6,
                           statistical_analysis=False, performance_report=1):
        pass
if __name__ == "__main__":
    main()
"""
COUNTER = """
import signal, sys
from apptell.capture.live import LiveCapture
going = [True]
signal.signal(signal.SIGINT, lambda *_: going.clear())
with LiveCapture("right") as capture:
    print("ready", flush=True)
    while capture.read(0.1) is not None or going:
        pass
    print(capture.stats.packets, flush=True)
"""
REPLAY = """
import sys, threading, time
from apptell.catalogue import Catalogue
from apptell.models import load_model
from apptell.service import LiveOptions, LivePipeline, ReplaySource, open_outputs
from apptell.service.warm_up import warm_up
from apptell.verdicts import Evidence
class Blocks(ReplaySource):
    def batches(self):
        size = int(sys.argv[3])
        for batch in super().batches():
            for at in range(0, 0 if batch is None else len(batch), size or len(batch) or 1):
                yield batch.slice(at, at + size) if size else batch
model, evidence = load_model(), Evidence(Catalogue.load())
options = LiveOptions(evidence=evidence)
warm_up(options.flows, model, evidence)
outputs = open_outputs([sys.argv[2]], is_lossless=True) if sys.argv[2] else []
begin = time.process_time()
LivePipeline([Blocks(sys.argv[1])], model, outputs, options).run(threading.Event())
print(time.process_time() - begin)
"""


@dataclass
class Program:
    """A program that reads the interface and reports the number of packets it saw."""

    name: str
    command: list[str]
    ready: Callable[[], bool]
    packets: Callable[[str], int]
    """Of all that it printed."""
    settle_s: float = 1.0
    source: str | None = None
    """Another checkout's ``src``; None for the one of this interpreter."""


def run(
    program: Program, traffic: list[str], rate: float, seconds: float, out: Path
) -> dict[str, Any]:
    """One rate held for some seconds: what was sent, what was seen, processor time of the program."""
    with out.open("w") as printed:
        there = (
            os.environ if program.source is None else {**os.environ, "PYTHONPATH": program.source}
        )
        process = subprocess.Popen(
            program.command, stdout=printed, stderr=subprocess.STDOUT, env=there
        )
    try:
        until = time.monotonic() + 90
        while not (program.ready() or "ready" in out.read_text()):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{program.name}: {out.read_text()}")
            time.sleep(0.1)
        time.sleep(program.settle_s)
        before = _cpu_s(process.pid)
        sent = send(traffic, rate, max(int(rate * seconds), 1000), 1.5 * seconds)
        time.sleep(3.0)
        used = _cpu_s(process.pid) - before
        delays = _metrics() if program.name.startswith("apptell") else {}
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    text = out.read_text()
    return {"sent": sent["sent"], "rate": sent["rate"], "seen": program.packets(text), "cpu_s": used,
            "said": text.strip().splitlines()[-1:], "metrics": delays}  # fmt: skip


def send(
    traffic: list[str], rate: float, packets: int, limit_s: float = float("inf")
) -> dict[str, Any]:
    """The generator's report of what it sent."""
    command = [sys.executable, str(HERE / "live_traffic.py"), "left", *traffic]
    done = subprocess.run(
        [*command, "--rate", str(rate), "--packets", str(packets), "--limit", str(limit_s)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _cpu_s(pid: int) -> float:
    """Processor time of a process and its children so far, s."""
    total = 0.0
    for one in (pid, *_children(pid)):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [child for one in map(int, found) for child in (one, *_children(one))]


def _metrics() -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def delay_quantile(metrics: dict[str, float], share: float) -> float:
    """The upper bound, s, of the bucket in which a share of the decision delays lies."""
    bounds = sorted(
        (float(match[1].replace("+Inf", "inf")), count)
        for name, count in metrics.items()
        if (match := re.match(r'apptell_decision_delay_seconds_bucket\{le="(.+)"\}', name))
    )
    total = bounds[-1][1]
    return next((bound for bound, count in bounds if count >= share * total), float("inf"))


def programs(options: argparse.Namespace) -> list[Program]:
    """What is compared."""
    apptell = [sys.executable, "-m", "apptell.cli"]
    live = [*apptell, "live", "-i", "right", "--metrics", str(METRICS), "--out", "jsonl:/dev/null"]

    def is_ready() -> bool:
        try:
            return bool(_metrics()["apptell_ready"])
        except OSError:
            return False

    def first_number(text: str) -> int:
        return int(re.search(r"([\d,]+) packets", text)[1].replace(",", ""))  # type: ignore[index]

    def last_number(text: str) -> int:
        return int(text.split()[-1])

    def of_ndpi(text: str) -> int:
        return max(map(int, re.findall(r"IP packets:\s+(\d+)", text)), default=0)

    def of_nfstream(text: str) -> int:
        return max(map(int, re.findall(r'"packets_processed": (\d+)', text)), default=0)

    never = lambda: False  # noqa: E731
    found = [Program("counting receiver", [sys.executable, "-c", COUNTER], never, last_number)]
    found += [
        Program(f"apptell live --workers {n}", [*live, "--workers", str(n)], is_ready, first_number)
        for n in options.workers[:1]
    ]
    command = [*live, "--workers", str(options.workers[0])]
    found += [
        Program(f"apptell live of {source}", command, is_ready, first_number, source=source)
        for source in options.source
    ]
    if options.peers_python:
        if shutil.which("ndpiReader"):
            ndpi = ["ndpiReader", "-i", "right"]
            found.append(Program("ndpiReader", ndpi, lambda: True, of_ndpi, 3.0))
        nfstream = [options.peers_python, "-c", NFSTREAM]
        found.append(Program("nfstream", nfstream, never, of_nfstream, 4.0))
    found += [
        Program(f"apptell live --workers {n}", [*live, "--workers", str(n)], is_ready, first_number)
        for n in options.workers[1:]
    ]
    return found


def throughput(options: argparse.Namespace) -> None:
    """The highest rate of each program at which it saw every packet."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    top = max(send(options.captures, 0, 1_000_000)["rate"] for _ in range(3))
    print(f"generator alone: {top:,} packets/s", flush=True)
    for program in programs(options):
        rate, best, failures = options.start, None, 0
        while failures < 2 or (best is None and rate > 1000):
            if failures == 2:
                rate, failures = rate / options.step, 0
            result = run(program, options.captures, rate, options.hold, out / "said.txt")
            is_whole = result["seen"] >= result["sent"] and result["rate"] >= 0.95 * rate
            print(f"{program.name}: {result}", file=sys.stderr, flush=True)
            if is_whole:
                best, failures, rate = result, 0, rate * options.step
            elif result["seen"] >= result["sent"] and result["rate"] < 0.95 * rate:
                best = result  # the generator's own limit
                break
            else:
                failures += 1
        line = "none"
        if best is not None:
            cost_us = best["cpu_s"] / best["sent"] * 1e6
            line = f"{best['rate']:,} packets/s, {cost_us:.2f} us of processor time a packet"
        print(f"{program.name}: {line}", flush=True)
        if best and program.name.startswith("apptell"):
            half = run(program, options.captures, best["rate"] / 2, options.hold, out / "said.txt")
            metrics = half["metrics"]
            print(
                f"  at {half['rate']:,} packets/s: delay median <= {delay_quantile(metrics, 0.5)} s, "
                f"p99 <= {delay_quantile(metrics, 0.99)} s; {half['said']}",
                flush=True,
            )


_SOAK = (
    "RSS MB",
    "anonymous MB",
    "packets",
    "flows ended",
    "verdicts",
    "overloaded",
    "drops",
    "evicted",
    "CPU s",
)


def _state(pid: int, metrics: dict[str, float]) -> list[float]:
    """The figures of one minute of a soak, as ``_SOAK`` names them."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory = [int(status.split(f"{name}:")[1].split()[0]) / 1024 for name in ("VmRSS", "RssAnon")]
    verdicts = sum(n for name, n in metrics.items() if name.startswith("apptell_verdicts_total"))
    names = (
        ("packets_total", "flows_total"),
        ("flows_overloaded_total", "kernel_drops_total", "flows_evicted_total"),
    )
    before, after = ([metrics[f"apptell_{name}"] for name in some] for some in names)
    return [*memory, *before, verdicts, *after, _cpu_s(pid)]


def cost(options: argparse.Namespace) -> None:
    """Each program's cost per packet at one rate, which is more reliable than rates on a busy machine."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for program in programs(options):
        result = run(program, options.captures, options.start, options.hold, out / "said.txt")
        cost_us = result["cpu_s"] / result["sent"] * 1e6
        print(
            f"{program.name}: {result['rate']:,} packets/s, {result['sent']:,} sent, {result['seen']:,} seen, "
            f"{cost_us:.2f} us of processor time a packet",
            flush=True,
        )
        if result["metrics"]:
            bounds = [delay_quantile(result["metrics"], share) for share in (0.5, 0.9, 0.99)]
            print(f"  delay <= {bounds} s for 50, 90, 99 %; {result['said']}", flush=True)


def replay(options: argparse.Namespace) -> None:
    """Processor time of a file replayed as fast as it goes, without an output and with JSON lines."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    traffic, path = Traffic(options.captures), out / "replay.pcap"
    traffic.write(path, options.passes)
    packets, flows = traffic.n * options.passes, traffic.flows * options.passes
    print(f"{packets:,} packets, {flows:,} 5-tuples", flush=True)
    pythons = [sys.executable, *options.beside]
    cases = [("", block) for block in options.blocks] + [("jsonl:/dev/null", 0)]
    for output, block in cases:
        found: dict[str, list[float]] = {python: [] for python in pythons}
        for _ in range(options.repeats):
            for python in pythons:
                command = [python, "-c", REPLAY, str(path), output, str(block)]
                said = subprocess.run(command, check=True, capture_output=True, text=True)
                found[python].append(float(said.stdout))
        for python, seconds in found.items():
            used_s = statistics.median(seconds)
            where = f"{output or 'no output'}, blocks of {block or 'the file'}: {python}"
            print(
                f"{where}: {used_s / flows * 1e6:.1f} us of processor time a 5-tuple, "
                f"{used_s / packets * 1e6:.2f} a packet, {packets / used_s:,.0f} packets/s",
                flush=True,
            )


def soak(options: argparse.Namespace) -> None:
    """Memory and counters of a sensor, once a minute, while flows come and go."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "apptell.cli", "live", "-i", "right", "--metrics", str(METRICS),
        "--out", "jsonl:/dev/null", "--out", f"parquet:{out / 'parquet'}?seconds=60",
    ]  # fmt: skip
    one = send(options.captures, 0, 1000)
    packets = options.flows * one["packets_a_pass"] // one["flows_a_pass"]
    with (out / "said.txt").open("w") as said:
        sensor = subprocess.Popen(command, stderr=said)
    try:
        while True:
            try:
                if _metrics()["apptell_ready"]:
                    break
            except OSError:
                time.sleep(0.2)
        generator = [sys.executable, str(HERE / "live_traffic.py"), "left", *options.captures]
        rate = packets / options.seconds
        sending = subprocess.Popen([*generator, "--rate", str(rate), "--packets", str(packets)])
        print(" ".join(f"{head:>12}" for head in ("minute", *_SOAK)), flush=True)
        begin, minute = time.monotonic(), 0
        while True:
            row = (minute, *_state(sensor.pid, _metrics()))
            print(" ".join(f"{value:12,.0f}" for value in row), flush=True)
            if sending.poll() is not None:
                break
            minute += 1
            time.sleep(max(begin + 60 * minute - time.monotonic(), 0))
        sensor.send_signal(signal.SIGTERM)
        sensor.wait(30)
    finally:
        sensor.kill()
    print((out / "said.txt").read_text().splitlines()[-1])


def main() -> None:
    """Runs a part in its own namespace."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["throughput", "cost", "replay", "soak"])
    parser.add_argument("captures", nargs="+")
    parser.add_argument("-o", "--out", default="out/live", help="where programs write")
    parser.add_argument("--peers-python", help="an interpreter that has nfstream")
    parser.add_argument("--source", nargs="+", default=[], help="src folders of other checkouts")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--start", type=float, default=10_000, help="first rate, packets/s")
    parser.add_argument("--step", type=float, default=1.3, help="factor from rate to rate")
    parser.add_argument("--hold", type=float, default=5.0, help="seconds a rate is held")
    parser.add_argument("--seconds", type=float, default=1800.0, help="of the soak")
    parser.add_argument("--flows", type=int, default=1_000_000, help="of the soak")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--passes", type=int, default=10, help="of the replayed file")
    parser.add_argument("--beside", nargs="+", default=[], help="interpreters of other checkouts")
    parser.add_argument("--repeats", type=int, default=5, help="of a replay")
    parser.add_argument(
        "--blocks", type=int, nargs="+", default=[0, 100], help="packets; 0: the file's"
    )
    options = parser.parse_args()
    if options.part == "replay":
        replay(options)
        return
    if not options.inside:
        again = [sys.executable, __file__, *sys.argv[1:], "--inside"]
        raise SystemExit(subprocess.call(["unshare", "-n", "bash", "-c", NAMESPACE, "-", *again]))
    {"throughput": throughput, "cost": cost, "soak": soak}[options.part](options)


if __name__ == "__main__":
    main()
