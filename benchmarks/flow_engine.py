"""Measures packets to finished flows, side by side with other programs on one file.

    python benchmarks/flow_engine.py CAPTURES --peers-python PYTHON [-o out/flow_engine.json]

CAPTURES is the folder with ``ndpi`` in it. The file is made once in out/: every Ethernet frame of those
captures, all captures begun at one instant and interleaved by time, the whole repeated with later times
until there are a million packets. The timed part is each program's whole way from the file in page cache
to finished flows, without start-up and, for ours, without compilation (a warm-up run precedes); ndpiReader
and tshark as whole programs. Seconds are of processor time, user and system, over all of a program's
processes; of wall time where that is less. PYTHON is an interpreter that has nfstream, dpkt and scapy;
ndpiReader and tshark are taken from the path.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from apptell.capture import open_capture
from apptell.errors import CaptureError
from apptell.flows import FlowOptions
from apptell.names import read_flows

CLOCK = """
import resource, sys, time
def seconds(start=(0.0, 0.0)):
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    processor = sum(sum(resource.getrusage(one)[:2]) for one in who)
    return time.perf_counter() - start[0], processor - start[1]
"""
NFSTREAM = (
    CLOCK
    + """
from nfstream import NFStreamer
def main():
    start = seconds()
    n = sum(1 for _ in NFStreamer(source=sys.argv[1], n_meters=1, n_dissections=int(sys.argv[2]),
                                  idle_timeout=90, active_timeout=10**6, statistical_analysis=False))
    print(min(seconds(start)), n)
if __name__ == "__main__":
    main()
"""
)
DPKT = (
    CLOCK
    + """
import dpkt
start = seconds()
flows, n = {}, 0
for t, frame in dpkt.pcap.Reader(open(sys.argv[1], "rb")):
    n += 1
    if n > 100000:
        break
    try:
        ip = dpkt.ethernet.Ethernet(frame).data
        tcp = ip.data
        if isinstance(tcp, dpkt.tcp.TCP):
            key = frozenset(((ip.src, tcp.sport), (ip.dst, tcp.dport)))
            kept = flows.setdefault(key, [])
            if tcp.data and len(kept) < 5:
                kept.append(bytes(tcp.data[:1500]))
    except Exception:
        pass
print(min(seconds(start)) * float(sys.argv[2]) / n, len(flows))
"""
)
SCAPY = (
    CLOCK
    + """
from scapy.all import PcapReader, IP, TCP
start = seconds()
flows, n = {}, 0
for frame in PcapReader(sys.argv[1]):
    n += 1
    if n > 5000:
        break
    if IP in frame and TCP in frame:
        key = frozenset(((frame[IP].src, frame[TCP].sport), (frame[IP].dst, frame[TCP].dport)))
        flows.setdefault(key, []).append(bytes(frame[TCP].payload)[:1500])
print(min(seconds(start)) * float(sys.argv[2]) / n, len(flows))
"""
)


def make_file(captures: Path, out: Path, packets: int) -> tuple[int, int]:
    """Writes the benchmark's capture; returns its packets and bytes."""
    frames: list[tuple[int, bytes]] = []
    for path in sorted((captures / "ndpi").iterdir()):
        try:
            with open_capture(path) as reader:
                first = None
                for batch in reader:
                    for row in range(len(batch)):
                        if batch.link_type[row] != 1:
                            continue
                        time_ns = int(batch.time_ns[row])
                        first = time_ns if first is None else first
                        frames.append((max(time_ns - first, 0) % (600 * 10**9), batch.frame(row)))
        except CaptureError:
            continue
    frames.sort(key=lambda frame: frame[0])
    n = size = 0
    with out.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        copy = 0
        while n < packets:
            for time_ns, frame in frames:
                micros = (1_700_000_000 + copy * 800) * 10**6 + time_ns // 1000
                file.write(struct.pack("<IIII", *divmod(micros, 10**6), len(frame), len(frame)))
                file.write(frame)
                n += 1
                size += len(frame) + 16
            copy += 1
    return n, size


