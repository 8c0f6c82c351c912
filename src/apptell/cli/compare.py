"""``apptell compare``: a dataset and a split in, several models side by side out."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.labelled import chosen_of
from apptell.cli.options import (
    Cache,
    DatasetFolder,
    Device,
    Json,
    Level,
    Packets,
    Seed,
    SplitOption,
    System,
)
from apptell.cli.screen import note, progress, report

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.dataset import Selection, Split
    from apptell.experiments.compare import Outcome
    from apptell.flows import FlowBatch
    from apptell.reports.comparison import ComparedModel


def compare(
    dataset: DatasetFolder,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="REPORT", help="The report's folder.")
    ],
    split: SplitOption = "source",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="A model beside the three; may be repeated."
        ),
    ] = None,
    only: Annotated[
        bool, typer.Option("--only", help="Only the models asked for, without the three.")
    ] = False,
    n_folds: Annotated[
        int, typer.Option("--folds", metavar="K", min=2, help="Folds of a split by name.")
    ] = 5,
    epochs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Passes over the training flows.")
    ] = 100,
    apps: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Only flows of these apps, by commas; all unless said."),
    ] = None,
    seed: Seed = 0,
    n_seeds: Annotated[
        int,
        typer.Option(
            "--seeds", metavar="N", min=1, help="Seeds, one after the other, folds and all."
        ),
    ] = 1,
    n_inner: Annotated[
        int,
        typer.Option(
            "--held-out",
            metavar="K",
            min=0,
            help="Folds within each training side that thresholds are chosen on; 0 for none.",
        ),
    ] = 3,
    packets: Packets = None,
    cache: Cache = None,
    level: Level = None,
    system: System = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Trains and tests several models on one split, server names on and masked.

    The paper's network, its forest without ports and a nearest neighbour always stand beside the
    models asked for. Interrupted, it goes on where it stopped when it is called again.

    Examples:
        apptell compare dataset/ --split source -o report/
        apptell compare dataset/ --split split.jsonl --model paper-rf -o report/
    """
    from apptell.dataset import Classes, Dataset
    from apptell.dataset.groups import days
    from apptell.evaluation import slices_of
    from apptell.evaluation.comparison import measure_pooled
    from apptell.experiments.compare import compare_models, interval_groups, models_of, plan_of
    from apptell.reports.comparison import ComparedModel

    classes = Classes(level or "app", system or "other")
    models_of(model or [], alone=only)  # a name that is not known is said before a dataset is read
    opened = Dataset.open(dataset)
    chosen = chosen_of(opened, classes, apps)
    flows = chosen.flows
    models = models_of(model or [], flows, alone=only)
    truth = classes.of(flows)
    plans = [
        plan_of(
            flows,
            _splits(flows, split or "source", n_folds, each, output, classes.level, n_seeds),
            each,
            n_inner if each == seed else 0,
            classes.level,
        )
        for each in range(seed, seed + n_seeds)
    ]
    first = plans[0].splits
    used = first[0].protocol
    if first[0].optimistic:
        note("Random by flow: optimistic on networks that a model never saw.")
    about: dict[str, Any] = {
        "dataset": opened.path.resolve().name,
        "dataset_hash": opened.hash,
        "split": used,
        "optimistic": first[0].optimistic,
        "folds": len(first),
        "epochs": epochs,
        "seed": seed,
        "seeds": n_seeds,
        "level": classes.level,
        "apps": sorted(set(truth)),
    }
    groups, slices = interval_groups(flows, used), slices_of(chosen)
    if used.startswith("time"):
        slices["day"] = days(flows)
    models_measured: list[ComparedModel] = []
    with progress("comparing") as show:
        for outcome in compare_models(
            chosen, truth, plans, models,
            epochs=epochs, packets=packets, device=device, cache=cache or output / "cache",
            show=show,
        ):  # fmt: skip
            measured = measure_pooled(
                flows, truth, outcome.apps, outcome.seeds, groups=groups, slices=slices, seed=seed
            )
            models_measured.append(
                ComparedModel(
                    outcome.model, outcome.names, measured, outcome.n_flows, outcome.train_s,
                    outcome.identify_s,
                )
            )  # fmt: skip
            _write_one(output, models_measured[-1], outcome, about, chosen, truth)
    metrics = _write_all(output, models_measured, about)
    note(f"Report: {output / 'report.html'}")
    report(metrics, lambda console: _show(models_measured, console), as_json=as_json)


