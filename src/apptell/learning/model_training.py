"""Trains a model on labelled flows and writes its folder."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset.groups import origins
from apptell.dataset.selection import Selection
from apptell.encoding import complete_options, encoding_of
from apptell.encoding.lengths import lengths
from apptell.errors import DatasetError, UsageError
from apptell.flows.schema import DECISION_SEGMENTS, MAX_SEGMENT_BYTES
from apptell.learning.app_reasons import app_reasons
from apptell.learning.model_card import model_card
from apptell.learning.registry import recipe_of
from apptell.learning.task import Task
from apptell.models import Model, check_target, load_model, write_model
from apptell.models.model_folder import MOST_JA4, TRANSPORTS
from apptell.models.unknown_detector import N_LENGTHS
from apptell.verdicts.context import times_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.learning.detector_training import FittedDetector
    from apptell.learning.progress import Progress

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
    chosen, apps = _usable(Selection.of(flows), labels)
    task = Task(model, epochs, seed, device, ports, packets, names, hyperparameters)
    learner = task.learner(progress)
    inputs = task.encode(chosen, views=True)
    if recipe.grouped:
        learner.fit(inputs, apps, groups=origins(chosen.flows))
    else:
        learner.fit(inputs, apps)
    recogniser = None
    if unknown:
        recogniser = _detector(task, inputs, apps, chosen, extra.get("calibration"), show)
    info = {
        "name": recipe.name,
        "apps": [str(app) for app in learner.classes_],
        "inputs": recipe.inputs,
        "encoding": encoding_of(recipe.inputs).version,
        "options": complete_options(recipe.inputs, task.options),
        "threshold": threshold,
        "calibration": None,
        "seed": seed,
        "metrics": {},
        "versions": {name: version(name) for name in ("apptell", "numpy", *recipe.libraries)},
        "created": _now(),
        "training": {"hyperparameters": recipe.complete(hyperparameters), **recipe.report(learner)},
        "learned": {
            "transports": _transports(chosen),
            "names": task.options.get("names"),
            "ja4": _fingerprints(chosen),
            "cut_share": _cut_share(chosen) if encoding_of(recipe.inputs).reads_payload else None,
        },
        **extra,
    }
    info["data"] = {
        "hash": _hash(inputs, apps),
        "flows": len(apps),
        "per_app": dict(sorted(Counter(apps.tolist()).items())),
        **extra.get("data", {}),
    }
    if recipe.inputs == "structure":
        reasons = app_reasons(learner, inputs, apps, chosen, info["options"])
        if reasons is not None:
            info["tells"] = reasons
    if recipe.balanced:
        info["prior"] = {app: 1 / len(info["apps"]) for app in info["apps"]}
    content = None
    if recogniser is not None:
        content = recogniser.detector.to_bytes()
        info["unknown"] = {"sha256": hashlib.sha256(content).hexdigest(), **recogniser.facts}
    card = model_card(info, recipe.description)
    write_model(out, learner.to_onnx(), info, card, replace=replace, unknown=content)
    return load_model(out)


def _detector(
    task: Task,
    inputs: NDArray[Any],
    apps: NDArray[np.str_],
    chosen: Selection,
    calibration: Mapping[str, Any] | None,
    show: Callable[[float, str], None] | None,
) -> FittedDetector:
    """Learns to recognise flows of unlearned apps.

    Args:
        task: the model.
        inputs: what it learned from, with its views.
        apps: of each flow.
        chosen: the flows.
        calibration: of the model's probabilities.
        show: called before each training.
    """
    from apptell.learning.detector_training import fit_detector
    from apptell.learning.labelled_inputs import LabelledInputs

    seen = complete_options(task.inputs, task.options).get("packets", DECISION_SEGMENTS)
    packets = min(N_LENGTHS, int(seen))
    sizes = chosen.gather(lambda batch: lengths(batch, packets=packets), ("core", "segments"))
    groups = origins(chosen.flows)
    client = chosen.flows.column("client_address").to_pylist()
    whose = zip(chosen.flows.column("capture").to_pylist(), client, groups, strict=True)
    clients = np.array([g if a is None else f"{c} {a}" for c, a, g in whose], dtype=np.str_)
    times = times_of(chosen.flows)
    labelled = LabelledInputs(inputs, apps, sizes, groups, clients, times)
    return fit_detector(task, labelled, calibration, show=show)


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


def _hash(inputs: NDArray[Any], apps: NDArray[np.str_]) -> str:
    """The hash of the training data, independent of its files."""
    digest = hashlib.sha256(np.ascontiguousarray(inputs).data)
    digest.update("\n".join(apps.tolist()).encode())
    return digest.hexdigest()[:16]


def _now() -> str:
    """The time, or SOURCE_DATE_EPOCH where a build must be reproducible; ISO 8601, UTC."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
