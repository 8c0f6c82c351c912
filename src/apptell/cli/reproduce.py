"""``apptell reproduce paper``: repeats the paper's Section 4 and compares the numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.screen import choose_progress, command_line, note, progress, report
from apptell.cli.shared_options import (
    Cache,
    Device,
    Json,
    ProgressForm,
    Seed,
    TrainingCluster,
    trainer_on,
)

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.dataset import Selection
    from apptell.experiments.reproduce import Reproduction

_LAB = Path("lab-out/dataset")
"""Where ``make lab-dataset`` writes the traffic lab's dataset."""


def reproduce(
    what: Annotated[str, typer.Argument(metavar="paper", help="What to reproduce.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="REPORT", help="The report's folder.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET", help="Dataset with the flows of apps. [default: the traffic lab's]"
        ),
    ] = None,
    background: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="Dataset whose flows are all of the class Other (Section 4.3). [default: none]",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Use the embedded samples.")] = False,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Passes over the training flows. [default: 100 with a GPU, 15 on a CPU, 10 with --quick]",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of seeds. [default: 5, or 2 with --quick]"),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="End a training of the network after N passes without a smaller loss on a held-out tenth of"
            " the training flows. [default: all passes]",
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    cache: Cache = None,
    cluster: TrainingCluster = None,
    progress_form: ProgressForm = "auto",
    as_json: Json = False,
) -> None:
    """Repeats the experiments of the paper's Section 4 and shows them beside the paper's numbers.

    An interrupted run continues where it stopped.

    Examples:
        apptell reproduce paper -o report/
        apptell reproduce paper --quick -o report/
    """
    from apptell.errors import UsageError
    from apptell.experiments.reproduce import reproduce_paper
    from apptell.experiments.schedule import Schedule

    choose_progress(progress_form)

    if what != "paper":
        raise UsageError(f"{what!r} cannot be reproduced; available: paper")
    if quick and (data or background):
        raise UsageError("--quick uses the embedded samples: give no --data or --background")
    schedule = Schedule.choose(epochs, seeds, seed, device, quick=quick, patience=patience)
    name, chosen, labels = _flows(quick, data, background, output)
    note(f"{len(chosen):,} flows. {schedule.words}.")
    with progress("reproducing") as show:
        found = reproduce_paper(
            chosen,
            labels,
            schedule,
            cache=cache or output / "cache",
            trainer=trainer_on(cluster),
            show=show,
        )
    metrics = {"data": name, **found.to_json()}
    found.write_report(output, name, metrics, command_line())
    note(f"Report: {output / 'report.html'}")
    report(metrics, lambda console: _print(found, console), as_json=as_json)


def _flows(
    quick: bool, data: Path | None, background: Path | None, output: Path
) -> "tuple[str, Selection, list[str]]":
    """The data's name, the flows of apps and background, and the class of each."""
    from apptell.dataset import Dataset, Selection
    from apptell.errors import MissingError
    from apptell.experiments.labelled import apps_of, labelled_flows
    from apptell.experiments.samples import embedded_dataset
    from apptell.verdicts import OTHER

    if quick:
        opened = embedded_dataset(output / "samples")
    elif data is not None:
        opened = Dataset.open(data)
    elif _LAB.is_dir():
        opened = Dataset.open(_LAB)
    else:
        raise MissingError(
            f"the traffic lab's dataset is not in {_LAB}: make lab-dataset, or give --data or --quick"
        )
    chosen = labelled_flows(opened)
    labels = apps_of(chosen.flows)
    if background is not None:
        beside = labelled_flows(Dataset.open(background))
        chosen = Selection.join([chosen, beside])
        labels += [OTHER] * len(beside)
    return "embedded samples" if quick else opened.path.resolve().name, chosen, labels


def _print(found: "Reproduction", console: "Console") -> None:
    """Every table, as the report has it."""
    from rich.table import Table

    from apptell.reports.page import shown

    for section in found.sections:
        if not section.rows:
            continue
        table = Table(
            *section.head, box=None, pad_edge=False, header_style="bold", title_justify="left",
            title=section.title, caption=section.words, caption_justify="left",
        )  # fmt: skip
        for row in section.rows:
            table.add_row(*map(shown, row))
        console.print(table, "")
