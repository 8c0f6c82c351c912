"""Labelled flows, a protocol and models in; each model's out-of-fold probabilities out.

Beside whatever model is asked for always stand the paper's network, its forest without ports and a
nearest neighbour, each with server names as they were and with server names masked. The folds' test
sides are pooled, so that each flow is tested once by a model that saw nothing of its group.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset.anonymize import mask_server_names
from apptell.dataset.groups import days, domains, group_values
from apptell.errors import UsageError
from apptell.learning.runs import NEIGHBOUR, Task, run_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.dataset.splits import Split
    from apptell.flows.schema import FlowBatch
    from apptell.learning.progress import Progress

ALWAYS: Final = ("paper-cnn", "paper-rf", NEIGHBOUR)
"""The models that stand in every comparison; the forest and the neighbour see no ports."""
NAMES: Final = ("on", "masked")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model under one protocol, its folds pooled."""

    model: str
    names: str
    """Server names ``on`` or ``masked``."""
    rows: NDArray[np.int64]
    """The tested rows of the flows, ascending, shape (n,)."""
    fold: NDArray[np.int64]
    """The fold in which each was tested, shape (n,)."""
    apps: tuple[str, ...]
    """Columns of the probabilities: every app of the flows, sorted."""
    probabilities: NDArray[np.float32]
    """Shape (n, k)."""
    train_s: float
    """Seconds of all trainings together, as they took when they were done."""
    identify_s: float
    """Seconds of all tests together."""


class Clock:
    """How far many trainings have come, as one share and the time that is left."""

    def __init__(self, n_tasks: int, show: Callable[[float, str], None] | None) -> None:
        """``show`` is called with the share done, 0 to 1, and words."""
        self._n_tasks = n_tasks
        self._show = show
        self._done = 0
        self._began = time.monotonic()

    def watch(self, words: str) -> Callable[[Progress], None]:
        """A progress callback for the task under way."""
        self._say(0.0, words)
        return lambda state: self._say(state.done, f"{words}, epoch {state.epoch}")

    def finish(self) -> None:
        """The task under way is done."""
        self._done += 1
        self._say(0.0, "")

    def _say(self, part: float, words: str) -> None:
        if self._show is None:
            return
        done = min(1.0, (self._done + part) / max(self._n_tasks, 1))
        left = (time.monotonic() - self._began) * (1 - done) / done if done else 0.0
        self._show(done, f"{words}, about {left:.0f} s left" if done else words)


def models_of(asked: Sequence[str]) -> tuple[str, ...]:
    """The models of a comparison: those that always stand in it, then those asked for.

    Raises:
        UsageError: no such model.
    """
    models = list(dict.fromkeys([*ALWAYS, *asked]))
    for model in models:
        if model not in ALWAYS:
            _ = Task(model).inputs  # a name that is not known is said before anything is trained
    return tuple(models)


def compare_models(
    flows: FlowBatch,
    apps: Sequence[str],
    splits: Sequence[Split],
    models: Sequence[str],
    *,
    epochs: int,
    seed: int = 0,
    device: str = "auto",
    cache: Path,
    show: Callable[[float, str], None] | None = None,
) -> Iterator[Outcome]:
    """Trains and tests every model on every split, server names on and masked.

    Args:
        flows: with the groups core, segments, names and labels.
        apps: the true app of each.
        splits: folds whose test sides do not overlap, or one split.
        models: names of recipes, or NEIGHBOUR; as ``models_of`` gives them.
        epochs: passes over the training flows, for models that learn in passes.
        seed: of every training.
        device: ``auto``, ``cpu`` or ``cuda``.
        cache: the folder of results that are kept.
        show: called with the share done, 0 to 1, and words.

    Raises:
        UsageError: the splits overlap, or there are none.
        DatasetError: a training side has one app only.
        MissingError: the training libraries are not installed.
        OutputError: the cache cannot be written.
    """
    if not splits:
        raise UsageError("there is no split to compare on")
    truth = np.asarray(apps, dtype=np.str_)
    every = tuple(sorted(set(truth.tolist())))
    rows = np.concatenate([split.test for split in splits])
    if len(np.unique(rows)) < len(rows):
        raise UsageError("the test sides of the splits overlap")
    fold = np.repeat(np.arange(len(splits)), [len(split.test) for split in splits])
    order = np.argsort(rows, kind="stable")
    clock = Clock(len(models) * len(NAMES) * len(splits), show)
    sides = {"on": flows, "masked": mask_server_names(flows)}
    for model in models:
        task = Task(model, epochs, seed, device)
        for names, side in sides.items():
            inputs = task.encode(side)
            parts, train_s, identify_s = [], 0.0, 0.0
            for number, split in enumerate(splits, 1):
                words = f"{model}, names {names}, fold {number} of {len(splits)}"
                watch = clock.watch(words)
                run = run_task(
                    task, inputs[split.train], truth[split.train], inputs[split.test], cache, watch
                )
                clock.finish()
                parts.append(run.spread(every))
                train_s += run.train_s
                identify_s += run.identify_s
            yield Outcome(
                model,
                names,
                rows[order],
                fold[order],
                every,
                np.concatenate(parts)[order],
                train_s,
                identify_s,
            )


def interval_groups(flows: FlowBatch, protocol: str) -> NDArray[Any]:
    """The unit of each flow for intervals, shape (n,): what the protocol leaves out as one.

    Under ``paper``, ``time`` and a file: its source, else its session, else its capture.
    """
    if protocol == "domain":
        values = domains(flows)
    elif protocol in ("paper", "time", "file"):
        source, session = (group_values(flows, name) for name in ("source", "session"))
        capture = flows.numpy("capture")
        values = np.array(
            [s or t or c for s, t, c in zip(source, session, capture, strict=True)], dtype=object
        )
    else:
        values = group_values(flows, protocol.removeprefix("group:").replace("-", "_"))
        if protocol == "day":
            known = np.array([value is not None for value in values])
            values = np.where(known, values, days(flows))
    return np.array([str(value or "(none)") for value in values])
