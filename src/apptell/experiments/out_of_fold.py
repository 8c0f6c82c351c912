"""Trains and tests models on folds, and pools their out-of-fold probabilities.

The paper's network, its forest without ports and a nearest neighbour are always included, each with server
names as they were and with server names masked. The folds' test sides are pooled, so that each flow is tested
once per seed, by a model that was not trained on its group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset.groups import origins
from apptell.dataset.masking import mask_server_names
from apptell.dataset.selection import Selection
from apptell.encoding import encoding_of
from apptell.errors import UsageError
from apptell.evaluation.pooled import PooledFolds
from apptell.experiments.labelled import has_payload
from apptell.experiments.plan import check_plans, splits_of, training_sides
from apptell.experiments.progress_meter import ProgressMeter, estimated_work
from apptell.experiments.trial_cache import Trial, run_trial
from apptell.learning.registry import recipe_of
from apptell.learning.task import NEIGHBOUR, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.dataset.splits import Split
    from apptell.experiments.labelled import LateViews
    from apptell.experiments.plan import Plan
    from apptell.experiments.trial_cache import Trainer
    from apptell.flows.schema import FlowBatch

    _Sides = dict[str, Callable[[FlowBatch], FlowBatch] | None]

LOOKUP: Final = "name-lookup"
"""The lookup of server names seen in training; there is nothing to look up where names are masked."""
ALWAYS: Final = ("paper-cnn", "paper-rf", NEIGHBOUR, LOOKUP)
"""The models in every comparison; the forest and the neighbour see no ports."""
_KEPT_BYTES: Final = 2**28
"""Inputs up to this size are kept for the next model that takes the same."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of one model under one split."""

    model: str
    names: str
    """Server names ``on`` or ``masked``."""
    apps: tuple[str, ...]
    """Columns of the probabilities: every app of the flows, sorted."""
    seeds: tuple[PooledFolds, ...]
    """One for each seed."""
    train_s: float
    """Seconds of all folds' trainings of a seed together, as they took when they were done; mean."""
    identify_s: float
    """Seconds of all their tests together; mean over the seeds."""

    @property
    def n_flows(self) -> int:
        """Flows that each seed tested."""
        return len(self.seeds[0].rows)


def learns_late_views(model: str) -> bool:
    """Whether a model of a comparison can learn from late views."""
    return model != NEIGHBOUR and recipe_of(model).late_views


def models_of(
    asked: Sequence[str], flows: Selection | None = None, *, only: bool = False
) -> tuple[str, ...]:
    """The models of a comparison: those that are always in it, then the requested ones.

    Args:
        asked: names of recipes, or NEIGHBOUR.
        flows: if none of them has a payload byte (only lengths and times, as in FG-Net), a model on payload
            cannot be requested, and the network is left out.
        only: only the requested ones.

    Raises:
        UsageError: there is no such model, it needs payload, or no model is given.
    """
    models = list(dict.fromkeys([*(() if only else ALWAYS), *asked]))
    if not models:
        raise UsageError("a comparison of only the given models needs at least one")
    on_payload = [model for model in models if encoding_of(Task(model).inputs).reads_payload]
    if flows is None or not on_payload or has_payload(flows):
        return tuple(models)
    for model in asked:
        if model in on_payload:
            raise UsageError(
                f"model {model} reads payload bytes, and these flows have none: "
                "use a model on lengths, such as sequence or lengths-rf"
            )
    return tuple(model for model in models if model not in on_payload)


def compare_models(
    flows: FlowBatch | Selection,
    apps: Sequence[str],
    plans: Sequence[Plan],
    models: Sequence[str],
    *,
    epochs: int,
    packets: int | None = None,
    device: str = "auto",
    cache: Path,
    late: LateViews | None = None,
    trainer: Trainer | None = None,
    show: Callable[[float, str], None] | None = None,
) -> Iterator[Outcome]:
    """Trains and tests every model on every split, server names on and masked.

    Flows without any name or payload have nothing to mask: names are only ``on``.

    Args:
        flows: with the groups core, segments, names and labels.
        apps: the true app of each.
        plans: one for each seed.
        models: names of recipes, or NEIGHBOUR; as ``models_of`` gives them.
        epochs: passes over the training flows, for models that learn in passes.
        packets: payload packets that models on lengths see; default: that of their inputs.
        device: ``auto``, ``cpu`` or ``cuda``.
        cache: the folder of kept results.
        late: late views of the flows, which models that can learn from them learn as well; none is tested.
        trainer: trains everything ahead; default: one training after the other.
        show: called with the share done, 0 to 1, and a description.

    Raises:
        UsageError: the splits of a plan overlap, or there are none.
        DatasetError: a training side has only one app.
        MissingError: the training libraries are not installed.
        OutputError: the cache cannot be written.
    """
    chosen = Selection.of(flows)
    truth = np.asarray(apps, dtype=np.str_)
    check_plans(plans)
    bare = chosen.flows.column("server_address").null_count == len(chosen)
    sides: _Sides = {"on": None} if bare else {"on": None, "masked": mask_server_names}
    settings = [Task(model, epochs, device=device, packets=packets) for model in models]

    def sides_of(task: Task) -> _Sides:
        return {"on": None} if task.model == LOOKUP else sides

    works = [
        estimated_work(task, len(side))
        for task in settings
        for _ in sides_of(task)
        for side in training_sides(plans)
    ]
    bench = _Bench(
        truth,
        origins(chosen.flows),
        tuple(sorted(set(truth.tolist()))),
        cache,
        ProgressMeter(sum(works), show),
        late,
        None if late is None else origins(late.views.flows),
    )
    inputs = _Inputs(chosen)
    late_inputs = None if late is None else _Inputs(late.views)

    def encoded() -> Iterator[tuple[Task, str, NDArray[Any], NDArray[Any] | None]]:
        for task in settings:
            for names, change in sides_of(task).items():
                array = inputs.of(task, names, change)
                more = None
                if late_inputs is not None and learns_late_views(task.model):
                    more = late_inputs.of(task, names, change)
                yield task, names, array, more

    if trainer is not None:
        trials_ahead = (
            bench.trial_of(task.with_seed(plan.seed), array, more, each)
            for task, _, array, more in encoded()
            for plan in plans
            for each in splits_of(plan)
        )
        trainer(trials_ahead, cache)
    for task, names, array, more in encoded():
        trials, times = [], []
        for plan in plans:
            trial, seconds = bench.trial(task, names, plan, array, more)
            trials.append(trial)
            times.append(seconds)
        train_s, identify_s = np.mean(times, axis=0).tolist()
        yield Outcome(task.model, names, bench.every, tuple(trials), train_s, identify_s)


