"""Trains and tests one model on given inputs, or returns the cached result.

A result is named by the hash of everything it depends on: the training inputs and apps, the test inputs, the
model and its settings. An interrupted comparison therefore continues where it stopped, and a model is trained
once for each dataset, split and setting.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from apptell._version import __version__
from apptell.encoding import encoding_of
from apptell.errors import DatasetError, needs_extra
from apptell.files import make_folder, write_file
from apptell.learning.task import NEIGHBOUR, Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.learning.progress import Progress


class Learner(Protocol):
    """The methods of a model that a trial needs."""

    classes_: NDArray[Any]

    def fit(self, X: Any, y: Any, **more: Any) -> Any:
        """Learns."""

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities, columns as in ``classes_``."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The result of one training."""

    apps: tuple[str, ...]
    """Columns of the probabilities."""
    probabilities: NDArray[np.float32]
    """Of the tested flows, shape (n, k)."""
    train_s: float
    """Seconds of the training."""
    identify_s: float
    """Seconds for the tested flows, without encoding."""
    cached: bool
    """Whether the result came from the cache."""

    def spread(self, apps: tuple[str, ...]) -> NDArray[np.float32]:
        """The probabilities with a column for each of ``apps``; 0 for apps without training data."""
        wide = np.zeros((len(self.probabilities), len(apps)), dtype=np.float32)
        wide[:, [apps.index(app) for app in self.apps]] = self.probabilities
        return wide


def run_trial(
    task: Task,
    learned: NDArray[Any],
    apps: NDArray[np.str_],
    tested: NDArray[Any],
    cache: Path,
    progress: Callable[[Progress], None] | None = None,
    groups: NDArray[np.str_] | None = None,
) -> TrialResult:
    """Trains on some inputs and gives the probabilities of others.

    Args:
        task: the model.
        learned: training inputs, shape (n, ...).
        apps: their apps, shape (n,).
        tested: test inputs, shape (m, ...).
        cache: the folder of results; created if it is missing.
        progress: called about twice a second by models that learn in passes.
        groups: the source of each training flow, shape (n,), for models that use it.

    Raises:
        DatasetError: there are fewer than two apps.
        MissingError: the training libraries are not installed.
        OutputError: the cache cannot be written.
        KeyboardInterrupt: the user interrupted it; models that learn in passes keep a checkpoint.
    """
    if len(np.unique(apps)) < 2:
        raise DatasetError(
            f"a training side has only one app, {apps[0] if len(apps) else 'none'}; "
            "at least two are needed: use fewer folds or another split"
        )
    if not task.is_grouped:
        groups = None
    file = cache / f"{_name(task, learned, apps, tested, groups)}.npz"
    if (kept := _kept(file, len(tested))) is not None:
        return kept
    learner = _learner(task, progress, file.with_suffix(".part"))
    began = time.perf_counter()
    if groups is None:
        learner.fit(learned, apps)
    else:
        learner.fit(learned, apps, groups=groups)
    if getattr(getattr(learner, "history_", None), "interrupted", False):
        raise KeyboardInterrupt
    middle = time.perf_counter()
    probabilities = np.asarray(learner.predict_proba(tested), dtype=np.float32)
    run = TrialResult(
        tuple(str(app) for app in learner.classes_),
        probabilities,
        middle - began,
        time.perf_counter() - middle,
        cached=False,
    )
    _keep(file, run)
    return run


def _learner(task: Task, progress: Callable[[Progress], None] | None, checkpoint: Path) -> Learner:
    if task.model != NEIGHBOUR:
        return task.learner(progress, checkpoint)
    with needs_extra("train", "a comparison"):
        from apptell.experiments.neighbour import NearestNeighbour

        return NearestNeighbour()


def _name(
    task: Task,
    learned: NDArray[Any],
    apps: NDArray[np.str_],
    tested: NDArray[Any],
    groups: NDArray[np.str_] | None,
) -> str:
    said = {
        **{name: value for name, value in asdict(task).items() if value is not None},
        "encoding": encoding_of(task.inputs).version,
        "apptell": __version__,
        "shapes": [learned.shape, tested.shape],
    }
    digest = hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=12)
    for array in (learned, tested):
        digest.update(np.ascontiguousarray(array).data)
    for words in (apps, () if groups is None else groups):
        digest.update("\n".join(map(str, words)).encode())
    return f"{task.model}-{digest.hexdigest()}"


def _kept(file: Path, n_tested: int) -> TrialResult | None:
    """An earlier result; None when there is none, or it is damaged."""
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as there:
            run = TrialResult(
                tuple(there["apps"].tolist()),
                there["probabilities"],
                float(there["train_s"]),
                float(there["identify_s"]),
                cached=True,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return run if run.probabilities.shape == (n_tested, len(run.apps)) else None


def _keep(file: Path, run: TrialResult) -> None:
    make_folder(file.parent)
    content = io.BytesIO()
    np.savez(
        content,
        apps=np.array(run.apps, dtype=np.str_),
        probabilities=run.probabilities,
        train_s=run.train_s,
        identify_s=run.identify_s,
    )
    write_file(file, content.getbuffer())
