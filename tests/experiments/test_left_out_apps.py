"""Apps left out of training: their flows are recognised, and the figures are in the report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import apptell
from apptell.dataset.classes import Classes
from apptell.dataset.selection import Selection
from apptell.errors import UsageError
from apptell.experiments.left_out_apps import evaluate_without
from apptell.learning.task import Task
from apptell.testing import flow_batch, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

APPS = ["briar", "matrix", "signal", "zoom"]
SMALL = {"n_trees": 5}


def flows() -> Selection:
    groups = [{"source": f"s{i // 4 % 5}"} for i in range(120)]
    return Selection.of(flow_batch(APPS * 30, groups=groups))


def test_flows_of_an_app_that_was_left_out_are_recognised() -> None:
    task = Task("paper-rf", hyperparameters=SMALL)
    found = evaluate_without(task, flows(), Classes(), ["signal"], split="source")
    assert found.apps == ("briar", "matrix", "zoom")
    assert found.open_set is not None
    assert found.open_set.unknown == 30  # all of them, from the training side too
    assert found.open_set.known < 30
    assert found.open_set.auroc > 0.8
    assert found.evaluation.unknown_apps == ("signal",)
    assert found.to_json()["unknown"]["caught_by_app"].keys() == {"signal"}


def test_an_app_that_the_dataset_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="no flow of 'telegram'"):
        evaluate_without(Task("paper-rf"), flows(), Classes(), ["telegram"], split="source")


def test_evaluate_trains_the_model_s_recipe_again_without_the_apps(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", APPS)
    found = apptell.evaluate(model, flows(), unlearned=["zoom"], split="source")
    assert found.apps == ("briar", "matrix", "signal")
    assert found.facts["unlearned"] == ["zoom"]


def test_a_comparison_has_a_table_of_apps_that_were_left_out(tmp_path: Path) -> None:
    found = apptell.compare(
        flows(), ["lengths-rf"], only=True, folds=2, held_out=0, unlearned=["zoom"],
        out=tmp_path / "report",
    )  # fmt: skip
    (one,) = found.left_out
    assert (one.model, one.app, one.figures.unknown) == ("lengths-rf", "zoom", 30)
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert metrics["unlearned"][0]["app"] == "zoom"
    assert np.isclose(metrics["unlearned"][0]["caught"], one.figures.caught, atol=1e-3)
    assert "Apps that were not learned" in (tmp_path / "report" / "report.html").read_text()
