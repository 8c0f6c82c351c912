"""A model of another distribution: a module with a recipe, and an entry point that names it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = '''
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from apptell.learning import Recipe
from apptell.learning.export import onnx_model


class Centroids:
    """The class whose mean sizes of the first payload packets are nearest."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        means = np.stack([X[y == app].mean(axis=0) for app in self.classes_])
        self.slope, self.offset = (2 * means.T).astype("f4"), -(means**2).sum(axis=1).astype("f4")
        return self

    def predict_proba(self, X):
        scores = X @ self.slope + self.offset
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def to_onnx(self):
        nodes = [
            helper.make_node("Gemm", ["inputs", "slope", "offset"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ]
        weights = [numpy_helper.from_array(self.slope, "slope"),
                   numpy_helper.from_array(self.offset, "offset")]
        inputs = helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["n", len(self.slope)])
        return onnx_model("centroids", nodes, inputs, len(self.classes_), weights)


RECIPE = Recipe(
    name="centroids",
    inputs="lengths",
    description="The nearest mean of signed lengths.",
    make=lambda options: Centroids(),
    options=("packets",),
)
'''


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the distribution is installed."""
    (tmp_path / "centroids.py").write_text(PLUGIN)
    about = tmp_path / "centroids-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: centroids\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[apptell.models]\ncentroids = centroids:RECIPE\nbroken = centroids:NOTHING\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    return {**os.environ, "PYTHONPATH": path}


def run(program: str, environment: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment, cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_model_of_another_distribution_is_trained_saved_and_loaded(
    installed: dict[str, str], tmp_path: Path
) -> None:
    assert len(PLUGIN.strip().splitlines()) < 60
    program = """
import json, apptell
from apptell.testing import flow_batch
flows = flow_batch(["signal", "zoom"] * 20)
trained = apptell.train(flows, "centroids", out="model", split="source")
loaded = apptell.load_model("model")
print(json.dumps([loaded.name, loaded.apps, trained.test.accuracy]))
"""
    done = run(program, installed, tmp_path)
    assert done.returncode == 0, done.stderr
    name, apps, accuracy = json.loads(done.stdout)
    assert (name, apps) == ("centroids", ["signal", "zoom"])
    assert accuracy > 0.8


def test_a_broken_entry_point_is_one_clear_error_and_harms_no_other_model(
    installed: dict[str, str], tmp_path: Path
) -> None:
    program = """
from apptell.errors import MissingError
from apptell.learning.registry import recipe_names, recipe_of
print(recipe_of("paper-rf").name, {"broken", "centroids"} <= set(recipe_names()))
try:
    recipe_of("broken")
except MissingError as error:
    print(error)
"""
    done = run(program, installed, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "paper-rf True"
    assert second.startswith("the model broken (centroids:NOTHING) cannot be loaded: ")
