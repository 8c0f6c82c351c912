"""The paper's random forest on the 37 features of Table 3, or on 35 without the ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.learning.registry import Recipe, Settings, Trainable

if TYPE_CHECKING:
    from apptell.learning.forest import StatisticsForest


def make(settings: Settings) -> Trainable:
    """The forest, ungrown."""
    from apptell.learning.forest import StatisticsForest

    return StatisticsForest(n_jobs=-1, random_state=settings.seed)


def report(trained: StatisticsForest) -> dict[str, object]:
    """What the training leaves for ``model.json``."""
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
)
