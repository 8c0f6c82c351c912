"""A forest on the bursts of the first payload packets, for traffic whose bytes carry no information.

This includes mid-session flows, tunnels, encrypted hellos, and datasets without payload. It uses sixteen
packets by default, so its verdict is due at the sixteenth or at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apptell.learning.recipes import paper_rf
from apptell.learning.registry import Hyperparameter, Recipe, Trainable, TrainingOptions

if TYPE_CHECKING:
    from apptell.learning.forest import CalibratedForest

HYPERPARAMETERS: Final = {
    **paper_rf.HYPERPARAMETERS,
    "features": Hyperparameter(0.3, "share of the features that a node chooses among", high=1.0),
}


def make(options: TrainingOptions) -> Trainable:
    """The forest, ungrown."""
    from apptell.learning.forest import CalibratedForest

    return CalibratedForest(n_jobs=-1, random_state=options.seed, **options.hyperparameters)


def report(trained: CalibratedForest) -> dict[str, object]:
    """The training's entries for ``model.json``."""
    return {
        **paper_rf.report(trained),
        "mixed": trained.mixed_,
        "temperature": trained.temperature_,
    }


RECIPE = Recipe(
    name="sequence",
    inputs="bursts",
    description="A random forest on what the lengths of the first payload packets add up to.",
    make=make,
    report=report,
    libraries=("scikit-learn",),
    options=("packets",),
    late_views=True,
    hyperparameters=HYPERPARAMETERS,
)
