"""Trains the paper's network on a GPU: how long its 100 epochs take, and that it learns what a CPU learns.

    python benchmarks/gpu.py [--limit 120]

It takes less than four minutes, for a machine that is rented by the minute. Time: all epochs at the
paper's size (35,882 flows, 80 % of its 44,853) on noise, or, if that would take longer than ``--limit``
seconds, as many as fit, which the result says. Same result: accuracy on the embedded recording that was not
learned from, after a few epochs, by seed, on the GPU and on the CPU. JSON to stdout. Without a GPU it ends
with a message.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
import torch

from apptell.errors import MissingError
from apptell.learning.make_default import read_samples
from apptell.learning.network_training import device_of, predict, train_network
from apptell.learning.task import Task
from machine import random_images

N_FLOWS, N_APPS = 35_882, 6


def main() -> None:
    """Measures both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--flows", type=int, default=N_FLOWS)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds of the long training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--few", type=int, default=10, help="epochs of the trainings that are compared"
    )
    parser.add_argument("--held", default="day2-cafe-android-like", help="recording to test on")
    given = parser.parse_args()
    try:
        place = device_of(given.device)
    except MissingError as error:
        sys.exit(str(error))
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
    result = {
        "device": name,
        "torch": torch.__version__,
        "training": long_training(given),
        "accuracy_by_seed": {
            each: accuracies(each, given) for each in dict.fromkeys((given.device, "cpu"))
        },
    }
    print(json.dumps(result, indent=1))


def long_training(given: argparse.Namespace) -> dict[str, object]:
    """Seconds of the epochs at the paper's size, or of as many as fit."""
    images = random_images(given.flows)
    targets = np.random.default_rng(1).integers(0, N_APPS, given.flows)

    def train(epochs: int) -> float:
        began = time.perf_counter()
        train_network(images, targets, N_APPS, epochs=epochs, device=given.device)
        return time.perf_counter() - began

    train(1)  # chooses kernels, and loads libraries
    one = train(1)
    epochs = max(1, min(given.epochs, int(given.limit / one)))
    seconds = train(epochs)
    return {
        "flows": given.flows,
        "epochs": epochs,
        "of": given.epochs,
        "seconds": round(seconds, 1),
        "flows_per_s": round(given.flows * epochs / seconds),
    }


def accuracies(device: str, given: argparse.Namespace) -> list[float]:
    """Accuracy on the recording that was held out, one for each seed."""
    flows, apps, recordings = read_samples()
    images = Task("paper-cnn").encode(flows)
    names, targets = np.unique(apps, return_inverse=True)
    test = recordings == given.held
    found = []
    for seed in range(given.seeds):
        network, _ = train_network(
            images[~test], targets[~test], len(names), epochs=given.few, seed=seed, device=device
        )
        right = predict(network, images[test]).argmax(axis=1) == targets[test]
        found.append(round(float(right.mean()), 4))
    return found


if __name__ == "__main__":
    main()
