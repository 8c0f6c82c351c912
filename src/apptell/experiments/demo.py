"""Trains a model on the embedded samples, tests it on recordings that were kept out, and writes a report.

A second model never learns one of the apps, and shows how well that app's flows are recognised as unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from apptell.dataset.classes import Classes
from apptell.errors import DatasetError, ModelError
from apptell.experiments.labelled import labelled_flows
from apptell.experiments.left_out_apps import evaluate_without
from apptell.experiments.samples import embedded_recordings
from apptell.experiments.train import train
from apptell.learning.task import Task
from apptell.models import read_model
from apptell.reports.html import ReportText

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apptell.dataset import Dataset
    from apptell.evaluation.open_set import OpenSetFigures
    from apptell.experiments.evaluate import EvaluatedModel
    from apptell.models import Model

_EPOCHS: Final = {"paper-cnn": 20}
"""Enough for the samples, where 100 take too long."""

UNLEARNED: Final = "matrix"
"""The app that the second model does not learn: of the six, neither the easiest to recognise nor the hardest.

The share that is called unknown at 5 %, with seed 0: irc 0.11, websocketchat 0.13, matrix 0.26, mumble 0.29,
xmpp 0.38, mqtt 0.76.
"""


def demo_epochs(model: str) -> int:
    """The default number of passes over the training flows, for models that learn in passes."""
    return _EPOCHS.get(model, 100)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A model of the embedded samples, with its figures on the recordings that were kept out of training."""

    model: Model
    test: EvaluatedModel
    epochs: int
    n_train: int
    """Training flows."""
    n_recordings: int
    """Recordings that the training flows are from."""
    held_out: tuple[Path, ...]
    """Folders of the recordings that were kept out of training."""

    def write_report(self, folder: Path) -> None:
        """Writes the report of the test.

        Args:
            folder: created if it is missing; files of an earlier report are replaced.

        Raises:
            OutputError: the folder cannot be written.
        """
        name, held_out = self.model.name, ", ".join(path.name for path in self.held_out)
        text = ReportText(
            title=f"{name} on recordings that were kept out of training",
            paragraphs=[
                (
                    f"The model {name} was trained for {self.epochs} epochs on {self.n_train:,} flows of "
                    f"{self.n_recordings} recordings and then measured on {len(self.test.flows):,} flows of "
                    f"{held_out}: another network on another day."
                ),
                "The model sees the first bytes of at most the first five payload packets of each flow.",
            ],
            command="apptell demo",
            examples=self.test.example_images(),
        )
        self.test.write_report(folder, text=text)


def train_on_samples(
    data: Dataset,
    folder: Path,
    model: str = "fusion",
    *,
    epochs: int | None = None,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Demonstration:
    """Trains a model on some of the embedded recordings and tests it on the others.

    Args:
        data: the dataset of the samples (``embedded_dataset``).
        folder: the model's; a model of the same dataset is replaced.
        model: the name of a recipe.
        epochs: passes over the training flows (default: ``demo_epochs``).
        seed: seed of all random numbers.
        progress: called with the share done, 0 to 1, and a description.
        notify: called with notices, one sentence each.

    Raises:
        DatasetError: the split kept no recording out of training.
        OutputError: the folder cannot be written, or holds something other than a model of this dataset.
        MissingError: the training libraries are not installed.
    """
    passes = epochs or demo_epochs(model)
    trained = train(
        data,
        model,
        out=folder,
        replace=_was_trained_on(folder, data.hash),
        split="source",
        epochs=passes,
        seed=seed,
        progress=progress,
        notify=notify,
    )
    if trained.test is None:
        raise DatasetError(f"{folder}: no recording was kept from the model")
    groups = trained.test.flows.flows.column("groups").to_pylist(maps_as_pydicts="strict")
    names = {row["source"] for row in groups}
    recordings = embedded_recordings()
    held_out = tuple(path for path in recordings if path.name in names)
    return Demonstration(
        trained.model,
        trained.test,
        passes,
        len(trained.split.train),
        len(recordings) - len(held_out),
        held_out,
    )


def leave_out_app(
    data: Dataset,
    app: str = UNLEARNED,
    *,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> OpenSetFigures:
    """How well flows of an app are recognised as unknown by a model (``fast``) that did not learn it.

    Args:
        data: the dataset of the samples (``embedded_dataset``).
        app: the app to leave out of training.
        seed: seed of all random numbers.
        progress: called with the share done, 0 to 1, and a description.

    Returns:
        The figures at the stated rate ``left_out_apps.RATE``, on the app's flows and on those of a recording
        that was kept out of training.

    Raises:
        UsageError: the app has no flows.
        MissingError: the training libraries are not installed.
    """
    measured = evaluate_without(
        Task("fast", seed=seed),
        labelled_flows(data),
        Classes(),
        [app],
        split="source",
        show=progress,
    )
    if measured.open_set is None:
        raise DatasetError(f"no flow of {app} was measured")
    return measured.open_set


def _was_trained_on(folder: Path, dataset_hash: str) -> bool:
    """Whether a folder has a model of this dataset: only such a model may be replaced."""
    try:
        info, _ = read_model(folder)
    except ModelError:
        return False
    return bool(info["data"].get("dataset_hash") == dataset_hash)
