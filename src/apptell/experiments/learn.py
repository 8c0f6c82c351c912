"""Captures in; a model of the apps that names identify in them, which also knows flows without names, out.

Teacher and student: names, DNS answers and addresses label the flows that they can (``verdicts.name_labels``),
and a model learns what these flows look like with names masked, from their beginnings and from later packets.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.dataset.classes import OTHER, Classes
from apptell.dataset.selection import Selection
from apptell.dataset.splits.methods import usual_method
from apptell.dataset.store import Dataset
from apptell.errors import DatasetError, UsageError
from apptell.experiments.labelled import labelled_flows
from apptell.experiments.train import train
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.learning.registry import recipe_of
from apptell.models import check_target
from apptell.packets.headers import TCP, UDP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apptell.experiments.train import TrainedModel
    from apptell.models import Model

LEAST_FLOWS: Final = 20
"""Labelled flows that an app needs to be learned."""
PRECISION: Final = 0.95
"""The share of right verdicts that the threshold promises, measured by labels from names."""
_LESS: Final = (0.9, 0.85, 0.8)
"""The next best promises."""


@dataclass(frozen=True, slots=True)
class LearnedModel:
    """A model that learned from names, and what it learned from.

    Example:
        >>> learned = apptell.learn("captures/", "student/", catalogue=["ours.csv"], replace=True)
        >>> learned.n_flows, learned.held_out
        ({'signal': 20, 'zoom': 20}, 'source')
    """

    trained: TrainedModel
    """The model, and what held-out groups promise of it."""
    n_flows: dict[str, int]
    """Labelled flows of each class that was learned; late views are not counted."""
    left_out: dict[str, int]
    """Labelled flows of each app that has too few."""
    label_sources: dict[str, int]
    """What the labels rest on: flows by ``name``, ``dns``, ``address``, ``range`` and ``block``."""
    held_out: str
    """What the promise held out: ``source``, ``session`` (captures), ``client``, or ``paper`` (connections)."""

    @property
    def model(self) -> Model:
        """The model, ready to run."""
        return self.trained.model


def learn(
    captures: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    dataset: str | Path | None = None,
    catalogue: Sequence[str | Path] = (),
    model: str = "fast",
    least_flows: int = LEAST_FLOWS,
    precision: float = PRECISION,
    replace: bool = False,
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[float, str], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> LearnedModel:
    """Learns a model from captures that nobody labelled: from the flows that names identify.

    The model learns with names masked and from late views, so that it also decides flows that show no name. Its
    threshold promises a precision on groups that are held out: sources, captures or clients, as there are.

    Args:
        captures: captures, and folders of captures.
        out: the model's folder.
        dataset: the folder of the dataset that the flows are added to (default: a temporary one).
        catalogue: files with rows that are added to the catalogue of apps.
        model: the name of a recipe that learns from late views and does not read names: ``fast``, ``fusion`` or
            ``sequence``.
        least_flows: labelled flows that an app needs; apps with fewer are left out.
        precision: the share of right verdicts among the accepted that the threshold promises; where it cannot
            be promised, the next of 0.9, 0.85 and 0.8 that can.
        replace: whether a model that is there may be replaced.
        seed: of everything random.
        jobs: processes that read captures, one each.
        progress: called with the share done, 0 to 1, and words.
        notify: called with a sentence on what was found.

    Raises:
        CatalogueError: a file of the catalogue cannot be read.
        DatasetError: fewer than two apps have enough flows with names.
        UsageError: no such model, or one that does not learn from late views.
        OutputError: a folder cannot be written, or holds something that must not be replaced.
        MissingError: the training libraries are not installed.

    Example:
        >>> learned = apptell.learn("captures/", "student/", catalogue=["ours.csv"], replace=True)
        >>> learned.model.apps
        ['signal', 'zoom']
    """
    if least_flows < 1:
        raise UsageError(f"{least_flows} flows of an app: at least 1 is needed")
    recipe_of(model)  # an unknown one is refused before anything is read
    say = notify or (lambda _sentence: None)
    check_target(out, replace=replace)
    with ExitStack() as stack:
        if dataset is None:
            aside = stack.enter_context(tempfile.TemporaryDirectory())
            dataset = Path(aside, "dataset")
        data = Dataset.build(
            captures,
            dataset,
            labels="names",
            catalogue=catalogue,
            flows=FlowOptions(transports=(TCP, UDP), groups=tuple(GROUPS)),
            jobs=jobs,
        )
        whole = Selection.of(data)
        chosen = labelled_flows(whole)
        counts = Counter(Classes().of(chosen.flows))
        n_flows, left_out = _divide(counts, least_flows)
        _check(n_flows, left_out, least_flows, data)
        kept = np.isin(np.array(whole.flows.column("label").to_pylist()), list(n_flows))
        learned = whole.filter(kept)
        sources = Counter(chosen.flows.column("label_source").to_pylist())
        held_out = usual_method(labelled_flows(learned).flows).text
        for sentence in _sentences(n_flows, left_out, sources, held_out):
            say(sentence)
        trained = train(
            learned,
            model,
            out=out,
            replace=replace,
            split="none",
            seed=seed,
            views="late" if data.info["late_views"] else "none",
            precision=(precision, *(less for less in _LESS if less < precision)),
            progress=progress,
            notify=say,
        )
    return LearnedModel(trained, n_flows, left_out, dict(sources), held_out)


def _divide(counts: Counter[str], least: int) -> tuple[dict[str, int], dict[str, int]]:
    """The classes with enough flows, and the others, the most flows first."""
    ordered = counts.most_common()
    return (
        {app: n for app, n in ordered if n >= least},
        {app: n for app, n in ordered if n < least},
    )


def _check(n_flows: dict[str, int], left_out: dict[str, int], least: int, data: Dataset) -> None:
    apps = [app for app in n_flows if app != OTHER]
    if not apps or len(n_flows) < 2:
        dropped = data.info["dropped"]
        who = f"only {next(iter(n_flows))}" if n_flows else "no app"
        fewer = f" Apps with fewer: {_listed(left_out)}." if left_out else ""
        unlabelled = f" Flows without a label: {_listed(dropped)}." if dropped else ""
        raise DatasetError(
            f"too few flows with names to learn from: {who} has {least} or more.{fewer}{unlabelled} Take more "
            "captures, add rows to the catalogue, or require fewer flows of an app",
            argument="least",
        )


def _sentences(
    n_flows: dict[str, int], left_out: dict[str, int], sources: Counter[str], held_out: str
) -> list[str]:
    by = ", ".join(f"{source} {n:,}" for source, n in sources.most_common())
    found = [f"Learning {_listed(n_flows)}. Labels by {by}."]
    if left_out:
        found.append(f"Left out, with too few flows: {_listed(left_out)}.")
    if held_out == "paper":
        found.append(
            "The flows are of one capture and one client, so connections are held out: optimistic on networks "
            "that the model never saw."
        )
    return found


def _listed(counts: dict[str, int]) -> str:
    most = 12
    text = ", ".join(f"{app} {n:,}" for app, n in list(counts.items())[:most])
    return text if len(counts) <= most else f"{text} and {len(counts) - most} more"
