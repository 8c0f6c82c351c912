"""Detects labels that come from names, and the consequences for models and figures.

A model that reads names learns to repeat labels that were made of names, and a figure on such labels says how
well it repeats them. Therefore names are masked unless they are requested, and figures state what they are
based on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from apptell.encoding import encoding_of
from apptell.errors import UsageError
from apptell.labels.naming import NAME_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from apptell.flows.schema import FlowBatch
    from apptell.learning.registry import Recipe

SHARE: Final = "name_labels_share"
"""The fact that holds the share of flows whose labels come from names, in reports and in ``model.json``."""
WARNING: Final = "labels_warning"
"""The fact that holds the warning as a sentence."""
MASKED: Final = "masked"


def name_labels_share(flows: FlowBatch) -> float:
    """The share of flows whose labels come from names, DNS answers and addresses."""
    if not len(flows) or "label_from" not in flows.columns:
        return 0.0
    by_names = pc.equal(flows.column("label_from"), pa.scalar(NAME_LABELS))
    return float(pc.sum(by_names.fill_null(False)).as_py()) / len(flows)


def warning_facts(flows: FlowBatch) -> dict[str, Any]:
    """The first facts of a report if labels come from names: SHARE, and WARNING as a sentence."""
    share = name_labels_share(flows)
    if not share:
        return {}
    return {
        SHARE: round(share, 4),
        WARNING: f"{share:.0%} of these labels come from server names, DNS answers and addresses in the "
        "traffic itself. The figures say how well a model repeats such labels, not how often it is right; "
        "for a model that reads names they are circular.",
    }


def names_to_learn(
    flows: FlowBatch,
    recipe: Recipe,
    names: str | None,
    notify: Callable[[str], None],
) -> str | None:
    """How a model that learns from flows sees names: as requested, else ``masked`` where needed.

    Args:
        flows: the training flows.
        recipe: the model's.
        names: ``on``, ``masked``, ``hashed``, or None for the default.
        notify: called with a sentence if labels come from names.

    Raises:
        UsageError: labels come from names, and the model reads payload and cannot mask the names in it.
    """
    if not name_labels_share(flows):
        return names
    if names in (None, MASKED):
        if "names" in recipe.options:
            notify("The labels come from names: the model learns with names masked.")
            return MASKED
        if encoding_of(recipe.inputs).reads_payload:
            raise UsageError(
                f"the labels come from names, and {recipe.name} reads names in the payload: choose a model "
                "that masks them (fast, fusion), or names 'on' to learn from them all the same",
                argument="names",
            )
        return names
    notify("The labels come from names, and the model reads names: it learns to repeat them.")
    return names
