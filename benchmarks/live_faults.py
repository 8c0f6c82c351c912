"""Tests a running sensor under faults, and prints a table of what became of its records.

    sudo .venv/bin/python benchmarks/live_faults.py [TRIAL...]

Each trial starts ``apptell live`` on one end of a veth pair, in its own network and mount namespace, and
sends flows of known number into the other end. Needs root, ip and unshare; ``broker`` needs confluent-kafka.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow.parquet as pq

from apptell.testing import app_messages, conversation, tcp_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYN: Final = 0x02
METRICS: Final = 9109
APPS: Final = ("zoom", "signal", "skype")
NAMESPACE: Final = """
set -e
mount -t tmpfs none /mnt
ip link set lo up
ip link add left type veth peer name right
sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || true
ip link set left up
ip link set right up
exec "$@"
"""
CLUSTER: Final = """
import sys, confluent_kafka
cluster = confluent_kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "", "log_level": 0})
(broker,) = cluster.list_topics(timeout=20).brokers.values()
print(f"{broker.host}:{broker.port}", flush=True)
sys.stdin.read()
"""


def flows(n: int, network: int) -> list[bytes]:
    """Frames of n whole flows, from addresses of a network that nobody else uses."""
    packets = []
    for i in range(n):
        client = (f"10.{network}.{i // 250}.{1 + i % 250}", 40_000 + i % 20_000)
        says = app_messages(APPS[i % len(APPS)], seed=i)
        packets += conversation(client, ("203.0.113.9", 443), says)
    return [packet[1] for packet in packets]


def send(frames: Iterator[bytes] | list[bytes], pause_s: float = 0.02) -> int:
    """Sends frames into the pair's left end (default: 10,000 a second); returns their number."""
    n = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.bind(("left", 0))
        for frame in frames:
            out.send(frame)
            n += 1
            if n % 200 == 0:
                time.sleep(pause_s)
    return n


class Sensor:
    """A running ``apptell live``; a context manager that ends it by SIGTERM."""

    def __init__(self, folder: Path, *outputs: str, workers: int = 1) -> None:
        self.out = folder / "apps.jsonl"
        words = [sys.executable, "-m", "apptell.cli", "live", "-i", "right"]
        words += ["--workers", str(workers)]
        words += ["--metrics", str(METRICS)]
        for output in (f"jsonl:{self.out}", *outputs):
            words += ["--out", output]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        until = time.monotonic() + 180
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{METRICS}/readyz", timeout=5).close()
                return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise RuntimeError(self.process.communicate()[1])

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=60)

    def metrics(self) -> dict[str, float]:
        """Every sample by its name with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{METRICS}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {
            line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in lines
            if not line.startswith("#")
        }

    def packets(self, sent: int) -> tuple[bool, str]:
        """Whether each packet sent was read or counted as dropped; and how many were which."""
        until = time.monotonic() + 60
        read = dropped = -1.0
        while read + dropped < sent and time.monotonic() < until:
            time.sleep(1.1)  # the counters are brought up to date every second
            samples = self.metrics()
            read, dropped = samples["apptell_packets_total"], samples["apptell_kernel_drops_total"]
        words = f"{sent:,} packets sent, {read:,.0f} read, {dropped:,.0f} dropped by the kernel; "
        return read + dropped == sent, words

    def verdicts(self) -> float:
        """Verdicts so far."""
        return sum(v for k, v in self.metrics().items() if k.startswith("apptell_verdicts_total"))

    def wait_for(self, n: int, seconds: float = 120.0) -> int:
        """Waits for so many verdicts; gives how many there are then."""
        until = time.monotonic() + seconds
        while self.verdicts() < n and time.monotonic() < until:
            time.sleep(0.2)
        return int(self.verdicts())

    def memory_mb(self) -> float:
        """Most memory that it had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1000


def lines(path: Path) -> list[dict[str, Any]]:
    """Records of a file; raises where a line is not whole."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def n_verdicts(path: Path) -> int:
    """Verdicts in a file of JSON lines."""
    return sum(record["event"] == "verdict" for record in lines(path))


def interface(folder: Path) -> tuple[bool, str]:
    """The interface goes down for three seconds and comes up again."""
    with Sensor(folder) as sensor:
        send(flows(50, 1))
        sensor.wait_for(50)
        subprocess.run(["ip", "link", "set", "right", "down"], check=True)
        time.sleep(3.0)
        subprocess.run(["ip", "link", "set", "right", "up"], check=True)
        time.sleep(1.0)
        send(flows(50, 2))
        n = sensor.wait_for(100)
    return n == 100, f"100 flows sent, half of them before and half after; {n} verdicts"


def disk(folder: Path) -> tuple[bool, str]:
    """An output's disk is full, then has room again."""
    full = folder / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(full)], check=True)
    filler = full / "filler"
    filler.write_bytes(bytes(1_900_000))
    with Sensor(folder, f"jsonl:{full}/apps.jsonl", f"parquet:{full}/p?records=100") as sensor:
        send(flows(300, 1))
        sensor.wait_for(300)
        time.sleep(2.0)
        before, good = n_verdicts(full / "apps.jsonl"), n_verdicts(sensor.out)
        filler.unlink()
        until = time.monotonic() + 30
        while n_verdicts(full / "apps.jsonl") < 300 and time.monotonic() < until:
            time.sleep(0.5)
        after = n_verdicts(full / "apps.jsonl")
    tables = sum(pq.read_table(path).num_rows for path in (full / "p").glob("*.parquet"))
    subprocess.run(["umount", "--lazy", str(full)], check=True)
    words = (
        f"300 flows: {good} verdicts in the output beside it; in the full one {before} while full, "
        f"all lines whole, {after} once there was room; {tables} of 600 records in Parquet"
    )
    return (before < 300, good, after, tables) == (True, 300, 300, 600), words


