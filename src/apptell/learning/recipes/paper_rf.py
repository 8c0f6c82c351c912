"""The paper's random forest on the 37 features of Table 3, or on 35 without the ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apptell.learning.registry import Hyperparameter, Recipe, Trainable, TrainingOptions

if TYPE_CHECKING:
    from apptell.learning.forest import StatisticsForest

HYPERPARAMETERS: Final = {
    "n_trees": Hyperparameter(100, "trees", int, high=100_000),
    "features": Hyperparameter(
        None, "share of the features that a node chooses among (default: Weka's number)", high=1.0
    ),
}


def make(options: TrainingOptions) -> Trainable:
    """The forest, ungrown."""
    from apptell.learning.forest import StatisticsForest

    return StatisticsForest(n_jobs=-1, random_state=options.seed, **options.hyperparameters)


def report(trained: StatisticsForest) -> dict[str, object]:
    """The training's entries for ``model.json``."""
    trees = trained.trees_
    return {"trees": len(trees), "nodes": int(trees.root[-1]), "depth": trees.depth}


RECIPE = Recipe(
    name="paper-rf",
    inputs="statistics",
    description="The paper's random forest on sizes, gaps and counts of the first packets.",
    make=make,
    report=report,
    libraries=("scikit-learn",),
    options=("ports",),
    hyperparameters=HYPERPARAMETERS,
)
