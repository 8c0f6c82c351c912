"""Trains a model on one side of a split, and measures it on the other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apptell.dataset.classes import Classes
from apptell.dataset.selection import Selection
from apptell.dataset.splits import save_split
from apptell.errors import DatasetError, UsageError
from apptell.experiments.circularity import SHARE, name_labels_share, names_to_learn, warning_facts
from apptell.experiments.evaluate import SPLIT_FILE, EvaluatedModel, hash_of, measure, name_of
from apptell.experiments.followed import followed
from apptell.experiments.labelled import (
    NO_SPLIT,
    LateViews,
    labelled_flows,
    late_views_of,
    open_flows,
    refuse_without_payload,
    split_of,
)
from apptell.experiments.promise import PrecisionPromise, promise_precision
from apptell.learning.model_card import model_card
from apptell.learning.model_training import train_model
from apptell.learning.registry import recipe_names, recipe_of
from apptell.learning.stack_training import sentence_of
from apptell.learning.task import Task
from apptell.models import (
    Model,
    check_target,
    read_forest,
    read_model,
    read_rows,
    read_unknown,
    write_model,
)
from apptell.verdicts import choose_threshold
from apptell.verdicts.calibration import FLOOR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from apptell.dataset.splits import Split
    from apptell.experiments.labelled import Flows
    from apptell.learning.progress import TrainingCallback
    from apptell.learning.registry import Recipe


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model with its figures on flows that it was not trained on.

    Example:
        >>> trained = apptell.train("dataset/", "paper-rf", split="source", hyperparameters={"n_trees": 10})
        >>> trained.save("small/", replace=True)
        >>> trained.test.accuracy > 0.5, trained.is_interrupted
        (True, False)
    """

    model: Model
    """The model, ready to run."""
    split: Split
    """Rows of the labelled flows for training and for measuring."""
    flows: Selection
    """The labelled flows that the split divides."""
    test: EvaluatedModel | None
    """The figures; None if every flow was used for training and no other dataset was given."""
    promise: PrecisionPromise | None
    """The promise of the requested precision; None if none was requested."""
    weights: bytes = field(repr=False)
    """The ONNX model."""
    unknown: bytes | None = field(default=None, repr=False)
    """What recognises flows of unlearned apps; None where it was not asked for."""
    rows: bytes | None = field(default=None, repr=False)
    """What the model learned from, for updates; None where it was not asked for."""
    forest: bytes | None = field(default=None, repr=False)
    """What helps to decide flows of new TLS stacks; None where nothing does."""

    def __repr__(self) -> str:
        tested = (
            f", accuracy {self.test.accuracy:.1%} on {len(self.test.flows):,} flows"
            if self.test
            else ""
        )
        return f"<TrainedModel {self.model.name}@{self.model.hash} of {len(self.model.apps)} apps{tested}>"

    @property
    def is_interrupted(self) -> bool:
        """Whether the user interrupted the training; the model is then the best one so far."""
        return bool(self.model.info.get("training", {}).get("interrupted"))

    def save(self, folder: str | Path, *, replace: bool = False) -> None:
        """Writes the model's folder: model.json, model.onnx, README.md, and split.jsonl.

        Args:
            folder: created if it is missing.
            replace: whether an existing model may be replaced.

        Raises:
            OutputError: the folder cannot be written, or holds something that must not be replaced.
        """
        info = self.model.info
        card = model_card(info, recipe_of(info["name"]).description)
        write_model(
            folder,
            self.weights,
            info,
            card,
            replace=replace,
            unknown=self.unknown,
            rows=self.rows,
            forest=self.forest,
        )
        if len(self.split.test):
            save_split(self.split, self.flows.flows, Path(folder) / SPLIT_FILE)


