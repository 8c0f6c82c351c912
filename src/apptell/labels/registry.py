"""Finds label formats by name, those of apptell and those of other packages."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from apptell.errors import UsageError
from apptell.labels.format import LabelFormat
from apptell.labels.formats import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Sequence

ENTRY_POINTS: Final = "apptell.label_formats"
"""Entry points of this group are subclasses of ``LabelFormat`` that take no arguments."""
_LAST: Final = "folders"


def format_names() -> tuple[str, ...]:
    """Names of all label formats, in the order in which they are asked."""
    others = sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - set(BUILT_IN))
    return (*(name for name in BUILT_IN if name != _LAST), *others, _LAST)


def formats(kind: str | None = None) -> Sequence[LabelFormat]:
    """All label formats in the order in which they are asked, or the one of a name.

    Raises:
        UsageError: no such format, or the entry point of another package is not a label format.
    """
    names = format_names()
    if kind is None:
        return [_format(name) for name in names]
    if kind not in names:
        raise UsageError(f"no label format {kind!r}; available: {', '.join(names)}")
    return [_format(kind)]


def _format(name: str) -> LabelFormat:
    if name in BUILT_IN:
        module, _, cls = BUILT_IN[name].partition(":")
        place = module if "." in module else f"apptell.labels.formats.{module}"
        found = getattr(import_module(place), cls)
    else:
        point = next(iter(entry_points(group=ENTRY_POINTS, name=name)))
        try:
            found = point.load()
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"label format {name}: {point.value} cannot be loaded: {error}"
            ) from error
    if not (isinstance(found, type) and issubclass(found, LabelFormat)):
        raise UsageError(f"label format {name}: {found!r} is not a subclass of LabelFormat")
    return found()
