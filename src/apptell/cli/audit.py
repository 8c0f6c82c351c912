"""``apptell audit``: a dataset and a split in, what a model could cheat with out."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.labelled import apps_of, chosen_of, split_of
from apptell.cli.options import DatasetFolder, Json, Seed, SplitOption
from apptell.cli.screen import note, report

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.experiments.audit import Audit

_HEAD = ("field", "leak", "gain", "accuracy", "shared", "by chance", "what to do")


def audit(
    dataset: DatasetFolder,
    split: SplitOption = "paper",
    limit: Annotated[
        float, typer.Option(metavar="GAIN", min=0.0, max=1.0, help="A gain above this is a leak.")
    ] = 0.05,
    apps: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Only flows of these apps, by commas; all unless said."),
    ] = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="REPORT", help="Write a report's folder there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Says in order of harm what a model could cheat with; exit code 1 when there is a leak.

    Examples:
        apptell audit dataset/
        apptell audit dataset/ --split split.jsonl --limit 0.1
    """
    from apptell.dataset import Dataset
    from apptell.errors import MissingError
    from apptell.flows.schema import GROUPS
    from apptell.reports.page import Section, write_page

    try:
        from apptell.experiments.audit import audit as look
    except ModuleNotFoundError as error:
        raise MissingError(
            f"the audit needs {error.name}, which is not installed: pip install 'apptell[train]'"
        ) from error

    opened = Dataset.open(dataset)
    flows = chosen_of(opened.read(tuple(GROUPS)), apps=apps).flows
    sides = split_of(flows, split or "paper", seed)
    result = look(flows, apps_of(flows), sides, limit=limit, seed=seed)
    found = {
        "dataset": opened.path.resolve().name,
        "dataset_hash": opened.hash,
        "split": sides.protocol,
        "seed": seed,
        **result.to_json(),
    }
    if output is not None:
        page = Section(
            "findings",
            "What a model could cheat with",
            "Gain: how much more often the field alone names the app of a tested flow than always "
            "naming the most frequent app. Shared: tested flows whose value is in training too.",
            _HEAD,
            _rows(result),
        )
        write_page(
            output,
            f"Leaks in {opened.path.resolve().name}, split {sides.protocol}",
            _words(result),
            [page],
            found,
            shlex.join(["apptell", *sys.argv[1:]]),
        )
        note(f"Report: {output / 'report.html'}")
    report(found, lambda console: _show(result, console), as_json=as_json)
    if not result.is_clean:
        names = ", ".join(finding.field for finding in result.leaks) or "the procedure itself"
        note(f"Leaks above {limit:g}: {names}.")
        raise typer.Exit(1)


def _rows(result: "Audit") -> list[tuple[str | float, ...]]:
    return [
        (
            f.field,
            "leak" if f.is_leak else "no",
            f.gain,
            f.accuracy,
            f.shared,
            f"{f.p_value:.1g}",
            f.advice if f.is_leak else "",
        )
        for f in result.findings
    ]


def _words(result: "Audit") -> list[str]:
    chance = "more than chance" if result.permuted_leaks else "no more than chance"
    return [
        (
            f"{result.n_train:,} flows to learn from, {result.n_test:,} to test on; the most frequent "
            f"app is {result.majority:.1%} of these."
        ),
        (
            f"Duplicates: {result.exact_duplicates:.1%} of the tested flows have the same bytes in "
            f"training, {result.near_duplicates:.1%} nearly the same."
        ),
        f"A nearest neighbour alone names {result.nearest_neighbour:.1%} of the tested flows.",
        f"A forest that learned permuted labels names {result.permuted:.1%}: {chance}.",
    ]


def _show(result: "Audit", console: "Console") -> None:
    from rich.table import Table

    from apptell.reports.page import shown

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(_HEAD):
        table.add_column(name, justify="right" if 2 <= i <= 5 else "left")
    for row in _rows(result):
        table.add_row(*(shown(cell) for cell in row))
    console.print(table)
    for line in _words(result):
        console.print(line)
