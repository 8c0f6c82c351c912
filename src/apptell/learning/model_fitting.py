"""Fits a model to labelled inputs and writes its folder; training and updates both end here."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.dataset.groups import group_values, origins
from apptell.encoding import complete_options, encoding_of
from apptell.encoding.lengths import lengths
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.learning.labelled_inputs import LabelledInputs
from apptell.learning.model_card import model_card
from apptell.learning.registry import recipe_of
from apptell.models import Model, load_model, write_model
from apptell.models.training_rows import Encoded, TrainingRows
from apptell.models.unknown_detector import N_LENGTHS
from apptell.verdicts.context import times_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.dataset.selection import Selection
    from apptell.flows.schema import FlowBatch
    from apptell.learning.registry import Trainable
    from apptell.learning.task import Task


def labelled_inputs(
    task: Task, chosen: Selection, apps: NDArray[np.str_], *, describes: bool
) -> LabelledInputs:
    """What a model learns from some flows.

    Args:
        task: the model.
        chosen: n flows.
        apps: of each, shape (n,).
        describes: also lengths, clients and times, which a detector of unlearned apps and kept rows need.
    """
    inputs = task.encode(chosen, views=True)
    groups = origins(chosen.flows)
    if not describes:
        return LabelledInputs(inputs, apps, np.zeros((len(apps), 0), dtype=np.float32), groups)
    seen = complete_options(task.inputs, task.options).get("packets", DECISION_SEGMENTS)
    packets = min(N_LENGTHS, int(seen))
    sizes = chosen.gather(lambda batch: lengths(batch, packets=packets), ("core", "segments"))
    client = chosen.flows.column("client_address").to_pylist()
    whose = zip(chosen.flows.column("capture").to_pylist(), client, groups, strict=True)
    clients = np.array([g if a is None else f"{c} {a}" for c, a, g in whose], dtype=np.str_)
    return LabelledInputs(
        *(inputs, apps, sizes, groups, clients, times_of(chosen.flows)),
        *(_ja4(chosen.flows), _devices(chosen.flows, groups)),
    )


def _ja4(flows: FlowBatch) -> NDArray[np.str_]:
    """The TLS fingerprint of each flow, empty for none, shape (n,)."""
    if "ja4" not in set(flows.columns):
        return np.zeros(len(flows), dtype=np.str_)
    return np.array([ja4 or "" for ja4 in flows.column("ja4").to_pylist()], dtype=np.str_)


def _devices(flows: FlowBatch, groups: NDArray[np.str_]) -> NDArray[np.str_]:
    """The device of each flow, or its group where the dataset does not say, shape (n,)."""
    device = group_values(flows, "device")
    both = zip(device.tolist(), groups.tolist(), strict=True)
    return np.array([f"group {g}" if d is None else f"device {d}" for d, g in both], dtype=np.str_)


def to_rows(task: Task, flows: LabelledInputs) -> TrainingRows:
    """The rows that a model's folder keeps, without the names of groups, clients and devices."""
    encoding = encoding_of(task.inputs)
    views = 1 + len(task.views) if task.views else 0
    groups = np.unique(flows.groups, return_inverse=True)[1].astype(np.int64)
    clients, times = groups, np.zeros(len(groups), dtype=np.int64)
    if flows.clients is not None:
        clients = np.unique(flows.clients, return_inverse=True)[1].astype(np.int64)
    if flows.times_ns is not None:
        times = flows.times_ns - flows.times_ns.min(initial=0)
    return TrainingRows(
        Encoded(
            encoding.name, encoding.version, complete_options(encoding.name, task.options), views
        ),
        flows.inputs,
        flows.apps,
        flows.lengths,
        groups,
        clients,
        times,
        np.full(len(groups), "") if flows.ja4 is None else flows.ja4,
        groups
        if flows.devices is None
        else np.unique(flows.devices, return_inverse=True)[1].astype(np.int64),
    )


def from_rows(rows: TrainingRows) -> LabelledInputs:
    """What a model learns from kept rows."""
    return LabelledInputs(
        rows.inputs,
        rows.apps,
        rows.lengths,
        np.array([f"group {number}" for number in rows.groups.tolist()], dtype=np.str_),
        np.array([f"client {number}" for number in rows.clients.tolist()], dtype=np.str_),
        rows.times_ns,
        rows.ja4,
        np.array([f"device {number}" for number in rows.devices.tolist()], dtype=np.str_),
    )


