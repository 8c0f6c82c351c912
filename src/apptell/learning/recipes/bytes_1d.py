"""The literature's one-dimensional network on the first 784 payload bytes: a comparator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.learning.recipes.paper_cnn import HYPERPARAMETERS
from apptell.learning.registry import Recipe, Trainable, TrainingOptions

if TYPE_CHECKING:
    from apptell.learning.estimators import ByteClassifier


def make(options: TrainingOptions) -> Trainable:
    """The network, untrained."""
    from apptell.learning.estimators import ByteClassifier

    return ByteClassifier(
        options.epochs,
        device=options.device,
        random_state=options.seed,
        progress=options.progress,
        checkpoint=options.checkpoint,
        **options.hyperparameters,
    )


def report(trained: ByteClassifier) -> dict[str, object]:
    """The training's entries for ``model.json``."""
    return trained.history_.summary()


RECIPE = Recipe(
    name="bytes-1d",
    inputs="payload",
    description="A one-dimensional convolutional network on the first 784 payload bytes.",
    make=make,
    report=report,
    libraries=("torch",),
    hyperparameters=HYPERPARAMETERS,
)
