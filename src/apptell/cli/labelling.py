"""The options of verbs that label flows, and functions that parse them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DATASET", help="Folder of the dataset.")
]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Replace an existing dataset, once the new one is complete."),
]
Shared = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="What to do with flows to servers that many apps share: keep, other or drop.",
    ),
]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="NAME=VALUE", help="A group for every flow; repeatable."),
]
Rename = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="File with lines of OLD,NEW: packages or titles and their labels."
    ),
]


def zone_of(name: str | None) -> "ZoneInfo | None":
    """The time zone of ``--zone``."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from apptell.errors import UsageError

    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"--zone {name}: no such time zone") from error


def pattern_of(text: str | None) -> re.Pattern[str] | None:
    """The pattern of ``--pattern``."""
    from apptell.errors import UsageError

    try:
        compiled = None if text is None else re.compile(text)
    except re.error as error:
        raise UsageError(f"--pattern: {error}") from error
    if compiled is not None and "app" not in compiled.groupindex:
        raise UsageError("--pattern: has no (?P<app>...)")
    return compiled


def renames(path: Path | None) -> dict[str, str]:
    """The table of ``--rename``: lower-case old name to label."""
    from apptell.errors import LabelError
    from apptell.labels.naming import label_text

    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: cannot be read: {error}") from error
    table = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        old, comma, new = line.rpartition(",")
        label = label_text(new)
        if not comma or label is None:
            raise LabelError(f"{path}: line {number} is not OLD,NEW")
        table[old.strip().lower()] = label
    return table


def pairs(texts: list[str]) -> dict[str, str]:
    """The groups of ``--group``."""
    from apptell.errors import UsageError
    from apptell.files import readable

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"--group {text}: is not NAME=VALUE")
        found[readable(name)] = readable(value)
    return found
