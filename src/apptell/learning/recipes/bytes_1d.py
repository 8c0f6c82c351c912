"""The literature's one-dimensional network on the first 784 payload bytes: a comparator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.learning.registry import Recipe, Settings, Trainable

if TYPE_CHECKING:
    from apptell.learning.estimators import ByteClassifier


def make(settings: Settings) -> Trainable:
    """The network, untrained."""
    from apptell.learning.estimators import ByteClassifier

    return ByteClassifier(
        settings.epochs,
        device=settings.device,
        random_state=settings.seed,
        progress=settings.progress,
        checkpoint=settings.checkpoint,
    )


def report(trained: ByteClassifier) -> dict[str, object]:
    """What the training leaves for ``model.json``."""
    return trained.history_.summary()


RECIPE = Recipe(
    name="bytes-1d",
    inputs="payload",
    description="A one-dimensional convolutional network on the first 784 payload bytes.",
    make=make,
    report=report,
    libraries=("torch",),
)