def make_large(out: Path, packets: int = 400_000) -> tuple[int, int]:
    """A capture of full-size packets: 1,448 payload bytes in each, 2,000 flows."""
    from apptell.testing import pcap_bytes, tcp_frame

    frame = np.frombuffer(
        tcp_frame(("10.0.0.2", 40000), ("192.0.2.7", 443), bytes(1448)), dtype=np.uint8
    )
    record = np.zeros((packets, 16 + len(frame)), dtype=np.uint8)
    record[:, 16:] = frame
    times = np.arange(packets)
    record[:, :4] = (1_700_000_000 + times // 10**6).astype("<u4").view(np.uint8).reshape(-1, 4)
    record[:, 4:8] = (times % 10**6).astype("<u4").view(np.uint8).reshape(-1, 4)
    record[:, 8:16] = np.frombuffer(struct.pack("<II", len(frame), len(frame)), dtype=np.uint8)
    flow = times // 64 % 2000
    record[:, 16 + 34] = 150 + flow // 256
    record[:, 16 + 35] = flow % 256
    sequence = (times * 1448 % 2**32).astype(">u4").view(np.uint8).reshape(-1, 4)
    record[:, 16 + 38 : 16 + 42] = sequence
    header = pcap_bytes([])
    with out.open("wb") as file:
        file.write(struct.pack("<I", 0xA1B2C3D4) + header[4:])
        file.write(record.tobytes())
    return packets, record.nbytes


def clock(start: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
    """Seconds of wall time and of processor time, ended children included, since a reading of it."""
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    processor = sum(sum(resource.getrusage(one)[:2]) for one in who)
    return time.perf_counter() - start[0], processor - start[1]


def ours(path: Path, options: FlowOptions) -> tuple[float, int]:
    """Median seconds, of five runs of apptell in a row, and flows."""
    seconds = []
    for _ in range(5):
        start = clock()
        n = sum(len(batch) for batch in read_flows(path, options))
        seconds.append(min(clock(start)))
    return statistics.median(seconds), n


def program(command: list[str]) -> float:
    """Seconds of one run of a program."""
    start = clock()
    subprocess.run(command, capture_output=True, check=False)
    return min(clock(start))


def script(python: str, code: str, *arguments: str) -> tuple[float, int]:
    """Seconds and flows that a peer's script prints."""
    run = subprocess.run(
        [python, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    seconds, flows = run.stdout.split()[-2:]
    return float(seconds), int(flows)


def through_memory(path: Path) -> float:
    """Seconds to read the file once in 1 MiB blocks and add up its words: the roof."""
    block = bytearray(1 << 20)
    words = np.frombuffer(block, dtype=np.uint64)
    start = time.process_time()
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            words.sum()
    return time.process_time() - start


def main() -> None:
    """Runs everything in turn, several times, and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", type=Path)
    parser.add_argument("--peers-python")
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/flow_engine.json"))
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(exist_ok=True)
    path = arguments.output.parent / "flow_engine.pcap"
    if path.exists():
        with open_capture(path) as reader:
            packets = sum(len(batch) for batch in reader)
        size = path.stat().st_size
    else:
        packets, size = make_file(arguments.captures, path, arguments.packets)
    large = arguments.output.parent / "flow_engine_large.pcap"
    large_packets, large_size = make_large(large)
    tcp = FlowOptions(segments=5, groups=("core", "segments"))
    everything = FlowOptions(segments=5, transports=(6, 17), groups=("core", "segments", "names"))
    runs: dict[str, Any] = {
        "apptell, TCP with segments": lambda: ours(path, tcp)[0],
        "apptell, TCP and UDP with names": lambda: ours(path, everything)[0],
        "file through memory once": lambda: through_memory(path),
        "apptell, full-size packets": lambda: ours(large, tcp)[0],
    }
    if arguments.peers_python:
        python = arguments.peers_python
        runs["nfstream, no dissection"] = lambda: script(python, NFSTREAM, str(path), "0")[0]
        runs["nfstream, with names"] = lambda: script(python, NFSTREAM, str(path), "20")[0]
        runs["dpkt (first 100,000 packets, scaled)"] = lambda: script(
            python, DPKT, str(path), str(packets)
        )[0]
        runs["scapy (first 5,000 packets, scaled)"] = lambda: script(
            python, SCAPY, str(path), str(packets)
        )[0]
    if shutil.which("ndpiReader"):
        runs["ndpiReader -q"] = lambda: program(["ndpiReader", "-q", "-i", str(path)])
    if shutil.which("tshark"):
        runs["tshark, fields"] = lambda: program(
            ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "tcp.stream", "-e", "tcp.len"]
        )
    ours(path, tcp)
    ours(path, everything)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(arguments.repeat):
        for name, run in runs.items():
            if turn and name.startswith(("tshark", "scapy", "dpkt")):
                continue
            seconds[name].append(run())
            print(f"{name}: {seconds[name][-1]:.2f} s", file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "packets": packets,
        "bytes": size,
        "flows_tcp": ours(path, tcp)[1],
        "flows_all": ours(path, everything)[1],
        "large_gigabytes_per_s": large_size / medians["apptell, full-size packets"] / 1e9,
        "large_packets": large_packets,
        "seconds": medians,
        "million_packets_per_s": {
            name: packets / value / 1e6
            for name, value in medians.items()
            if name != "apptell, full-size packets"
        },
    }
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
