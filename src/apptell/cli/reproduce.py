"""``apptell reproduce paper``: flows in, the paper's Section 4 beside its own numbers out."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.labelled import apps_of, chosen_of
from apptell.cli.options import Cache, Device, Json, Seed
from apptell.cli.screen import note, progress, report

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.dataset import Dataset, Selection
    from apptell.experiments.reproduce import Reproduction, Schedule
    from apptell.reports.page import Section

_LAB = Path("lab-out/dataset")
"""Where ``make lab-dataset`` leaves the traffic lab's dataset."""
_QUICK_EPOCHS, _QUICK_SEEDS = 10, 2
_CPU_EPOCHS, _SEEDS = 15, 5


def reproduce(
    what: Annotated[str, typer.Argument(metavar="paper", help="What to reproduce.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="REPORT", help="The report's folder.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="The apps; the traffic lab's dataset unless said."),
    ] = None,
    background: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="All its flows are the class Other (Section 4.3)."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Use the embedded samples.")] = False,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Passes; 100 on a GPU, 15 on a CPU, 10 with --quick."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Seeds, one after the other; 5, or 2 with --quick."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Runs all of the paper's Section 4 and puts each table and figure beside the paper's numbers.

    Interrupted, it goes on where it stopped when it is called again.

    Examples:
        apptell reproduce paper -o report/
        apptell reproduce paper --quick -o report/
    """
    from apptell.errors import UsageError
    from apptell.experiments.reproduce import reproduce_paper

    if what != "paper":
        raise UsageError(f"there is no {what!r} to reproduce; there is paper")
    if quick and (data or background):
        raise UsageError("--quick uses the embedded samples: give no --data or --background")
    schedule = _schedule(quick, epochs, seeds, seed, device)
    name, chosen, labels = _flows(quick, data, background, output)
    note(f"{len(chosen):,} flows. {schedule.words}.")
    with progress("reproducing") as show:
        found = reproduce_paper(
            chosen, labels, schedule, cache=cache or output / "cache", show=show
        )
    metrics = {"data": name, **found.to_json()}
    sections = _write(output, found, name, metrics)
    note(f"Report: {output / 'report.html'}")
    report(metrics, lambda console: _show(sections, console), as_json=as_json)


def _schedule(
    quick: bool, epochs: int | None, seeds: int | None, seed: int, device: str
) -> "Schedule":
    """What is trained: the paper's epochs where a GPU is at hand, else fewer."""
    from apptell.errors import MissingError
    from apptell.experiments.reproduce import EPOCHS, Schedule

    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingError(
            "training needs torch, which is not installed: pip install 'apptell[train]'"
        ) from error
    fast = device != "cpu" and torch.cuda.is_available()
    usual = _QUICK_EPOCHS if quick else EPOCHS if fast else _CPU_EPOCHS
    n_seeds = seeds or (_QUICK_SEEDS if quick else _SEEDS)
    return Schedule(epochs or usual, tuple(range(seed, seed + n_seeds)), device)


def _flows(
    quick: bool, data: Path | None, background: Path | None, output: Path
) -> "tuple[str, Selection, list[str]]":
    """The data's name, the flows of apps and background, and the class of each."""
    from apptell.dataset import Dataset, Selection
    from apptell.errors import MissingError
    from apptell.verdicts import OTHER

    if quick:
        opened = _samples(output / "samples")
    elif data is not None:
        opened = Dataset.open(data)
    elif _LAB.is_dir():
        opened = Dataset.open(_LAB)
    else:
        raise MissingError(
            f"the traffic lab's dataset is not in {_LAB}: make lab-dataset, or give --data or --quick"
        )
    chosen = chosen_of(opened)
    labels = apps_of(chosen.flows)
    if background is not None:
        beside = chosen_of(Dataset.open(background))
        chosen = Selection.join([chosen, beside])
        labels += [OTHER] * len(beside)
    return "embedded samples" if quick else opened.path.resolve().name, chosen, labels


def _samples(folder: Path) -> "Dataset":
    """The dataset of the embedded samples, made once."""
    from apptell.cli.demo import embedded_recordings
    from apptell.cli.options import flow_options
    from apptell.dataset import build
    from apptell.flows.schema import GROUPS
    from apptell.labels import CaptureFlows, LabelOptions, LabelSearch

    reader = CaptureFlows(flow_options("clean", tuple(GROUPS)))
    labelled = LabelSearch(embedded_recordings(), reader, LabelOptions(kind="folders"))
    return build(labelled, folder, replace=True).dataset


def _write(
    output: Path, found: "Reproduction", name: str, metrics: dict[str, object]
) -> "list[Section]":
    """The report; gives its sections."""
    from apptell.reports.page import write_page
    from apptell.reports.reproduction import paper_sections

    schedule = found.schedule.words
    results = {"network": found.cnn, "forest": found.forest, "network with Other": found.with_other}
    times = [
        (
            title,
            some[0].train_s,
            some[0].identify_s,
            (found.n_train if title != "network with Other" else _with_other(found))
            * (1 if title == "forest" else found.schedule.epochs),
            some[0].evaluation.scores.n_flows,
        )
        for title, some in results.items()
        if some
    ]
    sections = paper_sections(
        schedule=schedule,
        flows=found.flows,
        n_background=found.n_background,
        cnn=[result.evaluation for result in found.cnn],
        forest=[result.evaluation for result in found.forest],
        with_other=[result.evaluation for result in found.with_other],
        after=found.after,
        p_values=found.p_values,
        claims=[(claim.words, claim.holds, claim.found) for claim in found.claims],
        times=times,
        limits=found.limits,
        seeds=found.schedule.seeds,
    )
    words = [
        (
            "Section 4 of Zhao and Chen, Smartphone Application Identification by Convolutional "
            f"Neural Network, on {name}. {schedule}."
        ),
        "The split is the paper's, random by flow: it flatters every model (see apptell compare).",
    ]
    command = shlex.join(["apptell", *sys.argv[1:]])
    write_page(output, "The paper's Section 4, reproduced", words, sections, metrics, command)
    return sections


def _with_other(found: "Reproduction") -> int:
    """Training flows of Section 4.3: all but the tested ones."""
    total = sum(found.flows.values()) + found.n_background
    return total - found.with_other[0].evaluation.scores.n_flows


def _show(sections: "list[Section]", console: "Console") -> None:
    """Every table, as the report has it."""
    from rich.table import Table

    from apptell.reports.page import shown

    for section in sections:
        if not section.rows:
            continue
        table = Table(
            *section.head, box=None, pad_edge=False, header_style="bold", title_justify="left",
            title=section.title, caption=section.words, caption_justify="left",
        )  # fmt: skip
        for row in section.rows:
            table.add_row(*map(shown, row))
        console.print(table, "")
