"""Times verbs with one and several jobs, of this checkout and of another one, in turn.

    python benchmarks/jobs.py OTHER_CHECKOUT CAPTURE [--rounds 3] [-o docs/reports/data/jobs.json]

CAPTURE is best one of five million packets that ``benchmarks/flow_engine.py`` made (``--packets``). Every run
is a new process with its kernels compiled; wall time and processor time (user and system, of its children too)
are those of the whole command, start-up included. In each round every run comes once; ratios are medians of
those of the rounds. What the runs of this checkout write is compared by its SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report_table import report_table

VERBS = {
    "flows, TCP and UDP with names, Parquet": (
        "flows",
        "--transport",
        "tcp,udp",
        "-o",
        "OUT.parquet",
    ),
    "identify, JSON lines": ("identify", "--format", "jsonl"),
}


def run(root: Path, words: tuple[str, ...], capture: Path, jobs: int) -> tuple[float, float, str]:
    """Wall and processor seconds of one command, and the hash of what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "OUT.parquet"
        verb, *rest = (str(out) if word == out.name else word for word in words)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "apptell.cli", verb, capture, *rest, "--jobs", str(jobs)],
            env={**os.environ, "PYTHONPATH": str(root / "src")},
            capture_output=True,
            check=True,
        )
        wall = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        digest = hashlib.sha256(out.read_bytes() if out.exists() else done.stdout)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, processor, digest.hexdigest()


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    runs = [("now", here, jobs) for jobs in (1, 2, 3)]
    runs += [("before", given.other, jobs) for jobs in (1, 2)]
    rows: list[list[Any]] = []
    for title, words in VERBS.items():
        found: dict[tuple[str, int], list[tuple[float, float, str]]] = {}
        for number in range(given.rounds):
            order = runs if number % 2 == 0 else runs[::-1]
            for name, root, jobs in order:
                found.setdefault((name, jobs), []).append(run(root, words, given.capture, jobs))
                print(title, name, jobs, found[name, jobs][-1][:2], file=sys.stderr, flush=True)
        if len({each[2] for jobs in (1, 2, 3) for each in found["now", jobs]}) != 1:
            raise SystemExit(f"{title}: the records depend on the number of jobs")
        one = found["now", 1]
        for (name, jobs), each in found.items():
            pairs = list(zip(one, each, strict=True))
            rows.append(
                [
                    f"{title}: {name}, {jobs} job{'s' * (jobs > 1)}",
                    statistics.median(wall for wall, _, _ in each),
                    statistics.median(processor for _, processor, _ in each),
                    statistics.median(first[0] / other[0] for first, other in pairs),
                    statistics.median(other[1] / first[1] for first, other in pairs),
                ]
            )
    report_table(
        given.output,
        f"python benchmarks/jobs.py OTHER CAPTURE --rounds {given.rounds}",
        {
            "what": "text",
            "wall, s": "measure",
            "processor, s": "measure",
            "times as fast as one job now": "measure",
            "times its processor time": "measure",
        },
        rows,
    )


if __name__ == "__main__":
    main()
