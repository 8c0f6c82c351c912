"""``apptell models``: versions of models in a registry of plain folders."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.screen import note, report
from apptell.cli.shared_options import Json
from apptell.cli.verb import Verb, group

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.models.model_shelf import ModelShelf

app = typer.Typer(
    cls=group("apptell models list registry/\n  apptell models promote registry/phones 2"),
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Keeps versions of models, and says which of them is in use.",
)
Shelf = Annotated[Path, typer.Argument(metavar="DIR/NAME", help="Folder of one model's versions.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Name of a version.")]


@app.command("list", cls=Verb)
def list_models(
    registry: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the registry.")],
    as_json: Json = False,
) -> None:
    """Lists the models of a registry with their versions.

    Examples:
        apptell models list registry/
        apptell models list registry/ --json
    """
    from apptell.models.model_shelf import shelves

    found = [_about(shelf) for shelf in shelves(registry)]
    report({"models": found}, lambda console: _print(found, console), as_json=as_json)


@app.command("show", cls=Verb)
def show(
    shelf: Shelf,
    version: Annotated[
        str | None,
        typer.Argument(metavar="VERSION", help="Name of a version. [default: the one in use]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Shows what model.json of a version says: its apps, figures and lineage.

    Examples:
        apptell models show registry/phones
        apptell models show registry/phones 2 --json
    """
    from apptell.errors import UsageError
    from apptell.models.model_shelf import ModelShelf

    one = ModelShelf(shelf)
    wanted = version or one.current
    if wanted is None:
        raise UsageError(f"{shelf}: no version was promoted; name one")
    model = one.load(wanted)
    info = model.info
    found: dict[str, Any] = {
        "model": one.name,
        "version": wanted,
        "is_current": wanted == one.current,
        "is_challenger": wanted == one.challenger,
        "name": f"{model.name}@{model.hash}",
        "apps": model.apps,
        "created": info["created"],
        "metrics": info["metrics"],
        "keeps_rows": "rows" in info,
        "lineage": info.get("lineage", []),
    }
    report(
        found,
        lambda console: console.print(json.dumps(found, indent=2), markup=False),
        as_json=as_json,
    )


@app.command("add", cls=Verb)
def add(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a model.")],
    shelf: Shelf,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="NAME", help="Its name. [default: the next number]"),
    ] = None,
) -> None:
    """Copies a model's folder into a registry; it is not promoted.

    Examples:
        apptell models add model/ registry/phones
        apptell models add newer/ registry/phones --version 2026-05
    """
    from apptell.models.model_shelf import ModelShelf

    name = ModelShelf(shelf).add(model, version)
    note(f"Version {name} is in {shelf / name}. To use it: apptell models promote {shelf} {name}")


@app.command("promote", cls=Verb)
def promote(
    shelf: Shelf,
    version: Version,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow",
            help="Run it in the shadow of the version in use, for comparison, instead of using it.",
        ),
    ] = False,
) -> None:
    """Makes a version the one in use; a running apptell live follows within seconds, without a restart.

    Examples:
        apptell models promote registry/phones 2
        apptell models promote registry/phones 3 --shadow
    """
    from apptell.models.model_shelf import ModelShelf

    one = ModelShelf(shelf)
    if shadow:
        one.challenge(version)
        note(f"Version {version} challenges version {one.current}.")
    else:
        one.promote(version)
        note(f"Version {version} is in use.")


@app.command("rollback", cls=Verb)
def rollback(
    shelf: Shelf,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Withdraw the challenger instead.")
    ] = False,
) -> None:
    """Makes the version in use that was before the present one.

    Examples:
        apptell models rollback registry/phones
        apptell models rollback registry/phones --shadow
    """
    from apptell.models.model_shelf import ModelShelf

    one = ModelShelf(shelf)
    if shadow:
        one.challenge(None)
        note("No challenger runs any more.")
    else:
        note(f"Version {one.rollback()} is in use.")


def _about(shelf: "ModelShelf") -> dict[str, Any]:
    return {
        "model": shelf.name,
        "current": shelf.current,
        "challenger": shelf.challenger,
        "versions": shelf.versions(),
    }


def _print(found: list[dict[str, Any]], console: "Console") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "in use", "challenger", "versions"):
        table.add_column(name)
    for one in found:
        table.add_row(
            one["model"],
            one["current"] or "-",
            one["challenger"] or "-",
            ", ".join(one["versions"]),
        )
    console.print(table)
