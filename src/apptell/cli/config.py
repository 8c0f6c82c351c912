"""``apptell config``: shows the effective settings and their origin, and compiles kernels."""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli import settings
from apptell.cli.screen import note, report
from apptell.cli.shared_options import Json
from apptell.cli.verb import Verb, group
from apptell.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = """
  apptell config
  apptell config compile
"""


class _Config(group(EXAMPLES)):  # type: ignore[misc]
    """``apptell config`` alone is ``apptell config show``."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Passes arguments that begin with neither verb to ``show``."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["show", *args]
        return super().parse_args(ctx, args)


def show(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VERB [OPTION...]]", help="A verb and its options. [default: every verb]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Shows the effective settings and the origin of each.

    Examples:
        apptell config show
        apptell config show live -i eth0 --threshold 0.9
    """
    root = context.find_root()
    rows = list(_of_verb(root, words) if words else _of_all(root))
    for name in settings.unknown_variables(root.command):
        note(f"apptell: {name}: no verb knows this variable")
    file = settings.settings_file(root.params.get("config"))
    found = {"file": None if file is None else str(file), "settings": rows}
    report(found, lambda console: _show(console, file, rows), as_json=as_json)


def compile_kernels(
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder for compiled kernels. [default: the package's folder]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compiles the kernels that captures need and caches them, for a read-only installation.

    They are those of reading and identifying. The first training compiles a few more.

    Examples:
        apptell config compile
        apptell config compile --cache /var/cache/apptell
    """
    if cache is not None:
        os.environ["NUMBA_CACHE_DIR"] = str(cache.absolute())  # before numba is imported
    from apptell.models import load_model
    from apptell.service.prepare import prepare

    begin = time.monotonic()
    done = prepare(load_model())
    found = asdict(done) | {"seconds": round(time.monotonic() - begin, 1)}
    report(found, lambda console: console.print(_sentence(found), markup=False), as_json=as_json)


def _sentence(found: dict[str, Any]) -> str:
    where = "\n  ".join(found["folders"])
    return (
        f"{found['compiled']} kernels compiled, {found['cached']} already cached, "
        f"in {found['seconds']} s. Cache:\n  {where}"
    )


def _of_all(root: Any) -> Iterator[dict[str, Any]]:
    for path, _ in settings.verbs(root.command):
        yield from _of_verb(root, path)


def _of_verb(root: Any, words: Any) -> Iterator[dict[str, Any]]:
    """The settings that a verb would use.

    Raises:
        UsageError: there is no such verb.
    """
    words = list(words)
    command, context = root.command, root
    path: list[str] = []
    while inner := getattr(command, "commands", None):
        if not words or words[0] not in inner:
            verb = " ".join([*path, *words[:1]])
            raise UsageError(f"no verb {verb!r}; available: {', '.join(inner)}")
        path.append(words.pop(0))
        command = inner[path[-1]]
        if hasattr(command, "commands"):
            context = command.context_class(command, info_name=path[-1], parent=context)
    context = command.make_context(path[-1], words, parent=context, resilient_parsing=True)
    for name, option in settings.settable(command).items():
        yield {
            "verb": " ".join(path),
            "option": name,
            "value": _plain(context.params.get(option.name)),
            "from": settings.origin(context, option.name),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _show(console: "Console", file: Path | None, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    console.print(f"File: {file or 'none'}", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("verb", "option", "value", "from"):
        table.add_column(name)
    for row in rows:
        value = row["value"]
        text = (
            "-"
            if value is None
            else " ".join(map(str, value))
            if isinstance(value, list)
            else value
        )
        style = None if row["from"] == "default" else "bold"
        table.add_row(row["verb"], row["option"], str(text), row["from"], style=style)
    console.print(table)


app = typer.Typer(
    cls=_Config,
    rich_markup_mode=None,
    help="Show the effective settings and compile kernels in advance.",
)
app.command(
    "show",
    cls=Verb,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)(show)
app.command("compile", cls=Verb)(compile_kernels)
