"""``apptell compare``: trains and tests several models on the same folds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.evaluation_table import print_evidence
from apptell.cli.screen import choose_progress, command_line, note, print_table, progress, report
from apptell.cli.shared_options import (
    Apps,
    Cache,
    CatalogueFiles,
    DatasetFolder,
    Device,
    Json,
    Level,
    MeasuredEvidence,
    Packets,
    ProgressForm,
    Seed,
    SplitOption,
    System,
    TestDataset,
    TrainingCluster,
    app_names,
    trainer_on,
)

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.experiments.compare import Comparison


def compare(
    dataset: DatasetFolder,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="REPORT", help="The report's folder.")
    ],
    split: SplitOption = "source",
    test: TestDataset = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="NAME", help="An additional model; repeatable."),
    ] = None,
    only: Annotated[
        bool, typer.Option("--only", help="Train only the models given with --model.")
    ] = False,
    n_folds: Annotated[
        int,
        typer.Option(
            "--folds", metavar="K", min=2, help="Number of folds, at most the number of groups."
        ),
    ] = 5,
    epochs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Passes over the training flows.")
    ] = 100,
    apps: Apps = None,
    seed: Seed = 0,
    n_seeds: Annotated[
        int,
        typer.Option(
            "--seeds", metavar="N", min=1, help="Number of seeds, each with its own folds."
        ),
    ] = 1,
    n_inner: Annotated[
        int,
        typer.Option(
            "--held-out",
            metavar="K",
            min=0,
            help="Folds within each training side on which thresholds are chosen; 0 for none.",
        ),
    ] = 3,
    packets: Packets = None,
    cache: Cache = None,
    level: Level = None,
    system: System = None,
    unlearned: Annotated[
        str | None,
        typer.Option(
            metavar="each|APPS",
            help="Also leave each of these apps out of training in turn (each: all), and measure how well "
            "its flows are recognised as unknown. [default: none]",
        ),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="late: models that can (fusion, fast, sequence) also learn from later packets of the training "
            "connections; none. [default: none]",
        ),
    ] = None,
    evidence: MeasuredEvidence = None,
    catalogue: CatalogueFiles = None,
    device: Device = "auto",
    cluster: TrainingCluster = None,
    progress_form: ProgressForm = "auto",
    as_json: Json = False,
) -> None:
    """Trains and tests several models on the same folds, with server names and with masked names.

    The paper's network, its forest without ports, a nearest neighbour and a lookup of the server names
    in the training data are always included, unless --only is given. An interrupted comparison
    continues where it stopped.

    Examples:
        apptell compare dataset/ --split source -o report/
        apptell compare dataset/ --split split.jsonl --model paper-rf -o report/
    """
    from apptell.errors import UsageError
    from apptell.experiments.compare import compare as compare_models

    choose_progress(progress_form)

    if only and not model:
        raise UsageError("--only: name a model with --model")
    with progress("comparing") as show:
        found = compare_models(
            dataset,
            model or [],
            only=only,
            split=split or "source",
            test=test,
            folds=n_folds,
            seed=seed,
            seeds=n_seeds,
            held_out=n_inner,
            epochs=epochs,
            apps=app_names(apps),
            packets=packets,
            device=device,
            level=level or "app",
            system=system or "other",
            unlearned=app_names(unlearned) or (),
            views=views,
            evidence=evidence,
            catalogue=catalogue or (),
            out=output,
            cache=cache,
            command=command_line(),
            trainer=trainer_on(cluster),
            progress=show,
            notify=note,
        )
    note(f"Report: {output / 'report.html'}")
    report(found.to_json(), lambda console: _print(found, console), as_json=as_json)


def _print(found: "Comparison", console: "Console") -> None:
    from rich.table import Table

    from apptell.reports.comparison import MODELS_HEAD
    from apptell.reports.page import shown

    columns = (0, 1, 3, 4, 5, 6, 7, 8, 9, 11, 12)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(MODELS_HEAD[column], justify="left" if column < 2 else "right")
    for model in found.models:
        table.add_row(*(shown(model.row[column]) for column in columns))
    print_table(table, console)
    for place, figures in found.facts.get("evidence", {}).items():
        print_evidence(figures, console, f"Evidence, then {place}")
    if found.left_out:
        _print_left_out(found, console)


def _print_left_out(found: "Comparison", console: "Console") -> None:
    from rich.table import Table

    from apptell.experiments.left_out_apps import COLUMNS
    from apptell.reports.page import shown

    table = Table(box=None, pad_edge=False, header_style="bold", title="Apps that were not learned")
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if number < 2 else "right")
    for each in found.left_out:
        table.add_row(*map(shown, each.row))
    print_table(table, console)