def _splits(
    flows: "FlowBatch",
    wanted: str,
    n_folds: int,
    seed: int,
    output: Path,
    level: str,
    n_seeds: int,
) -> "list[Split]":
    """The folds of a seed, or the one split of a file; written below the report."""
    from apptell.cli.labelled import split_of
    from apptell.dataset import folds, save_split
    from apptell.errors import OutputError

    splits = (
        [split_of(flows, wanted, seed, level)]
        if Path(wanted).is_file()
        else folds(flows, wanted, n_folds, seed, level)
    )
    place = output / "splits"
    place = place / f"seed-{seed}" if n_seeds > 1 else place
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number, each in enumerate(splits, 1):
            save_split(each, flows, place / f"fold-{number}.jsonl")
    except OSError as error:
        raise OutputError(f"{output}: {error.strerror}") from error
    return splits


def _write_one(
    output: Path,
    compared: "ComparedModel",
    outcome: "Outcome",
    about: dict[str, Any],
    chosen: "Selection",
    truth: list[str],
) -> None:
    """The page of one model, in a folder below the report."""
    from apptell.cli.evaluate import example_images
    from apptell.reports.comparison import own_page
    from apptell.reports.evaluation import write_report
    from apptell.reports.html import ReportText

    masked = outcome.names == "masked"
    seeds = about["seeds"]
    done = [
        (
            f"{compared.model} learned and was tested on {about['dataset']} in {about['folds']} "
            f"folds of the split {about['split']}; each of the {compared.n_flows:,} flows was "
            "tested once"
            + (f" by each of {seeds} seeds; all figures count verdicts of all seeds" * (seeds > 1))
            + ", by a model that saw nothing of its group."
        ),
        (
            "Server names, HTTP hosts and the names in certificates were overwritten with zeros."
            if masked
            else "Server names were left as they were."
        ),
        *(["A random split flatters every model."] if about["optimistic"] else []),
    ]
    first = outcome.seeds[0]
    text = ReportText(
        title=f"{compared.model}, names {compared.names}, split {about['split']}",
        done=done,
        command=shlex.join(["apptell", *sys.argv[1:]]),
        examples=()
        if masked
        else example_images(
            chosen.take(first.rows),
            [truth[row] for row in first.rows],
            first.probabilities.argmax(axis=1),
            outcome.apps,
        ),
        sections=own_page(compared.measured),
    )
    facts = {
        **about,
        "model": compared.model,
        "names": compared.names,
        **compared.measured.to_json(),
    }
    write_report(output / compared.place, compared.measured.result, text, facts)


def _write_all(
    output: Path, models_measured: "list[ComparedModel]", about: dict[str, Any]
) -> dict[str, Any]:
    """The overview; gives the content of its ``metrics.json``."""
    from apptell.reports.comparison import overview
    from apptell.reports.page import write_page

    metrics = {
        **about,
        "models": [
            {
                "model": compared.model,
                "names": compared.names,
                "tested_flows": compared.n_flows,
                "train_s": compared.train_s,
                "identify_s": compared.identify_s,
                **compared.measured.result.to_json(),
                **compared.measured.to_json(),
            }
            for compared in models_measured
        ],
    }
    last = about["seed"] + about["seeds"] - 1
    seeds = f"seed {last}" if about["seeds"] == 1 else f"seeds {about['seed']} to {last}"
    words = [
        (
            f"{about['dataset']}, split {about['split']}, {about['folds']} folds, {seeds}; "
            f"models that learn in passes had {about['epochs']} of the paper's 100 epochs. "
            "Intervals hold 95 % of 1,000 drawings of whole groups."
        ),
        "Without other: the flows of background are left out of the test, not of the training.",
    ]
    if about["optimistic"]:
        words.append("This split is random by flow: it flatters every model.")
    title, command = (
        f"Models compared on {about['dataset']}",
        shlex.join(["apptell", *sys.argv[1:]]),
    )
    write_page(output, title, words, overview(models_measured), metrics, command)
    return metrics


def _show(models_measured: "list[ComparedModel]", console: "Console") -> None:
    from rich.table import Table

    from apptell.reports.comparison import MODELS_HEAD
    from apptell.reports.page import shown

    columns = (0, 1, 3, 4, 5, 6, 7, 8, 9, 11, 12)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(MODELS_HEAD[column], justify="left" if column < 2 else "right")
    for compared in models_measured:
        table.add_row(*(shown(compared.row[column]) for column in columns))
    console.print(table)
