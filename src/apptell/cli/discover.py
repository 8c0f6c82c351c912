"""``apptell discover``: candidates for apps that a model does not know."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.screen import note, print_table, report
from apptell.cli.shared_options import CatalogueFiles, Json, Seed

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.watch.discover import Discovery


def discover(
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
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="New folder for the candidates."),
    ],
    examples: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=100,
            help="Flows of each candidate whose first packets, with payload, become examples.pcap.",
        ),
    ] = 5,
    catalogue: CatalogueFiles = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Groups flows that a model does not know into candidates for new apps, each with its evidence.

    Examples:
        apptell discover captures/ -m model/ -o found/
        apptell discover verdicts.parquet -m model/ -o found/ --json
    """
    from apptell.models import load_model
    from apptell.watch.discover import discover as find

    found = find(
        sources,
        load_model(model),
        output,
        examples=examples,
        seed=seed,
        catalogue=catalogue or [],
    )
    report(found.to_json(), lambda console: _print(found, console), as_json=as_json)
    note(
        f"{found.strange:,} of {found.flows:,} flows are unknown or declined; {len(found.candidates):,} "
        f"candidates are in {output}."
    )
    if found.candidates:
        note(f"To take one in: apptell update {model} --add {output}/1=APP -o NEW")


def _print(found: "Discovery", console: "Console") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("candidate", "proposed as", "by", "flows", "clients", "domains", "JA4"):
        numeric = name in ("candidate", "flows", "clients")
        table.add_column(name, justify="right" if numeric else "left")
    for one in found.candidates:
        domains = ", ".join(each.value for each in one.of_kind("domain")[:3])
        ja4 = ", ".join(each.value for each in one.of_kind("ja4")[:1])
        table.add_row(
            str(one.number), one.name, one.named_by, f"{one.flows:,}", f"{one.clients:,}",
            domains or "-", ja4 or "-",
        )  # fmt: skip
    print_table(table, console)