def fit(learner: Trainable, task: Task, flows: LabelledInputs) -> Trainable:
    """The model, trained."""
    if task.is_grouped:
        learner.fit(flows.inputs, flows.apps, groups=flows.groups)
    else:
        learner.fit(flows.inputs, flows.apps)
    return learner


def fit_and_write(
    learner: Trainable,
    task: Task,
    flows: LabelledInputs,
    learned: Mapping[str, Any],
    *,
    tells: Callable[[Trainable, dict[str, Any]], Any] | None = None,
    out: str | Path,
    threshold: float | None = None,
    unknown: bool = False,
    keep_rows: bool = False,
    new_stacks: bool = False,
    replace: bool = False,
    show: Callable[[float, str], None] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Model:
    """Trains a model and writes its folder.

    Args:
        learner: the model, untrained, as ``task.learner`` gives it.
        task: its settings.
        flows: what it learns from; with all that is known of them for ``unknown``, ``keep_rows`` and
            ``new_stacks``.
        learned: what ``model.json`` says of the flows.
        tells: says of the fitted model, from the options of its inputs, which fields tell each app.
        out: the folder.
        threshold: confidence below which the model declines.
        unknown: also learn to recognise flows of other apps.
        keep_rows: also keep what it learned from in the folder.
        new_stacks: also choose how flows of TLS stacks are decided that it does not know.
        replace: whether an existing model may be replaced.
        show: called with the share done, 0 to 1, and words, while it learns to recognise unknown apps.
        extra: further entries of ``model.json``.

    Raises:
        DatasetError: there are too few groups to learn to recognise unknown apps.
        OutputError: the folder cannot be written.
    """
    recipe, extra = recipe_of(task.model), dict(extra or {})
    kept = to_rows(task, flows).to_bytes() if keep_rows else None  # refused before the training
    fit(learner, task, flows)
    recogniser = None
    if unknown:
        from apptell.learning.detector_training import fit_detector

        recogniser = fit_detector(task, flows, extra.get("calibration"), show=show)
    rule = None
    if new_stacks:
        from apptell.learning.stack_training import fit_stack_rule

        rule = fit_stack_rule(task, flows, extra.get("calibration"), threshold, show=show)
    info: dict[str, Any] = {
        "name": recipe.name,
        "apps": [str(app) for app in learner.classes_],
        "inputs": recipe.inputs,
        "encoding": encoding_of(recipe.inputs).version,
        "options": complete_options(recipe.inputs, task.options),
        "threshold": threshold,
        "calibration": None,
        "seed": task.seed,
        "metrics": {},
        "versions": {name: version(name) for name in ("apptell", "numpy", *recipe.libraries)},
        "created": now(),
        "training": {
            "hyperparameters": recipe.complete(task.hyperparameters),
            **recipe.report(learner),
        },
        "learned": dict(learned),
        **extra,
    }
    info["data"] = {
        "hash": _hash(flows.inputs, flows.apps),
        "flows": len(flows.apps),
        "per_app": dict(sorted(Counter(flows.apps.tolist()).items())),
        **extra.get("data", {}),
    }
    reasons = None if tells is None else tells(learner, info["options"])
    if reasons is not None:
        info["tells"] = reasons
    if recipe.balanced:
        info["prior"] = {app: 1 / len(info["apps"]) for app in info["apps"]}
    content = None
    if recogniser is not None:
        content = recogniser.detector.to_bytes()
        info["unknown"] = {"sha256": hashlib.sha256(content).hexdigest(), **recogniser.facts}
    if kept is not None:
        info["rows"] = {
            "sha256": hashlib.sha256(kept).hexdigest(),
            "flows": len(flows.apps),
            "bytes": len(kept),
        }
    forest = None
    if rule is not None:
        forest, info["new_stacks"] = rule.forest, dict(rule.facts)
        if forest is not None:
            info["new_stacks"]["sha256"] = hashlib.sha256(forest).hexdigest()
    card = model_card(info, recipe.description)
    onnx = learner.to_onnx()
    write_model(out, onnx, info, card, replace=replace, unknown=content, rows=kept, forest=forest)
    return load_model(out)


def now() -> str:
    """The time, or SOURCE_DATE_EPOCH where a build must be reproducible; ISO 8601, UTC."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _hash(inputs: NDArray[Any], apps: NDArray[np.str_]) -> str:
    """The hash of the training data, independent of its files."""
    digest = hashlib.sha256(np.ascontiguousarray(inputs).data)
    digest.update("\n".join(apps.tolist()).encode())
    return digest.hexdigest()[:16]
