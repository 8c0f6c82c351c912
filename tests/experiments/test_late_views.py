"""Late views in training, and labels that come from names: nothing leaks, nothing is counted twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import apptell
from apptell.dataset.classes import Classes
from apptell.dataset.splits import split
from apptell.errors import DatasetError, UsageError
from apptell.experiments.labelled import labelled_flows, late_views_of
from apptell.experiments.promise import promise_precision
from apptell.flows.schema import FlowBatch
from apptell.learning.task import Task
from apptell.testing import flow_batch

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {"split": "source", "hyperparameters": {"n_trees": 5}}


def _flows(n: int = 40, sources: int = 8) -> FlowBatch:
    groups = [{"source": f"s{i // 2 % sources}"} for i in range(n)]
    return flow_batch(["signal" if i % 2 else "zoom" for i in range(n)], groups=groups)


def _with_views(flows: FlowBatch, per_flow: int = 2) -> FlowBatch:
    """The flows, and behind them late views of each; a view has the label that its flow has."""
    views = flows.with_columns(part_of=flows.column("connection_id"))
    return FlowBatch.concat([flows.with_columns(part_of=[None] * len(flows)), *[views] * per_flow])


def _by_names(flows: FlowBatch) -> FlowBatch:
    return flows.with_columns(label_from=["names"] * len(flows))


def test_late_views_are_no_flows_to_measure_on_and_follow_their_connection_to_one_side() -> None:
    both = _with_views(_flows())
    chosen = labelled_flows(both)
    assert len(chosen) == 40
    late = late_views_of(both, chosen, Classes())
    sides = split(chosen.flows, "source", seed=1)
    learned = late.of(sides.train)
    assert len(learned) == 2 * len(sides.train)
    ids = chosen.flows.numpy("connection_id")
    assert not set(learned.flows.column("part_of").to_pylist()) & set(ids[sides.test].tolist())
    within = late.within(sides.train)
    parents = chosen.take(sides.train).flows.numpy("connection_id")[within.of_row]
    assert parents.tolist() == within.views.flows.column("part_of").to_pylist()
    whole = split(both, "source", seed=1)  # a split of all rows keeps a connection together too
    ids = both.numpy("connection_id")
    assert not set(ids[whole.train].tolist()) & set(ids[whole.test].tolist())


def test_a_model_learns_from_late_views_on_request_and_is_measured_on_flows_alone() -> None:
    both = _with_views(_flows())
    trained = apptell.train(both, "sequence", views="late", **SETTINGS)
    n = len(trained.split.train)
    assert trained.model.info["data"]["late_views"] == 2 * n
    assert trained.model.info["data"]["flows"] == 3 * n
    assert trained.test is not None
    assert len(trained.test.flows) == 40 - n
    assert len(apptell.evaluate(trained.model, both).flows) == 40
    without = apptell.train(both, "sequence", **SETTINGS)
    assert without.model.info["data"]["flows"] == n


def test_held_out_folds_of_a_promise_learn_from_no_view_of_what_they_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each view has its flow's inputs: one that leaked would be found again among what was learned from."""
    both = _with_views(_flows())
    chosen = labelled_flows(both)
    late = late_views_of(both, chosen, Classes())
    random = np.random.default_rng(0).random((40, 4))
    monkeypatch.setattr(
        Task,
        "encode",
        lambda _self, flows, **_how: random[
            np.searchsorted(
                np.sort(chosen.flows.numpy("connection_id")), flows.flows.numpy("connection_id")
            )
        ],
    )
    seen = []
    from apptell.experiments import promise

    run_trial = promise.run_trial

    def watched(task, learned, apps, tested, *more):  # type: ignore[no-untyped-def]
        seen.append(set(map(tuple, learned.tolist())) & set(map(tuple, tested.tolist())))
        assert len(learned) == 3 * (40 - len(tested)) == len(apps)
        return run_trial(task, learned, apps, tested, *more)

    monkeypatch.setattr(promise, "run_trial", watched)
    task = Task("sequence", hyperparameters={"n_trees": 5})
    apps = Classes().of(chosen.flows)
    promise_precision(chosen, apps, task, 0.5, method="source", n_folds=3, late=late)
    assert seen == [set()] * 3


def test_a_comparison_learns_from_late_views_of_the_training_sides_and_tests_flows_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from apptell.experiments import out_of_fold

    sizes = []
    run_trial = out_of_fold.run_trial

    def watched(task, learned, apps, tested, *more):  # type: ignore[no-untyped-def]
        sizes.append((task.model, len(learned), len(tested)))
        assert len(learned) == len(apps) == len(more[-1])
        return run_trial(task, learned, apps, tested, *more)

    monkeypatch.setattr(out_of_fold, "run_trial", watched)
    both = _with_views(_flows())
    options = {"only": True, "folds": 2, "held_out": 0}
    found = apptell.compare(both, ["fast", "paper-rf"], views="late", **options)
    assert found.facts["late_views"] == 80
    assert {model.n_flows for model in found.models} == {40}
    for model, n_learned, n_tested in sizes:
        assert n_learned == (40 - n_tested) * (3 if model == "fast" else 1)
    with pytest.raises(UsageError, match="none of these models learns from late views"):
        apptell.compare(both, ["paper-rf"], views="late", **options)
    with pytest.raises(UsageError, match="neither 'late' nor 'none'"):
        apptell.compare(both, ["fast"], views="later", **options)


def test_what_cannot_learn_late_views_says_so() -> None:
    with pytest.raises(UsageError, match="available: fast, fusion, sequence"):
        apptell.train(_flows(), "paper-rf", views="late")
    with pytest.raises(UsageError, match="neither 'late' nor 'none'"):
        apptell.train(_flows(), "sequence", views="later")
    with pytest.raises(DatasetError, match="no late views"):
        apptell.train(_flows(), "sequence", views="late", split="source")


def test_names_are_masked_where_labels_come_from_names_unless_they_are_asked_for() -> None:
    said: list[str] = []
    trained = apptell.train(_by_names(_flows()), "fast", split="source", notify=said.append)
    assert trained.model.info["learned"]["names"] == "masked"
    assert trained.model.info["data"]["name_labels_share"] == 1.0
    assert any("names masked" in sentence for sentence in said)
    said.clear()
    named = apptell.train(
        _by_names(_flows()), "fast", names="on", split="source", notify=said.append
    )
    assert named.model.info["learned"]["names"] == "on"
    assert any("learns to repeat them" in sentence for sentence in said)
    assert apptell.train(_flows(), "fast", split="source").model.info["learned"]["names"] is None
    with pytest.raises(UsageError, match="bytes-1d reads names in the payload"):
        apptell.train(_by_names(_flows()), "bytes-1d", split="source")


def test_figures_on_labels_by_names_say_so_first(tmp_path: Path) -> None:
    flows = _by_names(_flows())
    model = apptell.train(flows, "sequence", **SETTINGS).model
    found = apptell.evaluate(model, flows)
    found.write_report(tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert list(metrics)[:3] == ["model", "name_labels_share", "labels_warning"]
    assert "100% of these labels come from server names" in page
    assert "labels_warning" not in apptell.evaluate(model, _flows()).to_json()
    compared = apptell.compare(
        flows, ["sequence"], only=True, folds=2, held_out=0, out=tmp_path / "compared"
    )
    assert next(iter(compared.to_json())) == "name_labels_share"
    pages = list((tmp_path / "compared").rglob("report.html"))
    assert len(pages) >= 2
    for path in pages:
        assert "100% of these labels" in path.read_text(), path