def reader(folder: Path) -> tuple[bool, str]:
    """A reader accepts the connection and never reads."""
    path = str(folder / "stalled.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        with Sensor(folder, f"unix:{path}") as sensor:
            accounted, said = sensor.packets(send(flows(3000, 1)))
            time.sleep(6.0)
            samples = sensor.metrics()
            n, good = int(sensor.verdicts()), n_verdicts(sensor.out)
            memory = sensor.memory_mb()
    waiting = samples[f'apptell_output_queued{{output="unix:{path}"}}']
    words = (
        f"{said}{n:,} verdicts, all {good:,} in the output beside it; {waiting:,.0f} records "
        f"wait for the stalled one (room for 65,536); {memory:.0f} MB"
    )
    return accounted and n == good > 0 and waiting > 0, words


def broker(folder: Path) -> tuple[bool, str]:
    """Kafka's broker does not answer for a minute."""
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert cluster.stdout is not None
    servers = cluster.stdout.readline().strip()
    name = f"kafka:{servers}/apps"

    def count(samples: dict[str, float], state: str) -> int:
        return int(samples[f'apptell_output_records_total{{output="{name}",state="{state}"}}'])

    try:
        with Sensor(folder, name) as sensor:
            send(flows(200, 1))
            sensor.wait_for(200)
            cluster.send_signal(signal.SIGSTOP)
            begin = time.monotonic()
            for i in range(6):
                send(flows(200, 2 + i))
                time.sleep(max(begin + 10.0 * (i + 1) - time.monotonic(), 0.0))
            away = count(sensor.metrics(), "delivered")
            cluster.send_signal(signal.SIGCONT)
            n = sensor.wait_for(1400)
            until = time.monotonic() + 90
            while count(sensor.metrics(), "delivered") < 2800 and time.monotonic() < until:
                time.sleep(1.0)
            samples = sensor.metrics()
    finally:
        cluster.send_signal(signal.SIGCONT)
        cluster.communicate()
    found = {state: count(samples, state) for state in ("delivered", "undelivered", "dropped")}
    words = (
        f"1,400 flows, 1,200 of them meanwhile: {n:,} verdicts; {away:,} of 2,800 records confirmed "
        f"at the end of the minute, {found['delivered']:,} later; {found['undelivered']} given up, "
        f"{found['dropped']} dropped"
    )
    return found == {"delivered": 2800, "undelivered": 0, "dropped": 0}, words


def malformed(folder: Path) -> tuple[bool, str]:
    """A storm of broken packets: noise, cut ones, real ones with bytes changed."""
    draw = random.Random(7)
    real = flows(20, 9)

    def storm() -> Iterator[bytes]:
        for i in range(300_000):
            kind = i % 3
            frame = bytearray(real[draw.randrange(len(real))])
            if kind == 0:
                frame[12:] = draw.randbytes(draw.randrange(2, 200))
            elif kind == 1:
                del frame[draw.randrange(14, len(frame)) :]
            else:
                for _ in range(draw.randrange(1, 8)):
                    frame[draw.randrange(12, len(frame))] = draw.randrange(256)
            yield bytes(frame)

    with Sensor(folder) as sensor:
        accounted, said = sensor.packets(send(storm(), 0.002))
        before = int(sensor.verdicts())  # broken packets may make flows too
        send(flows(100, 1))
        sensor.wait_for(before + 100)
        memory = sensor.memory_mb()
    n = sum(
        r["event"] == "verdict" and r["client_address"][:5] == "10.1." for r in lines(sensor.out)
    )
    return accounted and n == 100, f"{said}then 100 flows: {n} verdicts; {memory:.0f} MB"


def flood(folder: Path) -> tuple[bool, str]:
    """A million SYNs, each of another tuple, with whole flows among them."""
    base = bytearray(tcp_frame(("10.0.0.1", 1), ("203.0.113.9", 443), flags=SYN))
    at = base.index(bytes((10, 0, 0, 1)))

    def syns(start: int, n: int) -> Iterator[bytes]:
        for i in range(start, start + n):
            struct.pack_into("!I", base, at, 0x64000000 + i)  # 100.0.0.0/8 and beyond
            struct.pack_into("!H", base, at + 8, 1024 + i % 60_000)
            yield bytes(base)

    with Sensor(folder) as sensor:
        calm = sensor.memory_mb()
        most, sent = 0.0, 0
        for i in range(10):
            sent += send(syns(i * 100_000, 100_000), 0.002)
            sent += send(flows(20, 1 + i))
            most = max(most, sensor.metrics()["apptell_active_flows"])
        accounted, said = sensor.packets(sent)
        n = int(sensor.verdicts())
        evicted, memory = sensor.metrics()["apptell_flows_evicted_total"], sensor.memory_mb()
    words = (
        f"{said}{n} of the 200 flows among them decided; at most {most:,.0f} open flows, "
        f"{evicted:,.0f} evicted; {calm:.0f} MB before, {memory:.0f} MB after"
    )
    is_bounded = evicted > 0 and most <= 1 << 18
    return accounted and is_bounded and (n == 200 or " 0 dropped" not in said), words


def kill(folder: Path) -> tuple[bool, str]:
    """Kill -9 while records are written, then a new start with the same outputs."""
    tables = folder / "p"
    counts = []
    for round_ in range(2):
        with Sensor(folder, f"parquet:{tables}?seconds=1") as sensor:
            for i in range(5):
                send(flows(100, 10 * round_ + i))
                time.sleep(0.5)
            if round_ == 0:
                sensor.process.kill()
                sensor.process.wait()
            else:
                sensor.wait_for(500)
        counts.append(
            (
                len(lines(sensor.out)),
                sum(pq.read_table(p).num_rows for p in tables.glob("*.parquet")),
            )
        )
    (killed, killed_parquet), (both, both_parquet) = counts
    words = (
        f"after kill -9: {killed:,} whole JSON lines, {killed_parquet:,} records in whole Parquet files; "
        f"after 500 more flows of a second run: {both:,} and {both_parquet:,}"
    )
    return (
        killed > 0
        and killed_parquet > 0
        and both - killed == both_parquet - killed_parquet == 1000,
        words,
    )


def ending(folder: Path) -> tuple[bool, str]:
    """SIGTERM behind 3,000 flows at full speed: one worker, two, and beside two dead outputs."""
    full = folder / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(full)], check=True)
    path = str(folder / "stalled.sock")
    said, well = [], True
    frames = flows(3000, 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        dead = [f"unix:{path}", f"jsonl:{full}/apps.jsonl"]
        for name, workers, outputs in (("one", 1, []), ("two", 2, []), ("dead outputs", 1, dead)):
            out = folder / name
            out.mkdir()
            with Sensor(out, *outputs, workers=workers) as sensor:
                send(frames, 0.0)
                begin = time.monotonic()
                sensor.process.terminate()
                code = sensor.process.wait(60)
                took_s = time.monotonic() - begin
            records = lines(sensor.out)
            n = sum(record["event"] == "verdict" for record in records)
            overloaded = sum(
                record["event"] == "verdict" and record["outcome"] == "overloaded"
                for record in records
            )
            well &= code == 0 and took_s < 2 and len(records) == 2 * n > 0
            said.append(
                f"{name}: {took_s:.1f} s, {n:,} verdicts with their ends, {overloaded:,} overloaded"
            )
    subprocess.run(["umount", "--lazy", str(full)], check=True)
    return well, "; ".join(said)


TRIALS: Final[dict[str, Callable[[Path], tuple[bool, str]]]] = {
    trial.__name__: trial
    for trial in (interface, disk, reader, broker, malformed, flood, kill, ending)
}


@contextmanager
def folder_for(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"apptell-{name}-", dir="/mnt") as folder:
        yield Path(folder)


def main() -> int:
    """Runs the trials; 1 where one was not survived."""
    if os.environ.get("APPTELL_FAULTS") is None:
        words = ["unshare", "-n", "-m", "bash", "-c", NAMESPACE, "-", sys.executable, *sys.argv]
        return subprocess.run(
            words, env={**os.environ, "APPTELL_FAULTS": "1"}, check=False
        ).returncode
    print("| fault | survived | what was seen |\n| --- | --- | --- |")
    everything_survived = True
    for name in sys.argv[1:] or TRIALS:
        trial = TRIALS[name]
        with folder_for(name) as folder:
            survived, seen = trial(folder)
        everything_survived &= survived
        print(f"| {trial.__doc__} | {'yes' if survived else 'NO'} | {seen} |", flush=True)
    return not everything_survived


if __name__ == "__main__":
    sys.exit(main())
