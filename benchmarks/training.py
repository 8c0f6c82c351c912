"""How fast the paper's network learns here, and that the fast ways learn the same. JSON to stdout.

    python benchmarks/training.py [--flows 1280] [--compile]

Speed: flows a second of a plain PyTorch loop in float32, of apptell in float32 and in bfloat16, each
as a share of what the measured float32 matrix-product rate would allow (three forward passes' worth
of arithmetic a flow). Same result: accuracy on flows not learned from, of float32 and bfloat16 over
several seeds, on a task of byte patterns at noisy places.
"""

from __future__ import annotations

import argparse
import json
import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from apptell.learning.training import BATCH, predict, train_network
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
    return len(x) // BATCH * BATCH / timed(epoch)


def ours(images: np.ndarray, targets: np.ndarray, precision: str) -> float:
    """Flows a second of apptell's training, the second epoch."""
    _, history = train_network(images, targets, 6, epochs=2, device="cpu", precision=precision)
    return len(images) / history.rows[1]["seconds"]


def patterns(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Six apps: a pattern of 12 bytes each, twice, at random places of random bytes; 5 % mislabelled."""
    marks = np.random.default_rng(99).integers(0, 256, (6, 12), dtype=np.uint8)
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, 87 * 87), dtype=np.uint8)
    targets = random.integers(0, 6, n)
    for image, target in zip(images, targets, strict=True):
        for at in random.integers(0, 1500, 2):
            image[at : at + 12] = marks[target]
        image[3000:] = 0
    wrong = random.random(n) < 0.05
    targets[wrong] = random.integers(0, 6, int(wrong.sum()))
    return images.reshape(-1, 87, 87), targets.astype(np.int64)


def accuracies(precision: str, seeds: int, epochs: int, n: int) -> list[float]:
    """Accuracy on new flows, one a seed."""
    learn, test = patterns(n, 1), patterns(600, 2)
    found = []
    for seed in range(seeds):
        network, _ = train_network(
            *learn, 6, epochs=epochs, seed=seed, device="cpu", precision=precision
        )
        found.append(round(float((predict(network, test[0]).argmax(1) == test[1]).mean()), 4))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--flows", type=int, default=1280)
    parser.add_argument("--compile", action="store_true", help="also time torch.compile")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--learn", type=int, default=1500)
    given = parser.parse_args()
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
            precision: accuracies(precision, given.seeds, given.epochs, given.learn)
            for precision in ("float32", "bfloat16")
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
