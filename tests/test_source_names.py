"""No two classes share a name, and no two modules do unless they do the same job in their packages."""

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "apptell"
SAME_JOB = {
    "__init__": "the package itself",
    "__main__": "runs the command line",
    "registry": "finds the package's plug-ins by name",
    "schema": "defines the columns of the package's table",
    "options": "the options of the package, checked when they are made",
    "live": "reads packets or flows while they arrive, or is the verb that does",
}
"""Name of a module to the job that it does in every package that has one."""


def places_by_name() -> dict[str, list[str]]:
    """Packages that have a module of a name, by that name."""
    places = defaultdict(list)
    for path in SOURCE.rglob("*.py"):
        places[path.stem].append(path.parent.relative_to(SOURCE).as_posix())
    return {name: sorted(found) for name, found in places.items() if len(found) > 1}


def verbs() -> set[str]:
    """The verbs of the command line, as the contract in ``pyproject.toml`` lists them."""
    settings = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    modules = [
        name
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["name"] == "No verb imports another verb"
        for name in contract["modules"]
    ]
    return {name.rpartition(".")[2] for name in modules}


def is_verb_and_its_function(name: str, places: list[str]) -> bool:
    return name in verbs() and len(places) == 2 and "cli" in places


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path.relative_to(SOURCE).as_posix())
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_modules_of_the_same_name_do_the_same_job() -> None:
    shared = places_by_name()
    unexplained = {
        name: places
        for name, places in shared.items()
        if name not in SAME_JOB and not is_verb_and_its_function(name, places)
    }
    assert not unexplained


def test_every_shared_name_that_is_explained_is_shared() -> None:
    assert SAME_JOB.keys() <= places_by_name().keys()
