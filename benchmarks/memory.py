"""Measures the anonymous memory of ``apptell flows -`` while it reads a large capture from a pipe.

    python benchmarks/memory.py [--gigabytes 10]

The capture is made as it is written: connections of 20 packets of about 1,000 bytes, 10,000 packets a
second of capture time, each connection of another client, so that the table fills with open flows and
remembered connections. Anonymous memory is RssAnon of /proc/PID/status, looked at every 20 ms.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from apptell.testing import conversation, pcap_bytes

CONNECTIONS = 2_000
SECONDS_A_CHUNK = 4
RECORD_HEADER, CLIENT_IN_FRAME = 16, (26, 30)
_SERVER = ("203.0.113.7", 443)


def chunk() -> tuple[bytes, Any, Any, Any]:
    """A capture of some connections: its header, its records, where times and clients stand in them."""
    messages = [(i % 4 == 0, bytes([i]) * 1400) for i in range(14)]
    packets = []
    for i in range(CONNECTIONS):
        client = (f"10.0.{i >> 8}.{i & 255}", 40000)
        packets += conversation(client, _SERVER, messages, start_ns=i * 2_000_000)
    packets.sort(key=lambda packet: packet[0])
    data = pcap_bytes(packets)
    records = np.frombuffer(data, dtype=np.uint8)[24:].copy()
    times, clients, at = [], [], 0
    for _, frame in packets:
        times.append(at)
        is_from_client = frame[26] == 10
        clients.append(at + RECORD_HEADER + CLIENT_IN_FRAME[0 if is_from_client else 1])
        at += RECORD_HEADER + len(frame)
    return data[:24], records, np.array(times), np.array(clients)


def write(pipe: IO[bytes], size: int, written: list[int]) -> None:
    """Writes ``size`` bytes: the chunk again and again, later each time and with other clients."""
    header, records, times, clients = chunk()
    pipe.write(header)
    seconds = records[times[:, None] + np.arange(4)].copy().view("<u4").ravel()
    turn = 0
    while written[0] < size:
        later = (seconds + 1_700_000_000 + turn * SECONDS_A_CHUNK).astype("<u4")
        records[times[:, None] + np.arange(4)] = later.view(np.uint8).reshape(-1, 4)
        records[clients + 1] = turn % 251  # 10.turn.x.y
        pipe.write(records.data)
        written[0] += len(records)
        turn += 1
    pipe.close()


def anonymous_bytes(pid: int) -> int:
    """Anonymous memory of a process now; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next(
        (int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon")),
        0,
    )


def main() -> None:
    """Measures, prints a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("options", nargs="*", help="further options of apptell flows, after --")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "apptell.cli", "flows", "-", "--format", "jsonl"]
    run = subprocess.Popen(
        [*command, *arguments.options],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    written = [0]
    size = int(arguments.gigabytes * 1e9)
    writer = threading.Thread(target=write, args=(run.stdin, size, written), daemon=True)
    writer.start()
    began, most, at_bytes = time.perf_counter(), 0, 0
    while run.poll() is None:
        now = anonymous_bytes(run.pid)
        if now > most:
            most, at_bytes = now, written[0]
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    said = run.stderr.read().decode().strip().splitlines() if run.stderr else []
    print("\n".join(said))
    print(
        f"{written[0] / 1e9:.1f} GB in {seconds:.0f} s: at most {most / 1e6:.0f} MB of anonymous memory,"
        f" reached after {at_bytes / 1e9:.1f} GB"
    )


if __name__ == "__main__":
    main()
