"""Takes the numbers out of nested JSON, so that two reports or two models can be compared figure by figure."""

from __future__ import annotations

from typing import Any, Final

MOST_FIGURES: Final = 400
"""Of one report or model; further ones are left out."""
_LONGEST: Final = 200


def figures_of(value: Any) -> dict[str, float]:
    """The numbers of a JSON object; a nested one has its keys joined by dots."""
    figures: dict[str, float] = {}
    _flatten(value, "", figures)
    return figures


def _flatten(value: Any, name: str, into: dict[str, float]) -> None:
    if len(into) >= MOST_FIGURES:
        return
    if isinstance(value, dict):
        for key, each in value.items():
            _flatten(each, f"{name}.{key}"[:_LONGEST] if name else str(key)[:_LONGEST], into)
    elif isinstance(value, int | float) and not isinstance(value, bool) and name:
        if abs(value) < 1e300:  # neither infinite nor NaN, which JSON cannot hold
            into[name] = value