def train(
    dataset: Flows,
    model: str = "fusion",
    *,
    out: str | Path | None = None,
    replace: bool = False,
    split: str | Path | None = None,
    test: Flows | None = None,
    epochs: int = 100,
    seed: int = 0,
    device: str = "auto",
    ports: bool = True,
    packets: int | None = None,
    names: str | None = None,
    hyperparameters: Mapping[str, float] | None = None,
    views: str | None = None,
    precision: float | Sequence[float] | None = None,
    unknown: bool = False,
    keep_rows: bool = False,
    new_stacks: bool = False,
    level: str = "app",
    system: str = "other",
    progress: Callable[[float, str], None] | None = None,
    notify: Callable[[str], None] | None = None,
    callbacks: Sequence[TrainingCallback] = (),
) -> TrainedModel:
    """Trains a model on one side of a split and measures it on the other.

    Args:
        dataset: a dataset or its folder, or some flows of one.
        model: the name of a recipe: ``fusion``, ``fast``, ``paper-cnn``, ``paper-rf``, ...
        out: the model's folder (default: none; ``TrainedModel.save`` writes one later).
        replace: whether an existing model may be replaced.
        split: a split by name, a file that holds a split, or ``none`` to train on every flow (default:
            ``paper``, or ``none`` with ``test``).
        test: flows to measure on instead of the split's test side.
        epochs: passes over the training flows, for models that learn in passes.
        seed: seed of all random numbers.
        device: ``auto``, ``cpu`` or ``cuda``.
        ports: whether ``paper-rf`` sees the two ports.
        packets: payload packets that the model sees, if they can be chosen.
        names: how models that read server names see them: ``on``, ``masked`` or ``hashed`` (default: ``on``,
            and ``masked`` where names are what the labels come from).
        hyperparameters: numbers of the recipe that are not its defaults, by name.
        views: ``late`` also learns from later packets of the training side's connections, where the dataset has
            them; nothing is measured on them.
        precision: choose the threshold that promises this share of right verdicts, on held-out groups. If it
            cannot be promised, the model is the same as without this argument. Of several, the first that can
            be promised.
        unknown: also learn to recognise flows of apps that are not in the dataset, which takes some ten more
            trainings on parts of the flows.
        keep_rows: also keep the encoded flows in the folder, so that the model can be updated; they hold no
            payload, address or name of a capture.
        new_stacks: also choose, on devices that are left out in turn, how flows of TLS stacks are decided that
            are not in the dataset; where nothing holds they are declined.
        level: ``app`` or ``activity``.
        system: the class of the phone's own traffic: ``other``, ``system``, or ``drop`` to leave it out.
        progress: called with the share done, 0 to 1, and a description.
        notify: called with notices, one sentence each.
        callbacks: follow the training, for example to log it: each is a ``TrainingCallback``.

    Raises:
        DatasetError: there are too few flows or apps, or the model reads payload and the flows have none.
        UsageError: there is no such model, split, device or hyperparameter, or the precision is not between 0
            and 1.
        MissingError: the training libraries are not installed.
        OutputError: the folder cannot be written, or holds something that must not be replaced.
        KeyboardInterrupt: the training was interrupted before its first epoch ended.

    Example:
        >>> trained = apptell.train("dataset/", "paper-rf", out="forest/", split="source")
        >>> trained.model.apps
        ['signal', 'zoom']
        >>> trained.test.accuracy > 0.8
        True
    """
    notify = notify or _silent
    recipe = recipe_of(model)
    recipe.complete(hyperparameters)  # unknown ones are refused before anything is read
    _check_views(views, recipe)
    _check_precision(precision)
    if out is not None:
        check_target(out, replace=replace)
    classes = Classes(level, system)
    opened = open_flows(dataset)
    chosen = labelled_flows(opened, classes)
    names = names_to_learn(chosen.flows, recipe, names, notify)
    task = Task(
        model, epochs, seed, device, ports, packets, names, dict(hyperparameters or {}) or None
    )
    late = late_views_of(opened, chosen, classes) if views == "late" else None
    wanted = split if split is not None else "paper" if test is None else NO_SPLIT
    sides = split_of(chosen.flows, wanted, seed, level)
    learned, tested = chosen.take(sides.train), chosen.take(sides.test)
    measured_on = f"test side of split {sides.method}"
    if test is not None:
        tested, measured_on = _elsewhere(test, classes)
    refuse_without_payload(learned, recipe.inputs, model)
    notify(_plan(model, learned, tested, sides, measured_on))
    settings = _settings(task, recipe, sides, classes, learned, tested)
    settings |= {"dataset": name_of(opened), "dataset_hash": hash_of(opened)}
    with followed(callbacks, settings, progress) as following:
        promise = None
        if precision is not None:
            promise = _promise(learned, task, precision, sides, classes, late, progress)
            notify(promise.sentence)
        kept = promise if promise is not None and promise.threshold is not None else None
        data = _data(opened, learned, sides, classes, seed)
        if late is not None:
            more = late.of(sides.train)
            data["late_views"] = len(more)
            learned = Selection.join([learned, more])
        with tempfile.TemporaryDirectory() as aside:
            folder = Path(aside, "model") if out is None else Path(out)
            trained = train_model(
                learned,
                classes.of(learned.flows),
                model=model,
                ports=ports,
                packets=packets,
                names=names,
                hyperparameters=hyperparameters,
                epochs=epochs,
                seed=seed,
                device=device,
                threshold=None if kept is None else kept.threshold,
                out=folder,
                replace=replace,
                progress=following.progress,
                unknown=unknown,
                keep_rows=keep_rows,
                new_stacks=new_stacks,
                show=progress,
                extra_info={"calibration": _calibration(kept), "data": data},
            )
            if new_stacks:
                notify(sentence_of(trained.info["new_stacks"]))
            found = None
            if len(tested):
                limit = choose_threshold(None, trained)
                learned_from = {name: value for name, value in data.items() if name != SHARE}
                facts = {**warning_facts(tested.flows), **learned_from}
                facts |= {"seed": seed, "measured_on": measured_on}
                found = measure(trained, tested, limit, seed, classes, facts)
                following.measured(found.evaluation)
                trained.info["metrics"] = _metrics(found, measured_on, kept)
            done = TrainedModel(
                trained,
                sides,
                chosen,
                found,
                promise,
                *_files_of(folder, trained.info),
            )
            done.save(folder, replace=True)
    return done


