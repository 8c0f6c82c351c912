"""A linear model on parsed tokens, for sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apptell.learning.registry import Hyperparameter, Recipe, Trainable, TrainingOptions

if TYPE_CHECKING:
    from apptell.learning.token_models import TokenLinear

VIEWS: Final = (
    *({"skip": skip} for skip in range(1, 7)),  # captures that begin in mid-session
    *(
        {"packets": packets} for packets in (2, 3)
    ),  # flows that end early, segments merged by offload
)

HYPERPARAMETERS: Final = {
    "strength": Hyperparameter(30.0, "inverse strength of the linear model's regularisation"),
    "catalogue": Hyperparameter(0, "1 to look up the catalogue's names as well", int, -1, 1),
}


def make(options: TrainingOptions) -> Trainable:
    """The linear model, untrained."""
    from apptell.learning.token_models import TokenLinear

    return TokenLinear(random_state=options.seed, **options.hyperparameters)


def report(trained: TokenLinear) -> dict[str, object]:
    """The training's entries for ``model.json``."""
    return {"tokens": int(trained.vocabulary_.max())}


RECIPE = Recipe(
    name="fast",
    inputs="structure",
    description="A linear model on what handshakes, records, turns and words say.",
    make=make,
    report=report,
    libraries=("scikit-learn",),
    options=("names", "packets", "keys"),
    hyperparameters=HYPERPARAMETERS,
    views=VIEWS,
    late_views=True,
    grouped=True,
    balanced=True,
)
