"""The notebooks of docs/notebooks run from top to bottom, and show what their text says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs/notebooks"
NAMES = {path.stem for path in FOLDER.glob("*.py")}
_RUN = """
import importlib.util, json, sys
found = {}
for path in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("notebook", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    defined = module.app.run()[1]
    found[path] = {name: value for name, value in defined.items() if isinstance(value, (int, float, str, list))}
print(json.dumps(found, default=str))
"""


@pytest.fixture(scope="module")
def defined(tmp_path_factory):
    """What the cells of each notebook define, run in one process of its own."""
    pytest.importorskip("marimo", reason="notebooks need marimo")
    pytest.importorskip("matplotlib", reason="the plots of notebooks need matplotlib")
    paths = {str(FOLDER / f"{name}.py"): name for name in sorted(NAMES)}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *paths],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path_factory.mktemp("notebooks"),
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {paths[path]: names for path, names in json.loads(done.stdout.splitlines()[-1]).items()}


def test_every_notebook_is_listed_on_the_page():
    page = (FOLDER.parent / "how-to/notebooks.md").read_text("utf-8")
    assert {name for name in NAMES if f"notebooks/{name}.py" in page} == NAMES
    assert len(NAMES) == 5


def test_notebooks_are_text_without_outputs():
    for name in NAMES:
        text = (FOLDER / f"{name}.py").read_text("utf-8")
        assert "app = marimo.App()" in text
        assert len(text) < 5000


def test_a_first_look_says_how_many_flows_have_an_app(defined):
    assert 0 < defined["first_look"]["n_named"] < defined["first_look"]["n_flows"]


def test_the_phones_packages_become_the_models_apps(defined):
    assert len(defined["phone_to_model"]["apps"]) == 7
    assert all(name.startswith("test.lab.") for name in defined["phone_to_model"]["apps"])


def test_the_split_by_chance_is_the_better_looking_one(defined):
    assert defined["random_splits"]["optimistic"] > defined["random_splits"]["fair"] + 0.05


def test_unlearned_flows_are_ranked_better_than_by_chance(defined):
    assert defined["open_world"]["auroc"] > 0.6


def test_verdicts_are_explained_in_sentences(defined):
    assert all(text.endswith(".") for text in defined["explain_verdict"]["sentences"])
