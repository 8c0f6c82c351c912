"""Output forms by name: one list for ``identify``, ``flows`` and ``live``.

Other packages add forms through the entry point group ``apptell.output_forms``; each entry point names an
instance of a subclass of ``Form``. A built-in form of the same name takes precedence.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from apptell.errors import MissingError, UsageError
from apptell.records.forms.csv import Csv, RawCsv
from apptell.records.forms.ecs import Ecs
from apptell.records.forms.eve import Eve
from apptell.records.forms.form import EventForm, Form, LineForm, RecordWriter
from apptell.records.forms.jsonl import JsonLines
from apptell.records.forms.parquet import Parquet
from apptell.records.forms.table import Table
from apptell.records.forms.zeek import Zeek, ZeekJson

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from pathlib import Path

ENTRY_POINTS: Final = "apptell.output_forms"
"""The group in which other packages register forms."""
BUILT_IN: Final[tuple[Form, ...]] = (
    Table(),
    JsonLines(),
    Csv(),
    Parquet(),
    Eve(),
    Zeek(),
    ZeekJson(),
    Ecs(),
)

__all__ = [
    "BUILT_IN",
    "ENTRY_POINTS",
    "EventForm",
    "Form",
    "LineForm",
    "RawCsv",
    "RecordWriter",
    "form_names",
    "form_of_name",
    "form_of_path",
]


def form_names() -> list[str]:
    """The names of all forms, those of other packages last."""
    own = [form.name for form in BUILT_IN]
    return own + sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - set(own))


def form_of_name(name: str) -> Form:
    """The form of that name.

    Raises:
        UsageError: no form has that name.
        MissingError: the package that has it cannot be loaded.
    """
    for form in BUILT_IN:
        if form.name == name:
            return form
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return _load(point)
    raise UsageError(f"unknown output form {name!r}; available: {', '.join(form_names())}")


def form_of_path(path: Path) -> Form | None:
    """The form of a file name's ending; None if no form has it.

    Raises:
        MissingError: a package that adds forms cannot be loaded.
    """
    suffix = path.suffix.lower()
    for form in BUILT_IN:
        if suffix in form.suffixes:
            return form
    for point in entry_points(group=ENTRY_POINTS):
        form = _load(point)
        if suffix in form.suffixes:
            return form
    return None


def _load(point: EntryPoint) -> Form:
    try:
        form = point.load()
    except (ImportError, AttributeError) as error:
        raise MissingError(
            f"the output form {point.name} ({point.value}) cannot be loaded: {error}"
        ) from error
    if not isinstance(form, Form):
        raise MissingError(
            f"the output form {point.name} ({point.value}) is not an instance of Form"
        )
    return form
