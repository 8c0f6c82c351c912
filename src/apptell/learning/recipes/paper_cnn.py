"""The paper's network on images of the first five payload packets (Sections 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.learning.registry import Recipe, Settings, Trainable

if TYPE_CHECKING:
    from apptell.learning.estimators import AppClassifier


def make(settings: Settings) -> Trainable:
    """The network, untrained."""
    from apptell.learning.estimators import AppClassifier

    return AppClassifier(
        settings.epochs,
        device=settings.device,
        random_state=settings.seed,
        progress=settings.progress,
        checkpoint=settings.checkpoint,
    )


def report(trained: AppClassifier) -> dict[str, object]:
    """What the training leaves for ``model.json``."""
    return trained.history_.summary()


RECIPE = Recipe(
    name="paper-cnn",
    inputs="image",
    description="The paper's convolutional network on the bytes of the first five payload packets.",
    make=make,
    report=report,
    libraries=("torch",),
)
