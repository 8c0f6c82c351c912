"""``apptell dataset``: builds, describes, checks, changes and exports datasets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.dataset_build import build
from apptell.cli.dataset_record import record
from apptell.cli.labelling import Output, Replace, Shared
from apptell.cli.screen import note, on_terminal, report
from apptell.cli.shared_options import DatasetFolder, Form, Json, RawCsv, Seed
from apptell.cli.verb import Verb, group

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.dataset import Dataset

EXAMPLES = """
  apptell dataset build captures/ -o dataset/
  apptell dataset info dataset/
"""


def info(dataset: DatasetFolder, as_json: Json = False) -> None:
    """Prints the flows per app and group, where labels came from, and what was dropped and why.

    Examples:
        apptell dataset info dataset/
        apptell dataset info dataset/ --json
    """
    from apptell.dataset import Dataset

    data = Dataset.open(dataset)
    report(data.info, lambda console: _print_info(console, data), as_json=as_json)


def validate(dataset: DatasetFolder, as_json: Json = False) -> None:
    """Reads every shard and checks its schema, hashes and counts.

    Exit code 1 means that something is damaged.

    Examples:
        apptell dataset validate dataset/
        apptell dataset validate dataset/ --json
    """
    from apptell.dataset import Dataset
    from apptell.dataset.change import validate as check

    data = Dataset.open(dataset)
    wrong = check(data)
    found = {"dataset": str(dataset), "flows": len(data), "whole": not wrong, "wrong": wrong}
    report(
        found,
        lambda console: console.print("\n".join(wrong) or f"{dataset}: whole, {len(data):,} flows"),
        as_json=as_json,
    )
    if wrong:
        raise typer.Exit(1)


def merge(
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASET...", help="Two or more datasets.")
    ],
    output: Output,
    replace: Replace = False,
) -> None:
    """Merges datasets into one; a flow that occurs in two of them is kept once.

    Examples:
        apptell dataset merge home/ office/ -o both/
        apptell dataset merge a/ b/ c/ -o all/
    """
    from apptell.dataset import Dataset
    from apptell.dataset.change import merge as merge_datasets

    data = merge_datasets([Dataset.open(path) for path in datasets], output, replace=replace)
    note(f"{output}: {len(data):,} flows of {len(data.apps)} apps")


def sample(
    dataset: DatasetFolder,
    output: Output,
    per_app: Annotated[
        int,
        typer.Option(
            "--per-app", "-n", metavar="N", help="Maximum number of flows per app.", min=1
        ),
    ] = 1000,
    seed: Seed = 0,
    replace: Replace = False,
) -> None:
    """Makes a smaller dataset from randomly chosen flows of each app.

    Examples:
        apptell dataset sample dataset/ -n 1000 --seed 1 -o small/
        apptell dataset sample dataset/ -n 10 -o tiny/
    """
    from apptell.dataset import Dataset
    from apptell.dataset.change import sample as sample_dataset

    data = sample_dataset(Dataset.open(dataset), output, per_app, seed, replace=replace)
    note(f"{output}: {len(data):,} flows of {len(data.apps)} apps")


def export(
    dataset: DatasetFolder,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="The new folder.")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORM",
            help="csv, arrays (NumPy), images (PNG), parquet (with tokens), torch or hf.",
        ),
    ] = "csv",
    raw_csv: RawCsv = False,
) -> None:
    """Exports a dataset for other programs and libraries.

    Examples:
        apptell dataset export dataset/ --to images -o images/
        apptell dataset export dataset/ --to arrays -o arrays/
    """
    from apptell.cli.dataset_export import export_dataset
    from apptell.dataset import Dataset

    n = export_dataset(Dataset.open(dataset), output, form, raw_csv=raw_csv)
    note(f"{output}: {n:,} flows as {form}")


def services(
    dataset: DatasetFolder,
    shared: Shared = "keep",
    least: Annotated[
        int,
        typer.Option(
            "--least",
            metavar="N",
            help="Number of apps from which a server counts as shared.",
            min=2,
        ),
    ] = 3,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DATASET",
            help="The changed dataset. [default: in place]",
        ),
    ] = None,
    replace: Replace = False,
    form: Form = None,
    raw_csv: RawCsv = False,
) -> None:
    """Lists the servers of each app, shared servers, and names that contradict a label.

    With --shared, flows to shared servers are relabelled or dropped.

    Examples:
        apptell dataset services dataset/
        apptell dataset services dataset/ --shared other -o clean/
    """
    from apptell.dataset import Dataset
    from apptell.dataset.services import move_shared, service_table
    from apptell.records.text_table import Column
    from apptell.records.writers import choose_form, open_writer

    columns = [
        Column("app", 22, lambda row: str(row["app"])),
        Column("flows", 7, lambda row: f"{row['flows']:,}", right=True),
        Column("apps", 5, lambda row: str(row["apps"]), right=True),
        Column("shared", 6, lambda row: "shared" if row["is_shared"] else ""),
        Column("contradicts", 18, lambda row: row["contradicts"] or ""),
        Column("server", 0, lambda row: str(row["server"])),
    ]
    data = Dataset.open(dataset)
    table = service_table(data, least)
    chosen = choose_form(form, None, terminal=on_terminal(), raw_csv=raw_csv)
    with open_writer(None, chosen, table.schema, columns) as writer:
        for batch in table.to_batches():
            writer.write(batch)
    if shared != "keep":
        moved = move_shared(data, output or dataset, shared, least, replace=replace)
        note(f"{output or dataset}: {len(moved):,} of {len(data):,} flows ({shared})")


def _print_info(console: "Console", data: "Dataset") -> None:
    from rich.table import Table

    console.print(f"{data.path}: {len(data):,} flows of {len(data.apps)} apps, {data.hash[:12]}")
    for title, counts in (("label", data.info["apps"]), ("labels from", data.info["label_from"])):
        table = Table(title, "flows", box=None)
        for name, n in counts.items():
            table.add_row(name, f"{n:,}")
        console.print(table)
    for name, counts in data.info["groups"].items():
        console.print(f"group {name}: {len(counts)} values")
    if data.info["late_views"]:
        console.print(f"late views of other flows: {data.info['late_views']:,}")
    for reason, n in data.info["dropped"].items():
        console.print(f"dropped {n:,}: {reason}")
    for edit in data.info["done"]:
        console.print(f"done: {edit}")


app = typer.Typer(
    cls=group(EXAMPLES),
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Build, check and change datasets of labelled flows.",
)
for _verb in (build, info, validate, merge, sample, export, services, record):
    app.command(_verb.__name__, cls=Verb)(_verb)
