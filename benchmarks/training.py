"""How fast the paper's network learns here, and that the fast ways learn the same. JSON to stdout.

    python benchmarks/training.py [--flows 1280] [--compile]

Speed: flows a second of a plain PyTorch loop in float32, of apptell in float32 and in bfloat16, each
as a share of what the measured float32 matrix-product rate would allow (three forward passes' worth
of arithmetic a flow). Same result: accuracy of float32 and bfloat16 on the embedded recording that
neither learned from, over several seeds, and how far the two are apart beside how far seeds are.
All on one thread and by processor time with APPTELL_CPU_TIME=1, for machines that others use too.
"""

from __future__ import annotations

import argparse
import json
import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from apptell.learning.make_default import read_samples
from apptell.learning.network_training import BATCH, predict, train_network
from apptell.learning.task import Task
from machine import machine, network_mflop, random_images, timed


def plain_loop(images: np.ndarray, targets: np.ndarray, *, compiled: bool) -> float:
    """Flows a second of the textbook loop: Table 2 as nn.Sequential, float32, nothing else."""
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()),
        *(nn.Linear(25600, 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, 6)),
    )
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0, rho=0.95, eps=1e-7)
    forward = torch.compile(network) if compiled else network
    x, y = torch.from_numpy(images), torch.from_numpy(targets)

    def epoch() -> None:
        for start in range(0, len(x) - BATCH + 1, BATCH):
            pixels = x[start : start + BATCH, None].float() / 255
            loss = functional.cross_entropy(forward(pixels), y[start : start + BATCH])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    epoch()  # warm up, compile
    return float(len(x) // BATCH * BATCH / timed(epoch))


def ours(images: np.ndarray, targets: np.ndarray, precision: str) -> float:
    """Flows a second of apptell's training: what two more epochs take."""

    def train(epochs: int) -> float:
        return float(
            timed(
                lambda: train_network(
                    images, targets, 6, epochs=epochs, device="cpu", precision=precision
                )
            )
        )

    train(1)
    return 2 * len(images) / (train(3) - train(1))


def accuracies(precision: str, seeds: int, epochs: int, held: str) -> list[float]:
    """Accuracy on the flows of the recording ``held``, learned from the others, one a seed."""
    flows, apps, recordings = read_samples()
    images = Task("paper-cnn").encode(flows)
    names, targets = np.unique(apps, return_inverse=True)
    test = recordings == held
    found = []
    for seed in range(seeds):
        network, _ = train_network(
            images[~test],
            targets[~test],
            len(names),
            epochs=epochs,
            seed=seed,
            device="cpu",
            precision=precision,
        )
        right = predict(network, images[test]).argmax(1) == targets[test]
        found.append(round(float(right.mean()), 4))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--flows", type=int, default=1280)
    parser.add_argument("--compile", action="store_true", help="also time torch.compile")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--held", default="day2-cafe-android-like", help="recording to test on")
    given = parser.parse_args()
    if os.environ.get("APPTELL_CPU_TIME"):
        torch.set_num_threads(1)
    images = random_images(given.flows)
    targets = np.random.default_rng(1).integers(0, 6, given.flows)
    host = machine()
    threads = torch.get_num_threads()
    limit = host["gemm_gflop_per_s"][f"float32_{threads}_threads"] * 1e3 / (3 * network_mflop())
    speeds = {
        "plain PyTorch, float32": plain_loop(images, targets, compiled=False),
        "apptell, float32": ours(images, targets, "float32"),
        "apptell, bfloat16": ours(images, targets, "bfloat16"),
    }
    if given.compile:
        speeds["plain PyTorch, float32, torch.compile"] = plain_loop(images, targets, compiled=True)
    result = {
        "machine": host,
        "threads": threads,
        "load": os.getloadavg()[0],
        "float32_arithmetic_limit_flows_per_s": round(limit),
        "training": {
            name: {"flows_per_s": round(speed), "share_of_float32_limit": round(speed / limit, 3)}
            for name, speed in speeds.items()
        },
        "paper_size_100_epochs_hours": round(
            44853 * 0.8 * 100 / speeds["apptell, bfloat16"] / 3600, 2
        ),
        "accuracy_by_seed": {
            precision: accuracies(precision, given.seeds, given.epochs, given.held)
            for precision in ("float32", "bfloat16")
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
