"""``apptell drift``: which apps a model no longer knows well, from unlabelled traffic."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.screen import note, print_table, report
from apptell.cli.shared_options import CatalogueFiles, Json

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.watch import DriftReport

_LEAST = ((8,), (4, 5), (6, 7), (9, 10, 11))
"""Columns that a narrow terminal goes without; an alarm rests on disagreement."""


def drift(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="CAPTURE|RECORDS",
            help="Captures and folders of captures, or records of verdicts (.parquet, .jsonl, or the folder of "
            "an archive).",
        ),
    ],
    model: Annotated[
        Path,
        typer.Option("--model", "-m", metavar="FOLDER", help="Model, trained with --unknown."),
    ],
    catalogue: CatalogueFiles = None,
    as_json: Json = False,
) -> None:
    """Compares a model's verdicts on unlabelled traffic with those on held-out flows of its training.

    Apps to look at come first. Exit code 1 means that at least one app raises an alarm.

    Examples:
        apptell drift captures/ -m model/
        apptell drift verdicts.parquet -m model/ --json
    """
    from apptell.models import load_model
    from apptell.watch import measure_drift
    from apptell.watch.observed_sources import observe

    used = load_model(model)
    expected = used.held_out
    found = measure_drift(
        observe(sources, used, catalogue or []),
        used.apps,
        used.prior,
        expected,
        f"{used.name}@{used.hash}",
    )
    report(found.to_json(), lambda console: _print(found, console), as_json=as_json)
    for each in found.alarms:
        note(f"{each.app}: {each.reason}.")
    if found.alarms:
        raise typer.Exit(1)
    named = f", {found.named:,} of them named" if found.named else ""
    note(f"No alarm among {len(found.apps):,} apps with {found.flows:,} flows{named}.")


def _print(found: "DriftReport", console: "Console") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(
        ("app", "flows", "disagree", "expected", "declined", "expected", "unknown", "expected",
         "new stack", "named", "right", "expected")
    ):  # fmt: skip
        table.add_column(name, justify="right" if number else "left")
    for each in found.apps:
        held = each.expected

        def share(value: float | None) -> str:
            return "-" if value is None else f"{value:.1%}"

        table.add_row(
            each.app, f"{each.flows:,}",
            share(each.disagreement), share(held.get("disagreement")),
            share(each.declined), share(held.get("declined")),
            share(each.unknown), share(held.get("unknown")),
            share(each.new_stack), f"{each.named:,}",
            share(each.named_right), share(held.get("recall")),
            style="bold" if each.reason else "",
        )  # fmt: skip
    print_table(table, console, _LEAST)
