"""``apptell update``: trains a model again from its kept rows and new flows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.screen import note, print_table, progress, report
from apptell.cli.shared_options import Json

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.experiments.update import UpdatedModel


def update(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder of a model trained with --keep-rows.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the updated model."),
    ],
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER=APP",
            help="Take a candidate of apptell discover in as this app, as in found/3=signal; repeatable.",
        ),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATASET", help="Also learn from the labelled flows of a dataset; repeatable."
        ),
    ] = None,
    pseudo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="P:SOURCE",
            help="Also learn from flows of a dataset or capture that the model itself is sure of with this "
            "probability, as in 0.9:yesterday/; repeatable.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write the model even if an app loses.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a model that is already there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Trains a model again from the flows that its folder keeps and new ones, unless an app would lose.

    Examples:
        apptell update model/ --add found/3=signal -o newer/
        apptell update model/ --labels more-labels/ --pseudo 0.9:yesterday/ -o newer/
    """
    from apptell.experiments.update import update as update_model

    chosen = [_candidate(text) for text in add or []]
    sure = [_source(text) for text in pseudo or []]
    with progress(f"updating {model}") as show:
        found = update_model(
            model,
            out=output,
            add=chosen,
            labels=labels or [],
            pseudo=sure,
            force=force,
            replace=replace,
            progress=show,
            notify=note,
        )
    report(found.to_json(), lambda console: _print(found, console), as_json=as_json)
    if found.model is None:
        note(f"Not updated: {found.refusal}. To write it nevertheless: --force.")
        raise typer.Exit(1)
    if found.lost:
        note(f"Forced: {found.refusal}.")
    note(f"The updated model is in {output}; {model} is unchanged.")


def _candidate(text: str) -> tuple[Path, str]:
    """A candidate's folder and its app.

    Raises:
        UsageError: not FOLDER=APP.
    """
    from apptell.errors import UsageError

    folder, equals, app = text.rpartition("=")
    if not equals or not folder or not app.strip():
        raise UsageError(f"--add {text}: not FOLDER=APP, as in found/3=signal")
    return Path(folder), app


def _source(text: str) -> tuple[float, Path]:
    """A probability and a source.

    Raises:
        UsageError: not P:SOURCE.
    """
    from apptell.errors import UsageError

    number, _, source = text.partition(":")
    try:
        least = float(number)
    except ValueError:
        least = 0.0
    if not source or not 0.5 < least <= 1:
        raise UsageError(f"--pseudo {text}: not P:SOURCE with P above 0.5, as in 0.9:yesterday/")
    return least, Path(source)


def _print(found: "UpdatedModel", console: "Console") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(("app", "flows", "new flows", "before", "after", "change")):
        table.add_column(name, justify="right" if number else "left")
    for each in found.changes:
        change = "new" if each.before is None else f"{each.after - each.before:+.1%}"
        table.add_row(
            each.app, f"{each.flows:,}", f"{found.added.get(each.app, 0):,}",
            "-" if each.before is None else f"{each.before:.1%}", f"{each.after:.1%}", change,
            style="bold" if each.is_lost else "",
        )  # fmt: skip
    print_table(table, console)
