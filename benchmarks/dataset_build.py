"""Measures building a dataset of a million packets beside only reading the same packets.

    python benchmarks/dataset_build.py CAPTURES [--repeat 3] [--jobs 2] [-o out/dataset_build.json]

CAPTURES is the folder with ``ndpi`` in it. The file is that of ``flow_engine.py`` in PCAPdroid's form: the IP
packets of those captures, each with an owner and a trailer, and beside it the list of its connections as
PCAPdroid writes it. Measured is processor time, of all processes, from the file in page cache to the
dataset on disk, without start-up and compilation (a warm-up run precedes).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import sys
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.flow_engine import make_file
from benchmarks.report_table import report_table

from apptell.capture import open_capture
from apptell.dataset import build
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import CaptureFlows, LabelOptions, LabelSearch
from apptell.names import read_flows

N_APPS = 50
HEADER = (
    "IPProto,SrcIP,SrcPort,DstIp,DstPort,UID,App,PackageName,Proto,Status,Info,"
    "BytesSent,BytesRcvd,PktsSent,PktsRcvd,FirstSeen,LastSeen"
)


def with_trailers(plain: Path, out: Path) -> int:
    """Writes the IP packets of a capture as PCAPdroid would; returns how many."""
    n = 0
    with open_capture(plain) as reader, out.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0xFFFF, 1))
        for batch in reader:
            for row in range(len(batch)):
                frame = batch.frame(row)
                if frame[12:14] not in (b"\x08\x00", b"\x86\xdd"):
                    continue
                uid, ip = 10_000 + _owner(frame), frame[14:]
                body = bytes(12) + frame[12:14] + ip
                body += bytes(-len(body) % 4)
                body += struct.pack(">Ii20s", 0x01072021, uid, f"App {uid}".encode())
                body += struct.pack("<I", zlib.crc32(body))
                seconds, micros = divmod(int(batch.time_ns[row]) // 1000, 10**6)
                file.write(struct.pack("<IIII", seconds, micros, len(body), len(body)))
                file.write(body)
                n += 1
    return n


def _owner(frame: bytes) -> int:
    """One app for both directions of a connection."""
    ip = frame[14:]
    if frame[12] == 8:
        ports = (ip[0] & 15) * 4
        ends = (ip[12:16] + ip[ports : ports + 2], ip[16:20] + ip[ports + 2 : ports + 4])
    else:
        ends = (ip[8:24] + ip[40:42], ip[24:40] + ip[42:44])
    return zlib.crc32(b"".join(sorted(ends))) % N_APPS


def with_list(trailers: Path, out: Path) -> int:
    """Writes the list of the capture's connections; returns how many."""
    options = FlowOptions(transports=(6, 17), groups=("core", "labels"))
    from apptell.labels.formats.pcapdroid import TrailerReader

    def stamp(time_ns: int) -> str:
        return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")

    n = 0
    with out.open("w") as file:
        file.write(HEADER + "\n")
        for batch in read_flows(trailers, options, annotate=TrailerReader()):
            for flow in batch:
                file.write(
                    f"{flow.protocol},{flow.client_address},{flow.client_port},{flow.server_address},"
                    f"{flow.server_port},{flow.owner_uid},{flow.owner_name},org.example.a{flow.owner_uid},"
                    f"TLS,Closed,,1,1,1,1,{stamp(flow.start_ns)},{stamp(flow.end_ns)}\n"
                )
                n += 1
    return n


def in_parts(trailers: Path, folder: Path, n: int) -> None:
    """Writes the records of a capture to n captures, one stretch of time each."""
    data = trailers.read_bytes()
    starts, at = [], 24
    while at < len(data):
        starts.append(at)
        at += 16 + struct.unpack_from("<I", data, at + 8)[0]
    folder.mkdir(exist_ok=True)
    cuts = [starts[len(starts) * i // n] for i in range(n)] + [len(data)]
    for i in range(n):
        (folder / f"phone{i}.pcap").write_bytes(data[:24] + data[cuts[i] : cuts[i + 1]])


def cost(work: Any) -> float:
    """Seconds of processor time, of children as well."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def main() -> None:
    """Runs everything in turn, several times, and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", type=Path)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/dataset_build.json"))
    arguments = parser.parse_args()
    out = arguments.output.parent
    out.mkdir(exist_ok=True)
    plain, folder = out / "flow_engine.pcap", out / "dataset_build"
    folder.mkdir(exist_ok=True)
    trailers, beside = folder / "phone.pcap", folder / "phone.csv"
    if not beside.exists():
        if not plain.exists():
            make_file(arguments.captures, plain, arguments.packets)
        with_trailers(plain, trailers)
        with_list(trailers, beside)
        in_parts(trailers, out / "dataset_build_parts", 4)
    with open_capture(trailers) as reader:
        packets = sum(len(batch) for batch in reader)

    def made(kind: str, what: Path = trailers, jobs: int = 1) -> None:
        reader = CaptureFlows(FlowOptions(groups=tuple(GROUPS)))
        shutil.rmtree(out / "d", ignore_errors=True)
        build(LabelSearch([what], reader, LabelOptions(kind=kind)), out / "d", jobs=jobs)

    def read(groups: tuple[str, ...]) -> int:
        return sum(len(batch) for batch in read_flows(trailers, FlowOptions(groups=groups)))

    runs: dict[str, Any] = {
        "reading: flows with segments": lambda: read(("core", "segments")),
        "reading: flows with all columns": lambda: read(tuple(GROUPS)),
        "build, labels by file name": lambda: made("folders"),
        "build, labels by trailers": lambda: made("pcapdroid"),
        "build, labels by list of connections": lambda: made("pcapdroid-csv"),
        "build, labels by trailers, four captures": lambda: made(
            "pcapdroid", out / "dataset_build_parts"
        ),
        f"the same, {arguments.jobs} jobs": lambda: made(
            "pcapdroid", out / "dataset_build_parts", arguments.jobs
        ),
    }
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    walls: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.repeat):
        for name, run in runs.items():
            began = time.perf_counter()
            seconds[name].append(cost(run))
            walls[name].append(time.perf_counter() - began)
    made("pcapdroid")
    n_flows = json.loads((out / "d" / "dataset.json").read_text())["n_flows"]
    first = statistics.median(seconds["reading: flows with segments"])
    print(f"{packets} packets, {trailers.stat().st_size} bytes, {n_flows} flows in the dataset")
    rows = []
    for name, values in seconds.items():
        processor, wall = (
            statistics.median(times) / packets * 1e6 for times in (values, walls[name])
        )
        rows.append([name, processor, wall, statistics.median(values) / first])
    report_table(
        arguments.output,
        f"python benchmarks/dataset_build.py CAPTURES --repeat {arguments.repeat}",
        {
            "what": "text",
            "processor seconds per million packets": "measure",
            "wall seconds": "measure",
            "times reading": "measure",
        },
        rows,
    )


if __name__ == "__main__":
    main()
