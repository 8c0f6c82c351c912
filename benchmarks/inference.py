"""Measures how fast flows are identified: encoding, network and forest on ONNX Runtime.

    python benchmarks/inference.py [--flows 4096]

Prints JSON. The network's speed is given as a share of what the measured float32 matrix-product rate allows.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from apptell.encoding import images, statistics
from apptell.flows import FlowBatch
from apptell.learning import StatisticsForest
from apptell.learning.convolutional import PaperNetwork
from apptell.learning.export import network_to_onnx
from apptell.learning.make_default import read_samples
from apptell.learning.model_training import train_model
from apptell.learning.registry import all_recipes
from apptell.models import load_model, write_model
from machine import machine, network_mflop, random_images, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from apptell.models import Model

APPS = ["a", "b", "c", "d", "e", "f"]


def random_flows(n: int) -> FlowBatch:
    """Flows of five full payload packets of noise."""
    random = np.random.default_rng(0)
    blobs = [random.bytes(1500) for _ in range(64)]
    ways = random.integers(0, 2, (n, 5)).astype(bool)
    return FlowBatch.from_columns(
        {
            "client_port": random.integers(1024, 65536, n),
            "server_port": [443] * n,
            "segment_length": [[1500] * 5] * n,
            "segment_to_server": ways.tolist(),
            "segment_time_ns": [[0, 1, 2, 3, 4]] * n,
            "segment_bytes": [[blobs[at] for at in row] for row in random.integers(0, 64, (n, 5))],
            "sequence_length": np.where(ways, 1500, -1500).tolist(),
            "sequence_gap_us": [[0, 9, 9, 9, 9]] * n,
        }
    )


def speed(work: Callable[[], object], n: int, repeats: int = 3) -> float:
    """Flows a second, the best of some repeats."""
    work()
    return n / min(float(timed(work)) for _ in range(repeats))


def save(folder: Path, onnx_bytes: bytes, inputs: str) -> Path:
    write_model(
        folder,
        onnx_bytes,
        {
            "name": "benchmark",
            "apps": APPS,
            "inputs": inputs,
            "encoding": 1,
            "options": {},
            "threshold": None,
            "calibration": None,
            "data": {},
            "seed": 0,
            "metrics": {},
            "versions": {},
            "created": "",
        },
        "",
    )
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--flows", type=int, default=4096)
    given = parser.parse_args()
    n = given.flows
    flows, host = random_flows(n), machine()
    random = np.random.default_rng(0)
    features = random.normal(size=(4000, 37)).astype(np.float32)
    targets = (features[:, :6] + random.normal(size=(4000, 6))).argmax(axis=1)
    forest = StatisticsForest(random_state=0).fit(features, targets)
    result: dict[str, object] = {
        "machine": host,
        "load": os.getloadavg()[0],
        "encoding_flows_per_s": {
            "image": round(speed(lambda: images(flows), n)),
            "statistics": round(speed(lambda: statistics(flows), n)),
        },
        "forest_nodes": int(forest.trees_.root[-1]),
    }
    with tempfile.TemporaryDirectory() as folder:
        cnn = save(Path(folder, "cnn"), network_to_onnx(PaperNetwork(6)), "image")
        trees = save(Path(folder, "rf"), forest.to_onnx(), "statistics")
        pictures = random_images(n)
        for threads in sorted({1, torch.get_num_threads()}):
            limit = host["gemm_gflop_per_s"][f"float32_{threads}_threads"] * 1e3 / network_mflop()
            network, wood = load_model(cnn, threads=threads), load_model(trees, threads=threads)
            alone = {
                size: round(speed(lambda: run_in(network, pictures, size), n))  # noqa: B023
                for size in (16, 64, 256)
            }
            result[f"{threads}_threads"] = {
                "float32_arithmetic_limit_flows_per_s": round(limit),
                "network_flows_per_s_by_batch": alone,
                "network_share_of_limit": round(max(alone.values()) / limit, 3),
                "paper-cnn_with_encoding_flows_per_s": round(
                    speed(lambda: network.predict_proba(flows), n)  # noqa: B023
                ),
                "paper-rf_with_encoding_flows_per_s": round(
                    speed(lambda: wood.predict_proba(flows), n)  # noqa: B023
                ),
            }
        result["every_model_on_the_samples_1_thread"] = every_model(Path(folder), n)
    print(json.dumps(result, indent=2))


def every_model(folder: Path, n: int) -> dict[str, object]:
    """Speed and size of every recipe, on real flows: noise would have few tokens.

    One pass of training is enough where a model learns in passes: its size and speed stay the same.
    """
    flows, apps, _ = read_samples()
    many = FlowBatch.concat([flows] * (n // len(flows) + 1))

    def one(model: str) -> dict[str, object]:
        train_model(flows, apps.tolist(), model=model, epochs=1, out=folder / model)
        loaded = load_model(folder / model, threads=1)
        inputs = loaded.encode(many)
        return {
            "with_encoding_flows_per_s": round(
                speed(lambda: loaded.predict_proba(many), len(many))
            ),
            "encoding_flows_per_s": round(speed(lambda: loaded.encode(many), len(many))),
            "model_alone_flows_per_s": round(speed(lambda: run_in(loaded, inputs, 64), len(many))),
            "megabytes": round((folder / model / "model.onnx").stat().st_size / 1e6, 2),
            "apps": len(loaded.apps),
        }

    return {model: one(model) for model in all_recipes()}


def run_in(network: Model, pictures: np.ndarray, size: int) -> None:
    for start in range(0, len(pictures), size):
        network.predict_inputs(pictures[start : start + size])


if __name__ == "__main__":
    main()
