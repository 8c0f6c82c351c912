"""Times this checkout and another one in turn on one capture: flows of TCP, flows with names, and live.

    python benchmarks/side_by_side.py OTHER_CHECKOUT CAPTURE [--cases tcp,names] [--rounds 30] [-o FILE]

Each checkout has one process, which is warm before anything is timed. Rounds alternate which checkout is
first. Seconds are processor time, user and system; the figures are medians, and the ratio is the median of
the ratios of the rounds. CAPTURE is best one that
``benchmarks/flow_engine.py`` made. ``live`` reads the capture as ``live --replay --speed max`` does, TCP
alone, with the embedded model and without an output. ``reading`` reads the names of flows that are in memory.
``memory`` reads the file in blocks of 1 MiB and adds up
its words: both checkouts do the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from report_table import report_table

TITLES = {
    "memory": "file through memory once",
    "tcp": "TCP with segments",
    "names": "TCP and UDP with names",
    "reading": "reading names of flows in memory",
    "live": "live, TCP, embedded model",
}
CHILD = r"""
import inspect, sys, threading, time
import numpy as np
from apptell.flows import FlowOptions
try:
    from apptell.names import read_flows
except ImportError:
    from apptell.flows import read_flows
from apptell.models import load_model
from apptell.service import LiveOptions, LivePipeline, ReplaySource
path = sys.argv[1]
transports = "transports" if "transports" in inspect.signature(FlowOptions).parameters else "protocols"
def options(numbers, groups):
    return FlowOptions(segments=5, groups=groups, **{transports: numbers})
tcp = options((6,), ("core", "segments"))
names = options((6, 17), ("core", "segments", "names"))
model = load_model()
held = []
def reading():
    from apptell.names import add_names
    if not held:
        held.extend(read_flows(path, options((6, 17), ("core", "segments"))))
    for batch in held:
        add_names(batch)
def live():  # of TCP alone, by default
    return LivePipeline([ReplaySource(path)], model, [], LiveOptions()).run(threading.Event())
def memory():
    block = bytearray(1 << 20)
    words = np.frombuffer(block, dtype=np.uint64)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(block):
            words.sum()
cases = {
    "memory": memory,
    "tcp": lambda: sum(len(batch) for batch in read_flows(path, tcp)),
    "names": lambda: sum(len(batch) for batch in read_flows(path, names)),
    "reading": reading,
    "live": live,
}
for line in sys.stdin:
    before = time.process_time()
    cases[line.strip()]()
    print("seconds", time.process_time() - before, flush=True)
"""


class Checkout:
    """A warm process with the package of one checkout."""

    def __init__(self, root: Path, capture: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(capture)],
            env={**os.environ, "PYTHONPATH": str(root / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, case: str) -> float:
        """Processor time of one run of a case."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{case}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("seconds"):
                return float(line.split()[1])
        raise SystemExit(f"the process of {case} ended")


def main() -> None:
    """Runs the rounds and prints the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--cases", default=",".join(TITLES))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    checkouts = Checkout(given.other, given.capture), Checkout(here, given.capture)
    rows: list[list[Any]] = []
    for case in given.cases.split(","):
        for checkout in checkouts * 2:
            checkout.seconds(case)
        pairs = []
        for number in range(given.rounds):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            found = {which: checkouts[which].seconds(case) for which in order}
            pairs.append((found[0], found[1]))
            print(f"{case}: {found[0]:.3f} {found[1]:.3f}", file=sys.stderr, flush=True)
        before, now = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = sorted(after / first for first, after in pairs)
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        fastest = [min(side) for side in zip(*pairs, strict=True)]
        rows.append([TITLES[case], before, now, *fastest, [statistics.median(ratios), low, high]])
    report_table(
        given.output,
        f"python benchmarks/side_by_side.py OTHER CAPTURE --cases {given.cases} --rounds {given.rounds}",
        {
            "what": "text",
            "before, s": "measure",
            "now, s": "measure",
            "fastest before, s": "measure",
            "fastest now, s": "measure",
            "ratio (middle half of the rounds)": "measure",
        },
        rows,
    )


if __name__ == "__main__":
    main()
