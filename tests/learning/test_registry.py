from __future__ import annotations

import subprocess
import sys

import pytest

from apptell.encoding import ENCODINGS
from apptell.errors import UsageError
from apptell.learning.registry import all_recipes, recipe_of


def test_the_papers_two_models_are_found_by_their_names():
    assert {"paper-cnn", "paper-rf"} <= set(all_recipes())
    assert recipe_of("paper-cnn").inputs == "image"
    assert recipe_of("paper-rf").inputs == "statistics"


def test_every_recipe_names_inputs_and_options_that_exist():
    for name, recipe in all_recipes().items():
        assert recipe.name == name
        assert set(recipe.options) <= set(ENCODINGS[recipe.inputs].options)
        assert recipe.description.endswith(".")


def test_an_unknown_model_is_said():
    with pytest.raises(UsageError, match=r"^unknown model 'gpt'; available: .*paper-cnn"):
        recipe_of("gpt")


def test_listing_the_models_loads_no_framework():
    code = (
        "import sys; from apptell.learning import all_recipes; all_recipes(); "
        "print([m for m in ('torch', 'sklearn', 'onnx', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
