"""Measures how well flows of apps that were left out of training are recognised as unknown.

A model is trained again on the training side without the apps, with everything that recognises unknown apps. It
is measured on the test side, and on every flow of the apps that were left out.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import UsageError
from apptell.experiments.evaluate import measure
from apptell.experiments.labelled import split_of
from apptell.learning.model_training import train_model
from apptell.learning.task import Task
from apptell.reports.page import Section
from apptell.verdicts import choose_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apptell.dataset.classes import Classes
    from apptell.dataset.selection import Selection
    from apptell.evaluation.open_set import OpenSetFigures
    from apptell.experiments.evaluate import EvaluatedModel
    from apptell.models import Model

EACH: Final = "each"
"""Every app is left out once."""
RATE: Final = 0.05
"""Default share of flows of known apps that may be called unknown."""
COLUMNS: Final = ("model", "app", "flows", "auroc", "caught", "realised", "oscr")
"""Columns of a table of ``LeftOutApp``."""


@dataclass(frozen=True, slots=True)
class LeftOutApp:
    """One model without one app."""

    model: str
    app: str
    figures: OpenSetFigures

    @property
    def row(self) -> tuple[Any, ...]:
        """The values of COLUMNS."""
        found = self.figures
        shares = (found.auroc, found.caught, found.realised, found.oscr)
        return (self.model, self.app, found.unknown, *(round(share, 4) for share in shares))


def task_of(model: Model, seed: int = 0) -> Task:
    """The model and settings that a trained model came from."""
    info = model.info
    learned = info.get("training", {}).get("hyperparameters", {})
    options = info["options"]
    return Task(
        model.name,
        epochs=int(info.get("training", {}).get("epochs", 100)),
        seed=seed,
        ports=bool(options.get("ports", True)),
        packets=options.get("packets"),
        names=options.get("names"),
        hyperparameters={name: value for name, value in learned.items() if value is not None},
    )


def evaluate_without(
    task: Task,
    flows: Selection,
    classes: Classes,
    apps: Sequence[str],
    *,
    split: str | Path,
    rate: float = RATE,
    threshold: float | None = None,
    facts: dict[str, Any] | None = None,
    show: Callable[[float, str], None] | None = None,
) -> EvaluatedModel:
    """Trains a model without some apps and measures it, with its figures on their flows.

    Args:
        task: the model.
        flows: labelled flows.
        classes: how labels become classes.
        apps: those to leave out of training.
        split: a split by name, or a file that holds one.
        rate: the stated share of flows of known apps that may be called unknown.
        threshold: smallest accepted confidence.
        facts: the parameters of the measurement.
        show: called with the share done, 0 to 1, and a description.

    Raises:
        UsageError: an app has no flows.
        DatasetError: fewer than two apps are left.
        MissingError: the training libraries are not installed.
    """
    truth = np.array(classes.of(flows.flows), dtype=np.str_)
    wanted = [app.strip().lower() for app in apps]
    if missing := sorted(set(wanted) - set(truth.tolist())):
        raise UsageError(f"the dataset has no flow of {missing[0]!r}")
    sides = split_of(flows.flows, split, task.seed, classes.level)
    is_left_out = np.isin(truth, wanted)
    learned = sides.train[~is_left_out[sides.train]]
    tested = np.union1d(sides.test, np.flatnonzero(is_left_out))
    with tempfile.TemporaryDirectory() as aside:
        model = train_model(
            flows.take(learned),
            truth[learned].tolist(),
            model=task.model,
            ports=task.ports,
            packets=task.packets,
            names=task.names,
            hyperparameters=task.hyperparameters,
            epochs=task.epochs,
            seed=task.seed,
            device=task.device,
            unknown=True,
            out=Path(aside, "model"),
            show=show,
        )
    limit = choose_threshold(threshold, model)
    facts = {**(facts or {}), "split": sides.method, "unlearned": wanted}
    return measure(model, flows.take(tested), limit, task.seed, classes, facts, rate)


def leave_out_each(
    tasks: Sequence[Task],
    flows: Selection,
    classes: Classes,
    apps: Sequence[str],
    *,
    split: str | Path,
    rate: float = RATE,
    show: Callable[[float, str], None] | None = None,
) -> list[LeftOutApp]:
    """Every model without every one of these apps in turn.

    Args:
        tasks: the models.
        flows: labelled flows.
        classes: how labels become classes.
        apps: the apps to leave out one at a time; only EACH for all.
        split: a split by name, or a file that holds one.
        rate: the stated share of flows of known apps that may be called unknown.
        show: called with the share done, 0 to 1, and a description.

    Raises:
        UsageError: an app has no flows.
        DatasetError: fewer than two apps are left.
    """
    if list(apps) == [EACH]:
        apps = sorted(set(classes.of(flows.flows)))
    work = [(task, app) for task in tasks for app in apps]
    found = []
    for number, (task, app) in enumerate(work):
        if show is not None:
            show(number / len(work), f"{task.model} without {app}")
        measured = evaluate_without(task, flows, classes, [app], split=split, rate=rate)
        if measured.open_set is not None:
            found.append(LeftOutApp(task.model, app, measured.open_set))
    return found


def section_of(found: Sequence[LeftOutApp]) -> Section | None:
    """The table of a report; None without rows."""
    if not found:
        return None
    return Section(
        "unlearned",
        "Apps that were not learned",
        "Each app was left out of training once. Caught and realised: the shares of its flows and of flows of "
        f"known apps that are called unknown at a stated rate of {found[0].figures.rate:.0%}.",
        COLUMNS,
        [each.row for each in found],
    )
