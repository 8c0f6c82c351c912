"""Measures time and peak memory of a forest on a million flows of a hundred classes.

    python benchmarks/scale.py DATASET [--flows 1000000] [--classes 100] [-o FOLDER]

DATASET is any dataset with lengths and times (FG-Net's, the lab's). It is enlarged: every flow is repeated as
often as needed, each time as another connection of another session with slightly changed lengths and gaps;
each app becomes as many classes as needed, distinguished by longer packets. Then ``apptell train`` and
``apptell compare`` run on it as a user would run them, and the kernel reports their time and memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from apptell.dataset import Dataset, DatasetWriter
from apptell.dataset.groups import group_values

if TYPE_CHECKING:
    from apptell.flows import FlowBatch

_BATCH = 8192
_STEP = 40
"""Bytes by which a class' packets are longer than those of the class before, of one app."""


def enlarge(source: Dataset, target: Path, n_flows: int, n_classes: int) -> Dataset:
    """Writes the larger dataset, or opens it where it is already."""
    if (target / "dataset.json").is_file():
        return Dataset.open(target)
    copies = -(-n_flows // len(source))
    each = max(1, -(-n_classes // len(source.apps)))
    names = [f"{app}.{part}" for part in range(each) for app in source.apps][:n_classes]
    left, next_id = n_flows, 1
    with DatasetWriter(target) as writer:
        for copy in range(copies):
            random = np.random.default_rng(copy)
            for batch in source.batches(batch_flows=_BATCH):
                some = batch if len(batch) <= left else batch.take(np.arange(left))
                if len(some):
                    writer.write(_moved(some, copy, names, next_id, random))
                left -= len(some)
                next_id += len(some)
        writer.commit()
    return Dataset.open(target)


def _moved(
    flows: FlowBatch, copy: int, names: list[str], next_id: int, random: np.random.Generator
) -> FlowBatch:
    """The flows again: another class of their app, other connections and sessions, other lengths."""
    n = len(flows)
    parts = [
        [name for name in names if name.rpartition(".")[0] == app]
        for app in flows.column("label").to_pylist()
    ]
    draw = random.integers(0, 1 << 30, n)
    labels = [mine[at % len(mine)] for mine, at in zip(parts, draw.tolist(), strict=True)]
    step = np.array([int(label.rpartition(".")[2]) * _STEP for label in labels])
    sequences = flows.sequences()
    of_flow = np.repeat(np.arange(n), np.diff(sequences.first))
    noise = random.integers(0, 8, len(of_flow)) + step[of_flow]
    length = sequences.length + np.sign(sequences.length) * noise
    gap = (sequences.gap_us * random.uniform(0.8, 1.2, len(of_flow))).astype(np.int64)
    offsets = pa.array(sequences.first.astype(np.int32))
    sessions = group_values(flows, "session")
    groups = [[("session", f"{session}/{copy}")] for session in sessions]
    return flows.with_columns(
        label=labels,
        connection_id=np.arange(next_id, next_id + n, dtype=np.uint64),
        sequence_length=pa.ListArray.from_arrays(offsets, pa.array(length.astype(np.int32))),
        sequence_gap_us=pa.ListArray.from_arrays(offsets, pa.array(gap)),
        groups=groups,
    )


def watched(*arguments: object) -> dict[str, float]:
    """Runs ``apptell``; seconds, processor seconds and peak memory of only that process."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "apptell.cli", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--flows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=100, help="at least the dataset's apps")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.output or Path(scratch)
        large = enlarge(Dataset.open(given.dataset), folder / "dataset", given.flows, given.classes)
        model, report = folder / "model", folder / "report"
        forest = ("--model", "paper-rf", "--split", "session")
        result = {
            "flows": len(large),
            "classes": len(large.apps),
            "dataset_mb": round(sum(s["bytes"] for s in large.info["shards"]) / 1e6),
            "train": watched("train", large.path, "-o", model, *forest, "--ports", "off"),
            "model_mb": round((model / "model.onnx").stat().st_size / 1e6),
            "compare": watched(
                "compare", large.path, "-o", report, *forest, "--only", "--held-out", 0
            ),
        }
        metrics = json.loads((report / "metrics.json").read_text())["models"][0]
        result |= {name: metrics[name] for name in ("accuracy", "macro_f1", "tested_flows")}
        result["intervals_95"] = metrics["intervals_95"]
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
