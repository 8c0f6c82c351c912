"""Writes the README.md of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apptell.templates import render


def model_card(info: dict[str, Any], description: str) -> str:
    """The card of a model, Markdown, from the content of its ``model.json``."""
    return render(Path(__file__).parent / "card.md", description=description, **info)
