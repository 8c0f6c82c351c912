"""The linear model on parsed tokens and a network of their embeddings, fused: the best there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.learning.recipes import fast
from apptell.learning.registry import Recipe, Settings, Trainable

if TYPE_CHECKING:
    from apptell.learning.token_models import TokenFusion


def make(settings: Settings) -> Trainable:
    """The fusion, untrained."""
    from apptell.learning.token_models import TokenFusion

    return TokenFusion(
        settings.epochs,
        device=settings.device,
        random_state=settings.seed,
        progress=settings.progress,
    )


def report(trained: TokenFusion) -> dict[str, object]:
    """What the training leaves for ``model.json``."""
    return {**fast.report(trained), **trained.history_.summary()}


RECIPE = Recipe(
    name="fusion",
    inputs="structure",
    description="A linear model and a network of embeddings on what handshakes, records, turns and "
    "words say.",
    make=make,
    report=report,
    libraries=("scikit-learn", "torch"),
    options=("names", "packets"),
    views=fast.VIEWS,
    grouped=True,
    balanced=True,
)
