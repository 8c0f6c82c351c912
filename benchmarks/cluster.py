"""Times ``apptell archive`` with one and two Ray workers, beside one process without Ray, in turn.

    python benchmarks/cluster.py CAPTURES... [--sensors 6] [--passes 40] [--rounds 3] [-o FILE.json]

The archive has one stream for each sensor. A stream is the TCP over IPv4 of CAPTURES, interleaved by time and
repeated with shifted times and new addresses (``live_traffic.py``); the streams are hard links to one file.
Wall time is that of ``run_archive`` on a cluster that has started and whose workers have read a small stream,
so neither Ray's start nor imports count; the start is measured apart. Processor time is that of this process
and of all below it. The processor time of the busiest process is what the run takes at least where each worker
has a core to itself, and does not depend on what else the machine does. The files that runs write are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ray

from apptell.cluster import ArchiveFolder, StreamJob, find_streams, run_archive
from apptell.flows import FlowOptions
from live_traffic import Traffic
from report_table import report_table

_TICKS_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_JOB: Final = StreamJob(
    FlowOptions(transports=(6, 17), groups=("core", "segments", "names")), evidence="all"
)


def processor_s() -> dict[int, float]:
    """Processor time, s, of this process and of each below it, with those of its own that have ended."""
    used: dict[int, float] = {}
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            fields = text.rpartition(")")[2].split()
            used[int(entry.name)] = sum(map(int, fields[11:15])) * _TICKS_S
            below.setdefault(int(fields[1]), []).append(int(entry.name))
    found: dict[int, float] = {}
    todo = [os.getpid()]
    while todo:
        process = todo.pop()
        found[process] = used.get(process, 0.0)
        todo += below.get(process, [])
    return found


@dataclass(frozen=True, slots=True)
class Took:
    """What one run took, s."""

    wall: float
    processor: float
    """Of all processes."""
    busiest: float
    """Processor time of the process that used most."""
    start: float = 0.0
    """Wall time of Ray's start and of the first use of its workers."""

    @classmethod
    def since(cls, begin: float, before: dict[int, float], start: float = 0.0) -> Took:
        """What passed since then."""
        wall = time.perf_counter() - begin
        used = [each - before.get(process, 0.0) for process, each in processor_s().items()]
        return cls(wall, sum(used), max(used), start)


def digest(records: Path) -> str:
    """A hash of the files of an archive, names and contents."""
    state = hashlib.sha256()
    for path in sorted(records.glob("sensor=*/day=*/*.parquet")):
        state.update(str(path.relative_to(records)).encode())
        state.update(path.read_bytes())
    return state.hexdigest()


def alone(captures: Path, out: Path) -> Took:
    """What one process takes that does the same without Ray."""
    folder = ArchiveFolder(str(out))
    folder.prepare(_JOB.settings())
    begin, before = time.perf_counter(), processor_s()
    records = [
        _JOB.run(stream, stream.key(repr(_JOB.settings())), folder)
        for stream in find_streams([f"{captures}/*"])
    ]
    folder.write_manifest(_JOB.settings(), records)
    return Took.since(begin, before)


def on_workers(captures: Path, small: Path, out: Path, n: int) -> Took:
    """What so many workers take."""
    begin = _start_ray(n)
    try:
        run_archive(_JOB, find_streams([f"{small}/*"]), ArchiveFolder(f"{out}-small"))
        start_s = time.perf_counter() - begin
        begin, before = time.perf_counter(), processor_s()
        report = run_archive(_JOB, find_streams([f"{captures}/*"]), ArchiveFolder(str(out)))
        if report.failures:
            raise SystemExit(str(report.failures))
        return Took.since(begin, before, start_s)
    finally:
        ray.shutdown()


def _start_ray(n: int) -> float:
    """Starts Ray, again where a busy machine lets it start too slowly; returns when it began."""
    for attempt in range(5):
        begin = time.perf_counter()
        try:
            ray.init(
                address="local", num_cpus=n, include_dashboard=False, log_to_driver=False,
                _node_ip_address="127.0.0.1",
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 (Ray has no type for this)
            print(f"start {attempt + 1}: {error}", file=sys.stderr, flush=True)
            ray.shutdown()
        else:
            return begin
    raise SystemExit("Ray does not start")


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", nargs="+")
    parser.add_argument("--sensors", type=int, default=6)
    parser.add_argument("--passes", type=int, default=40, help="over the captures, for each sensor")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    # workers are as nice as the process without Ray; Ray's default is 15
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    with tempfile.TemporaryDirectory() as made:
        captures, small = Path(made, "captures"), Path(made, "small")
        captures.mkdir()
        small.mkdir()
        traffic = Traffic(given.captures)
        traffic.write(captures / "sensor0.pcap", given.passes)
        for number in range(1, given.sensors):
            (captures / f"sensor{number}.pcap").hardlink_to(captures / "sensor0.pcap")
        for number in range(8):  # so that every worker gets one
            traffic.write(small / f"sensor{number}.pcap", 1)
        packets = traffic.n * given.passes * given.sensors
        size = (captures / "sensor0.pcap").stat().st_size * given.sensors
        found: dict[int, list[Took]] = {0: [], 1: [], 2: []}
        loads, digests = [], set()
        for turn in range(given.rounds):
            for n in (0, 1, 2) if turn % 2 == 0 else (2, 1, 0):
                out = Path(made, f"records-{turn}-{n}")
                took = on_workers(captures, small, out, n) if n else alone(captures, out)
                found[n].append(took)
                digests.add(digest(out))
                loads.append(os.getloadavg()[0])
                print(n, "workers", took, f"load {loads[-1]:.0f}", file=sys.stderr, flush=True)
    if len(digests) != 1:
        raise SystemExit("the records depend on the number of workers")
    names = {0: "one process without Ray", 1: "1 worker", 2: "2 workers"}
    rows = [
        [
            names[n],
            statistics.median(each.wall for each in took),
            statistics.median(each.processor for each in took),
            statistics.median(each.busiest for each in took),
            statistics.median(
                one.busiest / each.busiest for one, each in zip(found[1], took, strict=True)
            ),
            statistics.median(each.start for each in took) if n else None,
        ]
        for n, took in found.items()
    ]
    report_table(
        given.output,
        f"python benchmarks/cluster.py CAPTURES --sensors {given.sensors} --passes {given.passes} "
        f"--rounds {given.rounds}",
        {
            "what": "text",
            "wall, s": "measure",
            "processor, s": "measure",
            "processor time of the busiest process, s": "measure",
            "that of 1 worker by it": "measure",
            "start of Ray and its workers, wall s": "measure",
        },
        rows,
        load=f"{min(loads):.0f} to {max(loads):.0f}",
        versions=f"Ray {ray.__version__}",
        archive={"sensors": given.sensors, "packets": packets, "bytes": size},
    )


if __name__ == "__main__":
    main()
