"""Trains a model on labelled flows and writes its folder."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset.selection import Selection
from apptell.encoding import encoding_of
from apptell.errors import DatasetError, UsageError
from apptell.flows.schema import MAX_SEGMENT_BYTES
from apptell.learning.app_reasons import app_reasons
from apptell.learning.model_fitting import fit_and_write, labelled_inputs
from apptell.learning.registry import recipe_of
from apptell.learning.task import Task
from apptell.models import Model, check_target
from apptell.models.model_folder import MOST_JA4, TRANSPORTS
from apptell.models.training_rows import holds_payload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.learning.progress import Progress
    from apptell.learning.registry import Trainable

MIN_PAYLOAD_PACKETS: Final = 2
"""Flows with fewer payload packets are removed (Section 3.1)."""
MIN_FLOWS: Final = 5
"""Minimum number of flows of an app."""
_FREE: Final = ("data", "metrics", "calibration", "notes")
"""Keys of ``extra_info``, which the caller may add to ``model.json``."""


def train_model(
    flows: FlowBatch | Selection,
    labels: Sequence[str],
    *,
    model: str = "paper-cnn",
    ports: bool = True,
    packets: int | None = None,
    names: str | None = None,
    hyperparameters: Mapping[str, float] | None = None,
    epochs: int = 100,
    seed: int = 0,
    device: str = "auto",
    threshold: float | None = None,
    unknown: bool = False,
    keep_rows: bool = False,
    new_stacks: bool = False,
    out: str | Path,
    replace: bool = False,
    progress: Callable[[Progress], None] | None = None,
    show: Callable[[float, str], None] | None = None,
    extra_info: dict[str, Any] | None = None,
) -> Model:
    """Trains a model and writes its folder.

    Flows with fewer than two payload packets are skipped. If the user interrupts it after an epoch, the best
    model so far is written and ``info["training"]["interrupted"]`` is true.

    Args:
        flows: flows with the groups ``core`` and ``segments``; of a selection, payload is read and
            encoded a batch at a time.
        labels: the app of each flow; upper case becomes lower case.
        model: name of a recipe.
        ports: False keeps ports out of the inputs of models that would take them.
        packets: payload packets that the model sees, where that can be chosen.
        names: how models that read server names see them: ``on``, ``masked`` or ``hashed``.
        hyperparameters: numbers of the recipe that are not its defaults, by name.
        epochs: passes over the flows, for models that learn in passes.
        seed: seed of all random numbers.
        device: ``auto``, ``cpu`` or ``cuda``.
        threshold: confidence below which the model declines; None leaves the choice to the user of the model.
        unknown: also learn to recognise flows of apps that are not among these, which takes some ten more
            trainings on parts of the flows.
        keep_rows: also keep the encoded flows in the folder, so that the model can be updated.
        new_stacks: also choose how flows of TLS stacks are decided that are not among these, which takes one
            more training for each device.
        out: the folder.
        replace: whether an existing model may be replaced.
        progress: called about twice a second by models that learn in passes.
        show: called with the share done, 0 to 1, and words, while it learns to recognise unknown apps.
        extra_info: entries for ``model.json``: ``data`` (merged with the training's own data), ``metrics``,
            ``calibration``, ``notes``.

    Raises:
        DatasetError: there is only one app, or an app has too few flows.
        UsageError: there is no such model, device or entry.
        MissingError: the training libraries are not installed.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: interrupted before there was anything to keep.
    """
    recipe = recipe_of(model)
    check_target(out, replace=replace)
    extra = dict(extra_info or {})
    if strange := set(extra) - set(_FREE):
        raise UsageError(f"extra_info has {min(strange)!r}; it may have {', '.join(_FREE)}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"threshold is {threshold}, not between 0 and 1")
    if epochs < 1:
        raise UsageError(f"epochs is {epochs}, not 1 or more")
    if keep_rows and holds_payload(recipe.inputs):
        raise UsageError(f"model {model} learns from payload bytes, which are not kept as rows")
    chosen, apps = _usable(Selection.of(flows), labels)
    task = Task(model, epochs, seed, device, ports, packets, names, hyperparameters)
    learner = task.learner(progress)
    describes = unknown or keep_rows or new_stacks
    labelled = labelled_inputs(task, chosen, apps, describes=describes)

    def tells(fitted: Trainable, options: dict[str, Any]) -> Any:
        return app_reasons(fitted, labelled.inputs, apps, chosen, options)

    return fit_and_write(
        learner,
        task,
        labelled,
        facts_of(task, chosen),
        tells=tells if recipe.inputs == "structure" else None,
        out=out,
        threshold=threshold,
        unknown=unknown,
        keep_rows=keep_rows,
        new_stacks=new_stacks,
        replace=replace,
        show=show,
        extra=extra,
    )


def facts_of(task: Task, chosen: Selection) -> dict[str, Any]:
    """What ``model.json`` says of the flows that are learned from."""
    return {
        "transports": _transports(chosen),
        "names": task.options.get("names"),
        "ja4": _fingerprints(chosen),
        "cut_share": _cut_share(chosen) if encoding_of(task.inputs).reads_payload else None,
    }


def _fingerprints(chosen: Selection) -> list[str]:
    """The JA4s of the flows that were learned from, the most frequent first where there are too many."""
    if "ja4" not in set(chosen.flows.columns):
        return []
    count = Counter(ja4 for ja4 in chosen.flows.column("ja4").to_pylist() if ja4 is not None)
    return sorted(ja4 for ja4, _ in count.most_common(MOST_JA4))


def _usable(flows: Selection, labels: Sequence[str]) -> tuple[Selection, NDArray[np.str_]]:
    """The flows to learn from and their apps."""
    if len(labels) != len(flows):
        raise DatasetError(f"there are {len(labels)} labels for {len(flows)} flows")
    apps = np.array([label.lower() for label in labels], dtype=np.str_)
    enough = flows.flows.payload_packets >= MIN_PAYLOAD_PACKETS
    flows, apps = flows.filter(enough), apps[enough]
    count = Counter(apps.tolist())
    if not count:
        raise DatasetError("no labelled flow has two payload packets")
    if len(count) < 2:
        raise DatasetError(f"there is only one app, {apps[0]!s}; a model needs at least two")
    app, least = min(count.items(), key=lambda item: (item[1], item[0]))
    if least < MIN_FLOWS:
        raise DatasetError(f"app {app} has {least} flows; at least {MIN_FLOWS} are needed")
    return flows, apps


def _transports(chosen: Selection) -> list[str]:
    """The transports of the training flows; the model is used on no others."""
    there = set(chosen.flows.column("protocol").to_pylist())
    return [name for name, number in TRANSPORTS.items() if number in there] or ["tcp"]


def _cut_share(chosen: Selection) -> float:
    """Share of the kept payload segments that the captures had cut, by their snap length."""

    def counts(batch: FlowBatch) -> NDArray[np.int64]:
        segments = batch.segments()
        is_cut = np.diff(segments.start) < np.minimum(segments.length, MAX_SEGMENT_BYTES)
        n_cut = np.concatenate([[0], np.cumsum(is_cut)])
        return np.stack([np.diff(n_cut[segments.first]), np.diff(segments.first)], axis=1)

    cut, whole = chosen.gather(counts, ("core", "segments")).sum(axis=0).tolist()
    return float(round(cut / max(whole, 1), 4))
