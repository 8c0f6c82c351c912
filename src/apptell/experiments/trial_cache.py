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
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from apptell._version import __version__
from apptell.encoding import encoding_of
from apptell.errors import DatasetError, needs_extra
from apptell.files import make_folder, write_file
from apptell.learning.task import NEIGHBOUR, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    passes: int | None = None
    """Passes over the training flows, of a model that learns in passes."""

    def spread(self, apps: tuple[str, ...]) -> NDArray[np.float32]:
        """The probabilities with a column for each of ``apps``; 0 for apps without training data."""
        wide = np.zeros((len(self.probabilities), len(apps)), dtype=np.float32)
        wide[:, [apps.index(app) for app in self.apps]] = self.probabilities
        return wide


@dataclass(frozen=True)
class Trial:
    """A training and a test, with all that they depend on."""

    task: Task
    """The model."""
    learned: NDArray[Any]
    """Training inputs, shape (n, ...)."""
    apps: NDArray[np.str_]
    """Their apps, shape (n,)."""
    tested: NDArray[Any]
    """Test inputs, shape (m, ...)."""
    groups: NDArray[np.str_] | None = None
    """The source of each training flow, shape (n,), for models that use it."""

    @cached_property
    def name(self) -> str:
        """A hash of everything that the result depends on."""
        used = self.groups if self.task.is_grouped else None
        return _name(self.task, self.learned, self.apps, self.tested, used)

    def check(self) -> None:
        """Refuses a training side from which nothing can be learned.

        Raises:
            DatasetError: there are fewer than two apps.
        """
        if len(np.unique(self.apps)) < 2:
            raise DatasetError(
                f"a training side has only one app, {self.apps[0] if len(self.apps) else 'none'}; "
                "at least two are needed: use fewer folds or another split",
                argument="split",
            )

    def kept(self, cache: Path) -> TrialResult | None:
        """An earlier result; None where there is none, or it is damaged."""
        return _kept(cache / f"{self.name}.npz", len(self.tested))

    def keep(self, cache: Path, result: TrialResult) -> None:
        """Keeps a result for the next time.

        Raises:
            OutputError: the cache cannot be written.
        """
        _keep(cache / f"{self.name}.npz", result)

    def run(
        self, progress: Callable[[Progress], None] | None = None, checkpoint: Path | None = None
    ) -> TrialResult:
        """Trains and tests.

        Args:
            progress: called about twice a second by models that learn in passes.
            checkpoint: where such models keep their state when they are interrupted.

        Raises:
            MissingError: the training libraries are not installed.
            KeyboardInterrupt: the user interrupted it.
        """
        learner = _learner(self.task, progress, checkpoint)
        began = time.perf_counter()
        if self.groups is None or not self.task.is_grouped:
            learner.fit(self.learned, self.apps)
        else:
            learner.fit(self.learned, self.apps, groups=self.groups)
        history = getattr(learner, "history_", None)
        if getattr(history, "interrupted", False):
            raise KeyboardInterrupt
        middle = time.perf_counter()
        probabilities = np.asarray(learner.predict_proba(self.tested), dtype=np.float32)
        return TrialResult(
            tuple(str(app) for app in learner.classes_),
            probabilities,
            middle - began,
            time.perf_counter() - middle,
            cached=False,
            passes=None if history is None else len(history.rows),
        )


class Trainer(Protocol):
    """Trains ahead what a comparison will need, several at once or elsewhere."""

    def __call__(self, trials: Iterator[Trial], cache: Path) -> None:
        """Keeps the results of all trials in the cache's folder.

        Raises:
            ApptellError: a trial failed.
        """


def run_trial(
    task: Task,
    learned: NDArray[Any],
    apps: NDArray[np.str_],
    tested: NDArray[Any],
    cache: Path,
    progress: Callable[[Progress], None] | None = None,
    groups: NDArray[np.str_] | None = None,
) -> TrialResult:
    """Trains on some inputs and gives the probabilities of others, or an earlier result.

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
    trial = Trial(task, learned, apps, tested, groups)
    trial.check()
    file = cache / f"{trial.name}.npz"
    if (kept := _kept(file, len(tested))) is not None:
        return kept
    run = trial.run(progress, file.with_suffix(".part"))
    _keep(file, run)
    return run


def _learner(
    task: Task, progress: Callable[[Progress], None] | None, checkpoint: Path | None
) -> Learner:
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
                passes=int(there["passes"]) if "passes" in there else None,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return run if run.probabilities.shape == (n_tested, len(run.apps)) else None


def _keep(file: Path, run: TrialResult) -> None:
    make_folder(file.parent)
    content = io.BytesIO()
    arrays: dict[str, Any] = {
        "apps": np.array(run.apps, dtype=np.str_),
        "probabilities": run.probabilities,
        "train_s": run.train_s,
        "identify_s": run.identify_s,
    }
    if run.passes is not None:
        arrays["passes"] = run.passes
    np.savez(content, **arrays)
    write_file(file, content.getbuffer())