def _settings(
    task: Task,
    recipe: Recipe,
    sides: Split,
    classes: Classes,
    learned: Selection,
    tested: Selection,
) -> dict[str, Any]:
    """What callbacks are told at the beginning."""
    return {
        "model": task.model,
        "split": sides.method,
        "seed": task.seed,
        "epochs": task.epochs,
        "level": classes.level,
        "learned_flows": len(learned),
        "measured_flows": len(tested),
        "apps": len(set(classes.of(learned.flows))),
        **recipe.complete(task.hyperparameters),
    }


def _elsewhere(test: Flows, classes: Classes) -> tuple[Selection, str]:
    """The flows of another dataset to measure on, and its name."""
    opened = open_flows(test)
    tested = labelled_flows(opened, classes)
    if not len(tested):
        raise DatasetError(f"{name_of(opened)}: no labelled flow has two payload packets")
    return tested, name_of(opened)


def _calibration(promise: PrecisionPromise | None) -> dict[str, float] | None:
    return None if promise is None else {"temperature": promise.temperature, "floor": FLOOR}


def _files_of(
    folder: Path, info: Mapping[str, Any]
) -> tuple[bytes, bytes | None, bytes | None, bytes | None]:
    """Weights, detector, rows and forest of a model's folder."""
    detector, rows, forest = (read(folder, info) for read in (read_unknown, read_rows, read_forest))
    return read_model(folder)[1], detector, rows, forest


def _data(
    opened: Any, learned: Selection, sides: Split, classes: Classes, seed: int
) -> dict[str, Any]:
    """What ``model.json`` says of the flows that are learned from."""
    data: dict[str, Any] = {
        "dataset": name_of(opened),
        "dataset_hash": hash_of(opened),
        "split": sides.method,
        "split_seed": seed,
        "level": classes.level,
        "system": classes.system,
    }
    if share := name_labels_share(learned.flows):
        data[SHARE] = round(share, 4)
    return data


def _check_precision(precision: float | Sequence[float] | None) -> None:
    for each in [precision] if isinstance(precision, int | float) else precision or ():
        if not 0 < each < 1:
            raise UsageError(f"precision {each} is not between 0 and 1")


def _check_views(views: str | None, recipe: Recipe) -> None:
    if views not in (None, "none", "late"):
        raise UsageError(f"views {views!r} are neither 'late' nor 'none'")
    if views == "late" and not recipe.late_views:
        able = ", ".join(name for name in recipe_names() if recipe_of(name).late_views)
        raise UsageError(f"model {recipe.name} does not learn from late views; available: {able}")


def _plan(model: str, learned: Selection, tested: Selection, sides: Split, measured_on: str) -> str:
    """The training and test flows as a sentence."""
    warning = (
        " (random by flow, which is optimistic for unseen networks)" if sides.optimistic else ""
    )
    if not len(tested):
        return f"{model}: {len(learned):,} flows for training, and none for measuring."
    return (
        f"{model}: {len(learned):,} flows for training, {len(tested):,} for measuring: "
        f"{measured_on}{warning}."
    )


def _promise(
    learned: Selection,
    task: Task,
    precision: float | Sequence[float],
    sides: Split,
    classes: Classes,
    late: LateViews | None,
    progress: Callable[[float, str], None] | None,
) -> PrecisionPromise:
    """Temperature and threshold by groups held out of the training side."""
    return promise_precision(
        learned,
        classes.of(learned.flows),
        task,
        precision,
        method=sides.method,
        level=classes.level,
        late=None if late is None else late.within(sides.train),
        show=progress,
    )


def _metrics(
    found: EvaluatedModel, measured_on: str, kept: PrecisionPromise | None
) -> dict[str, Any]:
    """The figures that ``model.json`` keeps."""
    result = found.evaluation
    return {
        "measured_on": f"{measured_on}, {len(found.flows)} flows",
        "accuracy": round(result.scores.accuracy, 4),
        "macro_f1": round(result.scores.macro_f1, 4),
        "coverage": round(result.coverage, 4),
        "accuracy_at_threshold": round(result.at_threshold.accuracy, 4),
        **({} if kept is None else {"promised_at_threshold": kept.precision}),
    }


def _silent(_sentence: str) -> None:
    """Ignores a notice."""
