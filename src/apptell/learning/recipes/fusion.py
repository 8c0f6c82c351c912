"""The linear model on parsed tokens, fused with a network of their embeddings: the most accurate model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.learning.recipes import fast
from apptell.learning.registry import Hyperparameter, Recipe, Trainable, TrainingOptions

if TYPE_CHECKING:
    from apptell.learning.token_models import TokenFusion


def make(options: TrainingOptions) -> Trainable:
    """The fusion, untrained."""
    from apptell.learning.token_models import TokenFusion

    return TokenFusion(
        options.epochs,
        device=options.device,
        random_state=options.seed,
        progress=options.progress,
        **options.hyperparameters,
    )


def report(trained: TokenFusion) -> dict[str, object]:
    """The training's entries for ``model.json``."""
    return {**fast.report(trained), **trained.history_.summary()}


RECIPE = Recipe(
    name="fusion",
    inputs="structure",
    description="A linear model and a network of embeddings on what handshakes, records, turns and "
    "words say.",
    make=make,
    report=report,
    libraries=("scikit-learn", "torch"),
    options=("names", "packets", "keys"),
    hyperparameters={
        **fast.HYPERPARAMETERS,
        "share": Hyperparameter(0.5, "the network's share of the log probabilities", high=1.0),
        "lr": Hyperparameter(3e-3, "largest step of AdamW"),
        "decay": Hyperparameter(1e-2, "weight decay of AdamW"),
    },
    views=fast.VIEWS,
    late_views=True,
    grouped=True,
    balanced=True,
)
