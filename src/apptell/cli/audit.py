"""``apptell audit``: reports the shortcuts that a model could learn from a dataset."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.screen import command_line, note, print_table, report
from apptell.cli.shared_options import Apps, DatasetFolder, Json, Seed, SplitOption, app_names

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.experiments.audit import Audit


def audit(
    dataset: DatasetFolder,
    split: SplitOption = "paper",
    limit: Annotated[
        float,
        typer.Option(
            metavar="GAIN", min=0.0, max=1.0, help="Gain in accuracy above which a field is a leak."
        ),
    ] = 0.05,
    apps: Apps = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="REPORT", help="Folder of the report. [default: no report]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Reports shortcuts that a model could learn, the most harmful first.

    Exit code 1 means that a leak above the limit was found.

    Examples:
        apptell audit dataset/
        apptell audit dataset/ --split split.jsonl --limit 0.1
    """
    from apptell.experiments.audit import audit as audit_dataset

    found = audit_dataset(dataset, split or "paper", limit=limit, apps=app_names(apps), seed=seed)
    if output is not None:
        found.write_report(output, command=command_line())
        note(f"Report: {output / 'report.html'}")
    report(found.to_json(), lambda console: _print(found, console), as_json=as_json)
    if not found.is_clean:
        names = ", ".join(leak.field for leak in found.leaks) or "the procedure itself"
        note(f"Leaks above {limit:g}: {names}.")
        raise typer.Exit(1)


def _print(found: "Audit", console: "Console") -> None:
    from rich.table import Table

    from apptell.experiments.audit import HEAD
    from apptell.reports.page import shown

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, name in enumerate(HEAD):
        table.add_column(name, justify="right" if 2 <= column <= 5 else "left")
    for row in found.rows:
        table.add_row(*map(shown, row))
    print_table(table, console)
    for sentence in found.sentences:
        console.print(sentence)
