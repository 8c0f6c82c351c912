"""The paper's network on images of the first five payload packets (Sections 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apptell.learning.registry import Hyperparameter, Recipe, Trainable, TrainingOptions

if TYPE_CHECKING:
    from apptell.learning.estimators import AppClassifier

HYPERPARAMETERS: Final = {
    "lr": Hyperparameter(1.0, "factor of Adadelta's own step"),
    "batch_size": Hyperparameter(64, "flows in each step", int, high=65_536),
    "validation": Hyperparameter(
        0.0, "share of the flows that is held out; the pass of least loss on it is kept", high=0.5
    ),
    "patience": Hyperparameter(0, "passes without a smaller loss on it before training ends", int),
}


def make(options: TrainingOptions) -> Trainable:
    """The network, untrained."""
    from apptell.learning.estimators import AppClassifier

    return AppClassifier(
        options.epochs,
        device=options.device,
        random_state=options.seed,
        progress=options.progress,
        checkpoint=options.checkpoint,
        **options.hyperparameters,
    )


def report(trained: AppClassifier) -> dict[str, object]:
    """The training's entries for ``model.json``."""
    return trained.history_.summary()


RECIPE = Recipe(
    name="paper-cnn",
    inputs="image",
    description="The paper's convolutional network on the bytes of the first five payload packets.",
    make=make,
    report=report,
    libraries=("torch",),
    hyperparameters=HYPERPARAMETERS,
)
