"""A model that was trained to recognise unknown apps notices a planted one, and leaves its own apps alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apptell.errors import UsageError
from apptell.learning import train_model
from apptell.learning.detector_training import fit_detector
from apptell.learning.labelled_inputs import LabelledInputs
from apptell.learning.task import Task
from apptell.models import load_model
from apptell.testing import flow_batch
from apptell.verdicts import ContextOptions, RollingContext, identify_flows, whole_context

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.models import Model

APPS = ["briar", "matrix", "signal", "zoom"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unknown") / "model"
    labels = APPS * 30
    flows = flow_batch(labels).with_columns(ja4=["t13d"] * len(labels))
    train_model(
        flows, labels, model="paper-rf", ports=False, out=path, hyperparameters={"n_trees": 10},
        unknown=True,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder)


def outcomes(model: Model, app: str, unknown: float | None = 0.05) -> list[str]:
    flows = flow_batch([app] * 40, seed=5000)
    (verdicts,) = identify_flows([flows], model, 0.5, unknown=unknown)
    return verdicts.column("outcome").to_pylist()


def test_a_planted_unknown_app_is_called_unknown_and_known_apps_are_named(model: Model) -> None:
    assert outcomes(model, "newcomer").count("unknown") > 30
    for app in APPS:
        found = outcomes(model, app)
        assert found.count("unknown") <= 6, app
        assert found.count("named") >= 34, app


def test_without_a_rate_nothing_is_called_unknown_and_no_rank_is_given(model: Model) -> None:
    assert "unknown" not in outcomes(model, "newcomer", None)
    (verdicts,) = identify_flows([flow_batch(["newcomer"])], model)
    assert verdicts.column("p_unknown").to_pylist() == [None]


def test_an_unknown_flow_has_no_app_and_keeps_the_model_s_best_guess(model: Model) -> None:
    flows = flow_batch(["newcomer"] * 20)
    (verdicts,) = identify_flows([flows], model, 0.0, unknown=0.05)
    unknown = [verdict for verdict in verdicts if verdict.outcome == "unknown"]
    assert unknown
    for verdict in unknown:
        assert verdict.app is None
        assert verdict.evidence is None
        assert verdict.best_guess in APPS
        assert verdict.p_unknown > 0.9


@pytest.mark.parametrize("kind", ["whole", "rolling"])
def test_in_context_every_flow_of_an_unknown_app_s_client_is_called_unknown(
    model: Model, kind: str
) -> None:
    options = ContextOptions(30.0)
    for app, expected in (("newcomer", True), ("zoom", False)):
        flows = flow_batch([app] * 40, seed=5000)
        around: Any = whole_context(options, model)
        if kind == "rolling":
            around = RollingContext(options, model.prior)
        parts = [flows.take(np.arange(i, i + 10)) for i in range(0, 40, 10)]
        batches = identify_flows(parts, model, 0.5, unknown=0.05, context=around)
        found = [verdict.outcome == "unknown" for batch in batches for verdict in batch]
        assert len(found) == 40
        assert sum(found[5:]) >= 34 if expected else sum(found) <= 4, app


def test_early_verdicts_are_never_unknown_and_no_context_of_others(model: Model) -> None:
    flows = flow_batch(["newcomer"] * 10)
    around = RollingContext(ContextOptions(30.0), model.prior)
    asked: Any = {"unknown": 0.05, "context": around}
    (early,) = identify_flows([flows], model, 0.5, early=True, **asked)
    assert early.column("p_unknown").null_count == 10
    assert "unknown" not in early.column("outcome").to_pylist()
    (due,) = identify_flows([flows], model, 0.5, **asked)
    assert due.column("context_flows").to_pylist()[0] == 0
    assert "unknown" in due.column("outcome").to_pylist()


def test_the_rank_of_a_flow_does_not_depend_on_the_flows_beside_it(model: Model) -> None:
    flows = flow_batch([*APPS, "newcomer"] * 30, seed=77)
    together = model.predict_with_unknown(flows).p_unknown
    alone = [model.predict_with_unknown(flows.take(np.array([i]))).p_unknown[0] for i in range(40)]
    np.testing.assert_array_equal(together[:40], alone)


def test_a_new_tls_stack_is_marked_and_a_known_one_is_not(model: Model) -> None:
    flows = flow_batch(["zoom"] * 3).with_columns(ja4=["t13d", "never seen", None])
    (verdicts,) = identify_flows([flows], model)
    assert verdicts.column("stack").to_pylist() == ["known", "new", None]


def test_the_folder_says_what_was_realised_on_held_out_groups(model: Model) -> None:
    facts = model.info["unknown"]
    assert facts["flows"] == 120
    assert facts["groups"] == 5
    assert facts["realised"]["0.05"] <= 0.15
    assert facts["simulated"]["caught_at_0.05"] > 0.5


def test_a_model_that_was_trained_without_says_that_it_cannot(tmp_path: Path) -> None:
    labels = ["signal", "zoom"] * 10
    plain = train_model(
        flow_batch(labels), labels, model="paper-rf", ports=False, out=tmp_path / "plain",
        hyperparameters={"n_trees": 2},
    )  # fmt: skip
    with pytest.raises(UsageError, match="cannot recognise unknown apps"):
        list(identify_flows([flow_batch(labels)], plain, unknown=0.05))
    with pytest.raises(UsageError, match="recognised by a model"):
        list(identify_flows([flow_batch(labels)], None, unknown=0.05))


def test_models_on_tokens_compare_flows_with_reference_flows() -> None:
    task = Task("fast")
    labels = np.array(APPS * 10)
    flows = flow_batch(labels.tolist())
    inputs = task.encode(flows, views=True)
    sizes = np.zeros((len(labels), 5), np.float32)
    groups = np.array([f"s{i // 4 % 4}" for i in range(len(labels))])
    found = fit_detector(task, LabelledInputs(inputs, labels, sizes, groups), n_folds=2)
    neighbours = found.detector.description.neighbours
    assert neighbours is not None
    assert neighbours.similarity(inputs[:, 0]).min() > 0.99  # each is a reference flow itself
    strange = task.encode(flow_batch(["newcomer"] * 5))
    assert neighbours.similarity(strange).max() < 0.9