class _Inputs:
    """The inputs of all flows; small ones are kept for the next model."""

    def __init__(self, chosen: Selection) -> None:
        self._chosen = chosen
        self._kept: dict[str, NDArray[Any]] = {}

    def of(
        self, task: Task, names: str, change: Callable[[FlowBatch], FlowBatch] | None
    ) -> NDArray[Any]:
        if not encoding_of(task.inputs).reads_payload:
            names, change = "on", None  # names are read from payload alone
        key = f"{task.inputs} {task.options} {task.views} {names}"
        if key in self._kept:
            return self._kept[key]
        array = task.encode(self._chosen, change, views=True)
        if array.nbytes <= _KEPT_BYTES:
            self._kept[key] = array
        return array


@dataclass(frozen=True, slots=True)
class _Bench:
    """Runs the trainings."""

    truth: NDArray[np.str_]
    origin: NDArray[np.str_]
    every: tuple[str, ...]
    cache: Path
    meter: ProgressMeter
    late: LateViews | None
    late_origin: NDArray[np.str_] | None

    def trial(
        self,
        task: Task,
        names: str,
        plan: Plan,
        inputs: NDArray[Any],
        late_inputs: NDArray[Any] | None,
    ) -> tuple[PooledFolds, tuple[float, float]]:
        """All folds of one seed, and the seconds of training and testing them."""
        task = task.with_seed(plan.seed)
        words = f"{task.model}, names {names}, seed {plan.seed}"
        parts, held, train_s, identify_s = [], [], 0.0, 0.0
        for number, split in enumerate(plan.splits):
            fold = f"{words}, fold {number + 1} of {len(plan.splits)}"
            probabilities, seconds = self._run(task, inputs, late_inputs, split, fold)
            parts.append(probabilities)
            train_s, identify_s = train_s + seconds[0], identify_s + seconds[1]
            if plan.inner:
                inner = plan.inner[number]
                found = [
                    self._run(task, inputs, late_inputs, each, f"{fold}, held out")[0]
                    for each in inner
                ]
                held.append((np.concatenate([each.test for each in inner]), np.concatenate(found)))
        rows = np.concatenate([split.test for split in plan.splits])
        fold_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        order = np.argsort(rows, kind="stable")
        trial = PooledFolds(
            plan.seed, rows[order], fold_of[order], np.concatenate(parts)[order], tuple(held)
        )
        return trial, (train_s, identify_s)

    def _run(
        self,
        task: Task,
        inputs: NDArray[Any],
        late_inputs: NDArray[Any] | None,
        split: Split,
        words: str,
    ) -> tuple[NDArray[np.float32], tuple[float, float]]:
        trial = self.trial_of(task, inputs, late_inputs, split)
        watch = self.meter.watch(words, estimated_work(task, len(split.train)))
        run = run_trial(
            task, trial.learned, trial.apps, trial.tested, self.cache, watch, trial.groups
        )
        self.meter.finish(cached=run.cached)
        return run.spread(self.every), (run.train_s, run.identify_s)

    def trial_of(
        self,
        task: Task,
        inputs: NDArray[Any],
        late_inputs: NDArray[Any] | None,
        split: Split,
    ) -> Trial:
        """The training on one side of a split and the test on the other."""
        train = split.train
        learned, apps, origin = inputs[train], self.truth[train], self.origin[train]
        if late_inputs is not None and self.late is not None and self.late_origin is not None:
            more = np.isin(self.late.of_row, train)
            learned = np.concatenate([learned, late_inputs[more]])
            apps = np.concatenate([apps, self.late.apps[more]])
            origin = np.concatenate([origin, self.late_origin[more]])
        return Trial(task, learned, apps, inputs[split.test], origin)
