"""Finds the split method for a text such as ``session`` or ``time:2026-10-01``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final

from apptell.dataset.splits import methods
from apptell.dataset.splits.method import SplitMethod
from apptell.errors import UsageError

ENTRY_POINTS: Final = "apptell.split_methods"
"""Entry points of this group are subclasses of ``SplitMethod``, under their names."""
_BUILT_IN: Final[tuple[type[SplitMethod], ...]] = (
    methods.Paper,
    methods.Session,
    methods.Source,
    methods.Device,
    methods.Client,
    methods.Network,
    methods.Day,
    methods.Version,
    methods.Time,
    methods.CapturePoint,
    methods.ServerDomain,
    methods.TimeOf,
    methods.NamedGroup,
    methods.Everything,
)
_GIVEN: Final[tuple[type[SplitMethod], ...]] = (methods.Given, methods.Elsewhere)
"""Names of splits that were read back; users cannot request them."""


def split_names() -> tuple[str, ...]:
    """The available splits: ``paper``, ``session``, ..., ``time:DATE``, ``group:COLUMN``, ``none``."""
    own = [_written(method) for method in _BUILT_IN]
    others = sorted(point.name for point in entry_points(group=ENTRY_POINTS))
    return tuple(dict.fromkeys((*own, *others)))


def method_of(text: str) -> SplitMethod:
    """The method that a text names.

    Raises:
        UsageError: there is no such split, or its argument is missing or wrong.
    """
    name, colon, argument = text.partition(":")
    for method in (*_BUILT_IN, *_GIVEN):
        if method.name == name and (method.argument_name is not None) == bool(colon):
            return method(argument if colon else None)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            found = point.load()
        except (ImportError, AttributeError) as error:
            raise UsageError(f"split {name}: {point.value} cannot be loaded: {error}") from error
        if not (isinstance(found, type) and issubclass(found, SplitMethod)):
            raise UsageError(f"split {name}: {found!r} is not a subclass of SplitMethod")
        return found(argument if colon else None)
    raise UsageError(f"unknown split {text!r}; available: {', '.join(split_names())}")


def _written(method: type[SplitMethod]) -> str:
    return f"{method.name}:{method.argument_name}" if method.argument_name else method.name
