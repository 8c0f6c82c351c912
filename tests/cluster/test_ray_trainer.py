"""A comparison whose models are trained on Ray gives what one process gives, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apptell.cluster import RayTrainer
from apptell.dataset import folds
from apptell.errors import DatasetError
from apptell.experiments.out_of_fold import compare_models
from apptell.experiments.plan import Plan, plan_of
from apptell.experiments.trial_cache import Trial, TrialResult
from apptell.learning.task import Task
from apptell.testing import flow_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apptell.experiments.out_of_fold import Outcome

pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("sklearn", reason="the training libraries are not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
MODELS = ("paper-rf", "name-lookup", "nearest-neighbour")


def outcomes(cache: Path, trainer: Any = None) -> list[Outcome]:
    labels = ["signal" if i % 2 else "zoom" for i in range(48)]
    flows = flow_batch(labels, groups=[{"source": f"s{i // 2 % 8}"} for i in range(48)])
    plan: Plan = plan_of(flows, folds(flows, "source", 2), 0, 2)
    return list(
        compare_models(
            flows, labels, [plan], MODELS, epochs=1, device="cpu", cache=cache, trainer=trainer
        )
    )


@pytest.mark.slow
def test_the_numbers_are_those_of_one_process(tmp_path: Path, cluster: Any) -> None:
    lines: list[str] = []
    on_ray = outcomes(tmp_path / "ray", RayTrainer("auto", lines.append))
    alone = outcomes(tmp_path / "alone")
    assert len(on_ray) == len(alone) > len(MODELS)
    for one, other in zip(on_ray, alone, strict=True):
        assert (one.model, one.names) == (other.model, other.names)
        for seed, same in zip(one.seeds, other.seeds, strict=True):
            np.testing.assert_array_equal(seed.rows, same.rows)
            np.testing.assert_array_equal(seed.probabilities, same.probabilities)
            for inner, as_well in zip(seed.held, same.held, strict=True):
                np.testing.assert_array_equal(inner[1], as_well[1])
    names = {file.name for file in (tmp_path / "alone").iterdir()}
    assert {file.name for file in (tmp_path / "ray").iterdir()} == names
    assert len(lines) == len(names)  # every training was done ahead, and once
    again: list[str] = []
    outcomes(tmp_path / "ray", RayTrainer("auto", again.append))
    assert again == []


@dataclass(frozen=True, slots=True)
class _KilledTrial(Trial):
    """A training whose worker dies at its first attempt."""

    flag: str = ""

    def run(self, progress: Any = None, checkpoint: Any = None) -> TrialResult:
        """Dies once, then trains."""
        if not Path(self.flag).exists():
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Trial.run(self, progress, checkpoint)


def _inputs(n: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    apps = np.array(["signal", "zoom"] * (n // 2))
    return (apps == "zoom")[:, None].astype(np.float32) * np.ones(35, np.float32), apps


@pytest.mark.slow
def test_a_training_whose_worker_is_killed_is_repeated(tmp_path: Path, cluster: Any) -> None:
    inputs, apps = _inputs(40)
    trial = _KilledTrial(Task("paper-rf"), inputs, apps, inputs, flag=str(tmp_path / "died"))
    RayTrainer("auto")(iter([trial]), tmp_path / "cache")
    assert (tmp_path / "died").exists()
    kept = trial.kept(tmp_path / "cache")
    assert kept is not None
    assert (np.array(kept.apps)[kept.probabilities.argmax(axis=1)] == apps).all()


def test_a_side_of_one_app_is_refused_as_on_one_machine(tmp_path: Path, cluster: Any) -> None:
    def trials() -> Iterator[Trial]:
        inputs, apps = _inputs(4)
        yield Trial(Task("paper-rf"), inputs, np.full(len(apps), "zoom"), inputs)

    with pytest.raises(DatasetError, match="has only one app, zoom"):
        RayTrainer("auto")(trials(), tmp_path / "cache")
