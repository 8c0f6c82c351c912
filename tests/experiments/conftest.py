"""Forests of few trees: what is tested is how models are compared, not how well they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from apptell.learning.recipes.paper_rf import HYPERPARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def small_forests() -> Iterator[None]:
    """Ten trees where an option does not ask for another number."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(HYPERPARAMETERS, "n_trees", replace(HYPERPARAMETERS["n_trees"], default=10))
        yield
