"""Runs ``apptell update`` for a page, in a process of its own with bounds on memory, time and written files.

It reports ``progress`` with words, and ``note``. The updated model is a new version in the registry, or nothing
was written.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apptell.web.bounded_process import answer_job

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Updates a model and adds the result to its shelf; it is not promoted."""
    answer_job(_updated, _fault)


def _fault(_: dict[str, Any], error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "the update needs more memory than it may use; run apptell update instead"
    return str(error)


def _updated(task: dict[str, Any], send: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    from apptell.experiments.update import update
    from apptell.models.model_shelf import ModelShelf

    shelf = ModelShelf(Path(task["shelf"]))
    with tempfile.TemporaryDirectory(prefix="apptell-update-") as aside:
        out = Path(aside, "model")
        found = update(
            shelf.path(task["version"]),
            out=out,
            add=[(Path(folder), app) for folder, app in task["add"]],
            progress=lambda share, words: send({"progress": share, "words": words}),
            notify=lambda sentence: send({"note": sentence}),
        )
        version = None if found.model is None else shelf.add(out)
    return {**found.to_json(), "version": version}


if __name__ == "__main__":
    main()
