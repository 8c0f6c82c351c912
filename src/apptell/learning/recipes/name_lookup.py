"""A lookup of the server names seen in training: the comparator for models that read names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.learning.recipes import fast
from apptell.learning.registry import Recipe, Trainable, TrainingOptions

if TYPE_CHECKING:
    from apptell.learning.name_tables import NameLookup


def make(options: TrainingOptions) -> Trainable:
    """Returns the lookup, untrained."""
    from apptell.learning.name_tables import NameLookup

    return NameLookup(random_state=options.seed, **options.hyperparameters)


def report(trained: NameLookup) -> dict[str, object]:
    """Returns what the training leaves for ``model.json``."""
    return {"names": len(trained.names_.check) - 1}


RECIPE = Recipe(
    name="name-lookup",
    inputs="names",
    description="A lookup of the server names seen in training; it knows nothing of flows without one.",
    make=make,
    report=report,
    libraries=("scikit-learn",),
    hyperparameters={"catalogue": fast.HYPERPARAMETERS["catalogue"]},
    grouped=True,
)
