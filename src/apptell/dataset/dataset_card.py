"""Writes the README of a dataset from ``dataset.json``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apptell.templates import render

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROWS: Final = 200
"""Rows of one table at most; ``dataset.json`` has them all."""


def card(info: Mapping[str, Any]) -> str:
    """A Markdown page: what the dataset holds, where it came from, what was left out and done to it."""
    return render(
        Path(__file__).parent / "card.md",
        info=info,
        n_apps=len({label.split("/", 1)[0] for label in info["apps"]}),
        damaged=[source["damage"] for source in info["sources"] if source.get("damage")],
        most=_ROWS,
    )
