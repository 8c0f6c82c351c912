"""Measures memory and time of all streaming steps on a dataset of ten million flows.

    python benchmarks/large_dataset.py [--flows 10000000] [-o out/large_dataset]

Flows are made up: 40 apps, 200 sources, three kept segments of 40 to 200 bytes. Each step is a process of its
own; printed are its processor time, its time, the most memory that was resident, and what of it was its
own at the end (the rest is the kernel's cache of files).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from apptell.dataset import Dataset, build
from apptell.dataset.change import merge, sample, validate
from apptell.dataset.services import service_table
from apptell.flows.schema import FlowBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 8192
STEPS = (
    "build",
    "append",
    "read in batches",
    "validate",
    "services",
    "sample",
    "merge",
    "export arrays",
)


class Made:
    """A source of made-up flows."""

    kind = "table"

    def __init__(self, n: int, seed: int) -> None:
        self.name = f"made {seed}"
        self.files: list[Path] = []
        self.dropped: Counter[str] = Counter()
        self.facts: dict[str, Any] = {}
        self._n, self._seed = n, seed

    def flows(self) -> Iterator[FlowBatch]:
        """One batch again and again, each time with other connections and times."""
        batch = made_batch(self._seed)
        for start in range(0, self._n, BATCH):
            n = min(BATCH, self._n - start)
            row = np.arange(start, start + n)
            yield FlowBatch(batch.to_arrow().slice(0, n)).with_columns(
                capture=[self.name] * n,
                connection_id=(row + (self._seed << 40)).astype(np.uint64),
                start_ns=1_700_000_000_000_000_000 + row * 1_000_000,
                end_ns=1_700_000_001_000_000_000 + row * 1_000_000,
            )


def made_batch(seed: int) -> FlowBatch:
    """Flows of random payload."""
    noise = np.random.default_rng(seed)
    sizes = noise.integers(40, 200, 3 * BATCH).astype(np.int32)
    pool = noise.integers(0, 256, int(sizes.sum()), dtype=np.uint8)
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    blobs = pa.BinaryArray.from_buffers(
        pa.binary(), len(sizes), [None, pa.py_buffer(ends), pa.py_buffer(pool)]
    )
    threes = pa.array(np.arange(BATCH + 1, dtype=np.int32) * 3)

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(threes, values)

    number = noise.integers(0, 40, BATCH)
    source = pa.array([f"home{i}" for i in noise.integers(0, 200, BATCH)])
    ones = pa.array(np.arange(BATCH + 1, dtype=np.int32))
    return FlowBatch.from_columns(
        {
            "part": np.zeros(BATCH, np.int32),
            "protocol": np.full(BATCH, 6, np.uint8),
            "client_address": ["10.0.0.2"] * BATCH,
            "client_port": np.arange(BATCH).astype(np.uint16),
            "server_address": [f"192.0.2.{i % 250}" for i in number],
            "server_port": np.full(BATCH, 443, np.uint16),
            "payload_packets_to_server": np.full(BATCH, 2),
            "payload_packets_to_client": np.full(BATCH, 1),
            "segment_bytes": lists(blobs),
            "segment_length": lists(pa.array(sizes)),
            "segment_to_server": lists(pa.array([True, False, True] * BATCH)),
            "segment_time_ns": lists(pa.array(np.arange(3 * BATCH))),
            "sequence_length": lists(pa.array(sizes)),
            "sequence_gap_us": lists(pa.array(np.zeros(3 * BATCH, np.int64))),
            "server_name": [f"s{i % 90}.example.org" for i in number],
            "label": [f"org.example.app{i}" for i in number],
            "label_from": ["table"] * BATCH,
            "groups": pa.MapArray.from_arrays(ones, pa.array(["source"] * BATCH), source),
        }
    )


def step(name: str, folder: Path, flows: int) -> str:
    """Runs one step; returns its result as text."""
    large = folder / "large"
    if name == "build":
        return f"{len(build([Made(flows, 1)], large, replace=True).dataset):,} flows"
    if name == "append":
        return f"{build([Made(flows // 100, 2)], large).n_added:,} more"
    data = Dataset.open(large)
    if name == "read in batches":
        n = n_bytes = 0
        for batch in data.batches():
            n += len(batch)
            n_bytes += batch.to_arrow().nbytes
        return f"{n:,} flows, {n_bytes / 1e9:.1f} GB"
    if name == "validate":
        return "whole" if not validate(data) else "broken"
    if name == "services":
        return f"{service_table(data).num_rows} rows"
    if name == "sample":
        return f"{len(sample(data, folder / 'small', 2_500)):,} flows"
    if name == "merge":
        return f"{len(merge([data, Dataset.open(folder / 'small')], folder / 'both')):,} flows"
    from apptell.cli.dataset_export import export_dataset

    return f"{export_dataset(Dataset.open(folder / 'small'), folder / 'arrays', 'arrays'):,} flows"


def anonymous_memory() -> float:
    """Anonymous memory now, GB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1e6
    return 0.0


def main() -> None:
    """Runs all steps, each in a process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flows", type=int, default=10_000_000)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/large_dataset"))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.step:
        began = time.perf_counter()
        what = step(arguments.step, arguments.output, arguments.flows)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        used, wall = sum(os.times()[:2]), time.perf_counter() - began
        print(
            f"| {arguments.step} | {what} | {used:.0f} | {wall:.0f} | {usage.ru_maxrss / 1e6:.2f} | "
            f"{anonymous_memory():.2f} |",
            flush=True,
        )
        return
    for name in STEPS:
        command = [sys.executable, __file__, "--flows", str(arguments.flows)]
        subprocess.run([*command, "-o", str(arguments.output), "--step", name], check=True)
    size = sum(file.stat().st_size for file in (arguments.output / "large").iterdir())
    print(f"{size / 1e9:.1f} GB on disk")


if __name__ == "__main__":
    main()
