"""The network beside the same network in Keras, which is not a dependency.

APPTELL_KERAS_PYTHON names an interpreter that has Keras; without it, this one is tried.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from apptell.learning.convolutional import PaperNetwork

SCRIPT = Path(__file__).with_name("keras_network.py")
PYTHON = os.environ.get("APPTELL_KERAS_PYTHON") or (
    sys.executable if importlib.util.find_spec("keras") else None
)


@pytest.mark.oracle
@pytest.mark.skipif(PYTHON is None, reason="no Keras; name an interpreter in APPTELL_KERAS_PYTHON")
def test_the_network_and_a_step_of_its_training_are_those_of_keras(tmp_path):
    torch.manual_seed(0)
    network = PaperNetwork(6).eval()  # dropout would draw other numbers in Keras
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.05)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 87, 87), dtype=np.uint8)
    targets = random.integers(0, 6, 64)
    state = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    np.savez(tmp_path / "in.npz", images=images, targets=targets, **state)
    subprocess.run([PYTHON, str(SCRIPT), "in.npz", "out.npz"], cwd=tmp_path, check=True)
    keras = np.load(tmp_path / "out.npz")

    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0, rho=0.95, eps=1e-7)
    scores = network(torch.from_numpy(images))
    functional.cross_entropy(scores, torch.from_numpy(targets)).backward()
    optimizer.step()

    found = functional.softmax(scores.detach(), dim=1).numpy()
    difference = {"probabilities": float(np.abs(found - keras["probabilities"]).max())}
    moved = {}
    for name, tensor in network.state_dict().items():
        difference[name] = float(np.abs(tensor.numpy() - keras[name]).max())
        moved[name] = float(np.abs(tensor.numpy() - state[name]).max())
    print(difference, moved)
    assert int(keras["parameters"]) == 3_296_518
    assert difference.pop("probabilities") < 1e-5
    assert max(difference.values()) < 1e-4
    assert min(moved.values()) > 1e-3  # the step was no small one
