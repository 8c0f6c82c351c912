"""A random forest on only the signed lengths of the first payload packets.

For data without payload, addresses and names, such as FG-Net and MIRAGE.
"""

from __future__ import annotations

from apptell.learning.recipes.paper_rf import HYPERPARAMETERS, make, report
from apptell.learning.registry import Recipe

RECIPE = Recipe(
    name="lengths-rf",
    inputs="lengths",
    description="A random forest on the signed lengths of the first payload packets.",
    make=make,
    report=report,
    libraries=("scikit-learn",),
    options=("packets",),
    hyperparameters=HYPERPARAMETERS,
)
