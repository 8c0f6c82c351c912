"""Compares models on the same folds of a dataset, and writes a report."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.dataset.classes import Classes
from apptell.dataset.groups import days
from apptell.dataset.selection import Selection
from apptell.dataset.splits import method_of
from apptell.dataset.store import Dataset
from apptell.errors import DatasetError, UsageError
from apptell.evaluation import slices_of
from apptell.evaluation.pooled import measure_pooled
from apptell.experiments.by_evidence import EvidenceOfFlows, check_asked
from apptell.experiments.circularity import WARNING, warning_facts
from apptell.experiments.evaluate import example_images, hash_of, name_of
from apptell.experiments.labelled import labelled_flows, late_views_of, open_flows
from apptell.experiments.left_out_apps import COLUMNS, LeftOutApp, leave_out_each, section_of
from apptell.experiments.out_of_fold import (
    Outcome,
    compare_models,
    learns_late_views,
    models_of,
)
from apptell.experiments.plan import plan_seeds, save_plans
from apptell.experiments.verdict_table import VerdictTable
from apptell.learning.task import Task
from apptell.reports.comparison import ComparedModel, model_text, models_json, write_overview
from apptell.reports.evaluation import write_report
from apptell.reports.report_files import check_report_folder
from apptell.verdicts import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apptell.dataset.splits import Split
    from apptell.experiments.labelled import Flows
    from apptell.experiments.trial_cache import Trainer
    from apptell.flows.schema import FlowBatch


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several models on one split, each with server names on and masked.

    Example:
        >>> found = apptell.compare("dataset/", ["paper-rf"], only=True, folds=2, held_out=0)
        >>> found.facts["split"], found["paper-rf", "on"].n_flows
        ('source', 40)
    """

    models: tuple[ComparedModel, ...]
    """The figures of each, in the order in which they were trained."""
    facts: dict[str, Any]
    """The parameters of the comparison: dataset, split, folds, epochs, seeds, apps."""
    left_out: tuple[LeftOutApp, ...] = ()
    """How well each model recognises each app that it did not learn; empty where that was not asked."""

    def __repr__(self) -> str:
        names = dict.fromkeys(each.model for each in self.models)
        return f"<Comparison of {', '.join(names)}>"

    def __getitem__(self, key: tuple[str, str]) -> ComparedModel:
        """The figures of a model by its name and ``on`` or ``masked``."""
        for model in self.models:
            if (model.model, model.names) == key:
                return model
        raise KeyError(key)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, as ``metrics.json`` holds them."""
        found = {**self.facts, "models": models_json(self.models)}
        if self.left_out:
            found["unlearned"] = [
                dict(zip(COLUMNS, each.row, strict=True)) for each in self.left_out
            ]
        return found


def compare(
    dataset: Flows,
    models: Sequence[str] = (),
    *,
    only: bool = False,
    split: str | Path = "source",
    test: Flows | None = None,
    folds: int = 5,
    seed: int = 0,
    seeds: int = 1,
    held_out: int = 3,
    epochs: int = 100,
    apps: Sequence[str] | None = None,
    packets: int | None = None,
    device: str = "auto",
    level: str = "app",
    system: str = "other",
    unlearned: Sequence[str] = (),
    views: str | None = None,
    evidence: str | None = None,
    catalogue: Sequence[str | Path] = (),
    out: str | Path | None = None,
    cache: str | Path | None = None,
    command: str = "",
    trainer: Trainer | None = None,
    progress: Callable[[float, str], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Comparison:
    """Trains and tests several models on one split, server names on and masked.

    The paper's network, its forest without ports, a nearest neighbour and a lookup of the server names in
    the training data are always included. An interrupted comparison that is called again with the same
    cache continues where it stopped.

    Args:
        dataset: a dataset or its folder, or some flows of one.
        models: names of recipes.
        only: only the given models, without these four.
        split: folds by this split, or the one split of a file.
        test: learn from all of the dataset and test on these flows instead.
        folds: folds of a split by name.
        seed: the first seed.
        seeds: number of consecutive seeds, each with its own folds and trainings.
        held_out: folds within each training side of the first seed, on which temperature and thresholds are
            chosen; 0 for none.
        epochs: passes over the training flows, for models that learn in passes.
        apps: only flows of these apps (default: all).
        packets: payload packets that models on lengths use (default: their own number).
        device: ``auto``, ``cpu`` or ``cuda``.
        level: ``app`` or ``activity``.
        system: the class of the phone's own traffic: ``other``, ``system``, or ``drop`` to leave it out.
        unlearned: train each of the given models without each of these apps in turn (only ``each``: without
            every app), and measure how well its flows are recognised as unknown when 5 % of the flows of
            known apps may be called unknown. Without models, the paper's forest is used.
        views: ``late`` also learns from later packets of the training sides' connections, where the dataset has
            them, in the models that can; nothing is measured on them.
        evidence: also measure these kinds of evidence, and each model after them at a threshold of 0.85: of
            ``name``, ``dns``, ``range`` and ``model``, separated by commas (default: only the models; the
            catalogue is not read).
        catalogue: files with rows that are added to the catalogue, for evidence.
        out: the report's folder (default: none is written). Each model has a page and a table of its
            verdicts there, written as soon as the model is done.
        cache: folder of the results of trainings, by their hash (default: in the report's folder; without
            one, results are not kept).
        command: the command that creates the report again, for its pages.
        trainer: trains all models ahead, such as ``cluster.RayTrainer``; default: one after the other.
        progress: called with the share done, 0 to 1, and a description.
        notify: called with notices, one sentence each.

    Raises:
        DatasetError: there are too few flows, groups or apps.
        UsageError: there is no such model, split, level or app, or a model reads payload and the flows have
            none.
        MissingError: the training libraries are not installed.
        OutputError: the report or the cache cannot be written.

    Example:
        >>> found = apptell.compare("dataset/", ["paper-rf"], only=True, folds=2, held_out=0)
        >>> [(model.model, model.names) for model in found.models]
        [('paper-rf', 'on'), ('paper-rf', 'masked')]
        >>> found["paper-rf", "masked"].measured.result.scores.accuracy > 0.8
        True
    """
    classes = Classes(level, system)
    if unlearned and test is not None:
        raise UsageError("apps are left out of a split of one dataset: give no dataset to test on")
    check_asked(evidence, catalogue)
    # an unknown name is refused before a dataset is read
    _check_views(views, models_of(models, only=only))
    if out is not None:
        check_report_folder(Path(out), ("report.html", "metrics.json"))
    opened = open_flows(dataset)
    chosen = labelled_flows(opened, classes, apps)
    late = late_views_of(opened, chosen, classes) if views == "late" else None
    n_elsewhere = 0
    if test is not None:
        chosen, n_elsewhere = _join(opened, chosen, open_flows(test), classes, apps, notify)
    used = models_of(models, chosen, only=only)
    truth = classes.of(chosen.flows)
    plans = plan_seeds(
        chosen.flows, split, range(seed, seed + seeds), n_folds=folds, n_inner=held_out,
        level=level, n_elsewhere=n_elsewhere,
    )  # fmt: skip
    first = plans[0].splits
    facts = _facts(opened, test, chosen.flows, first, epochs=epochs, seed=seed, seeds=seeds)
    facts |= {"level": level, "apps": sorted(set(truth))}
    if late is not None:
        facts["late_views"] = len(late.views)
    if notify:
        for notice in _notices(facts):
            notify(notice)
    by_evidence = evidence and EvidenceOfFlows(evidence, catalogue, chosen.flows, truth)
    report = None if out is None else _Report(Path(out), chosen, truth, facts, command)
    if report is not None and test is None:
        save_plans(plans, chosen.flows, report.folder / "splits")
    groups, slices = method_of(first[0].method).interval_groups(chosen.flows), slices_of(chosen)
    if first[0].method.startswith("time"):
        slices["day"] = days(chosen.flows)
    found: list[ComparedModel] = []
    with ExitStack() as stack:
        if cache is None:
            cache = (
                stack.enter_context(tempfile.TemporaryDirectory())
                if report is None
                else report.folder / "cache"
            )
        for outcome in compare_models(
            chosen, truth, plans, used,
            epochs=epochs, packets=packets, device=device, cache=Path(cache), late=late,
            trainer=trainer, show=progress,
        ):  # fmt: skip
            measured = measure_pooled(
                chosen.flows, truth, outcome.apps, outcome.seeds,
                groups=groups, slices=slices, seed=seed,
            )  # fmt: skip
            found.append(
                ComparedModel(
                    outcome.model, outcome.names, measured, outcome.n_flows, outcome.train_s,
                    outcome.identify_s,
                )
            )  # fmt: skip
            if by_evidence:
                _add_evidence(facts, by_evidence, found[-1].place, outcome)
            if report is not None:
                report.add(found[-1], outcome)
    tasks = [Task(model, epochs, seed, device, packets=packets) for model in models or ["paper-rf"]]
    left_out: list[LeftOutApp] = []
    if unlearned:
        left_out = leave_out_each(tasks, chosen, classes, unlearned, split=split, show=progress)
    comparison = Comparison(tuple(found), facts, tuple(left_out))
    if report is not None:
        write_overview(report.folder, comparison.models, facts, command, section_of(left_out))
    return comparison


def _check_views(views: str | None, models: Sequence[str]) -> None:
    if views not in (None, "none", "late"):
        raise UsageError(f"views {views!r} are neither 'late' nor 'none'")
    if views == "late" and not any(map(learns_late_views, models)):
        raise UsageError(
            "none of these models learns from late views; fusion, fast and sequence do"
        )


def _facts(
    dataset: Dataset | Selection | Any,
    test: Flows | None,
    flows: FlowBatch,
    splits: Sequence[Split],
    **numbers: int,
) -> dict[str, Any]:
    """The parameters of a comparison."""
    return {
        **warning_facts(flows),
        "dataset": name_of(dataset),
        "dataset_hash": hash_of(dataset),
        "test_dataset": None if test is None else name_of(open_flows(test)),
        "split": splits[0].method,
        "optimistic": splits[0].optimistic,
        "folds": len(splits),
        **numbers,
    }


def _notices(facts: dict[str, Any]) -> list[str]:
    """What a reader of the figures must know first."""
    notices = [str(facts[WARNING])] if WARNING in facts else []
    if facts["optimistic"]:
        notices.append(
            "The split is random by flow, which is optimistic for networks that a model never saw."
        )
    return notices


def _add_evidence(
    facts: dict[str, Any], by_evidence: EvidenceOfFlows, place: str, outcome: Outcome
) -> None:
    """Measures the kinds of evidence with a model behind them, over the verdicts of its first seed."""
    first = outcome.seeds[0]
    guess = [outcome.apps[best] for best in first.probabilities.argmax(axis=1)]
    is_accepted = first.probabilities.max(axis=1) >= np.float32(DEFAULT_THRESHOLD)
    figures = by_evidence.measure(guess, is_accepted, first.rows)
    facts.setdefault("evidence", {})[place] = figures.to_json()


def _join(
    dataset: Dataset | Selection | Any,
    chosen: Selection,
    test: Dataset | Selection | Any,
    classes: Classes,
    apps: Sequence[str] | None,
    notify: Callable[[str], None] | None,
) -> tuple[Selection, int]:
    """The flows to learn from, then those to test on, and how many the latter are."""
    elsewhere = labelled_flows(test, classes, apps)
    if not len(elsewhere):
        raise DatasetError(f"{name_of(test)}: no labelled flow has two payload packets")
    if shared := shared_sources(dataset, test):
        if notify:
            notify(f"{shared} sources are in both datasets, so the figures are optimistic.")
    return Selection.join([chosen, elsewhere]), len(elsewhere)


def shared_sources(one: Any, other: Any) -> int:
    """Number of sources that both datasets have, by content; 0 for flows in memory."""
    if not isinstance(one, Dataset) or not isinstance(other, Dataset):
        return 0
    contents = [{source.get("sha256") for source in each.info["sources"]} for each in (one, other)]
    return len((contents[0] & contents[1]) - {None})


@dataclass(frozen=True, slots=True)
class _Report:
    """The folder to which the pages of models are written during the comparison."""

    folder: Path
    flows: Selection
    truth: list[str]
    facts: dict[str, Any]
    command: str

    def add(self, model: ComparedModel, outcome: Outcome) -> None:
        """Writes the page, the figures and the verdicts of a model."""
        first = outcome.seeds[0]
        examples = []
        if model.names != "masked":
            examples = example_images(
                self.flows.take(first.rows),
                [self.truth[row] for row in first.rows],
                first.probabilities.argmax(axis=1),
                outcome.apps,
            )
        facts = {**self.facts, "model": model.model, "names": model.names}
        place = self.folder / model.place
        write_report(
            place,
            model.measured.result,
            model_text(model, self.facts, self.command, examples),
            {**facts, **model.measured.to_json()},
        )
        seeds = outcome.seeds
        sizes = [len(each.rows) for each in seeds]
        VerdictTable(
            self.flows.flows,
            self.truth,
            outcome.apps,
            DEFAULT_THRESHOLD,
            model.model,
            np.concatenate([each.probabilities for each in seeds]),
            np.concatenate([each.rows for each in seeds]),
            np.repeat([each.seed for each in seeds], sizes),
            np.concatenate([each.fold for each in seeds]),
        ).write(place / "verdicts.parquet")
