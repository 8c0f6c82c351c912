"""``apptell compare``: a dataset and a protocol in, several models side by side out."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.labelled import apps_of, long_enough
from apptell.cli.options import DatasetFolder, Device, Json, Level, Seed, SplitOption, System
from apptell.cli.screen import note, progress, report

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.dataset import Classes, Split
    from apptell.evaluation.comparison import Measured
    from apptell.flows import FlowBatch
    from apptell.learning.protocols import Outcome

_HEAD = (
    "model", "names", "flows", "accuracy", "95 %", "macro-F1", "95 %",
    "right at threshold", "coverage", "calibration error", "by provider: accuracy", "macro-F1",
    "without other: accuracy", "macro-F1", "training, s", "flows per s",
)  # fmt: skip


def compare(
    dataset: DatasetFolder,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="REPORT", help="The report's folder.")
    ],
    protocol: Annotated[
        str,
        typer.Option(
            metavar="PROTOCOL",
            help="Folds under this protocol: paper, session, source, device, network, day, "
            "version, time, capture-point, domain, group:COLUMN.",
        ),
    ] = "source",
    split: SplitOption = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="A model beside the three; may be repeated."
        ),
    ] = None,
    n_folds: Annotated[
        int, typer.Option("--folds", metavar="K", min=2, help="Folds of the protocol.")
    ] = 5,
    epochs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Passes over the training flows.")
    ] = 100,
    apps: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Only flows of these apps, by commas; all unless said."),
    ] = None,
    seed: Seed = 0,
    level: Level = None,
    system: System = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Trains and tests several models under one protocol, server names on and masked.

    The paper's network, its forest without ports and a nearest neighbour always stand beside the
    models asked for. Interrupted, it goes on where it stopped when it is called again.

    Examples:
        apptell compare dataset/ --protocol source -o report/
        apptell compare dataset/ --split split.jsonl --model paper-rf -o report/
    """
    from apptell.dataset import Classes, Dataset
    from apptell.evaluation.comparison import measure_pooled
    from apptell.learning.protocols import compare_models, interval_groups, models_of

    classes = Classes(level or "app", system or "other")
    models = models_of(model or [])
    opened = Dataset.open(dataset)
    flows = classes.keep(chosen(opened.read(), apps))
    truth = classes.of(flows)
    splits = _splits(flows, protocol, split, n_folds, seed, output, classes.level)
    used = splits[0].protocol
    groups = interval_groups(flows, used)
    if splits[0].optimistic:
        note("Random by flow: optimistic on networks that a model never saw.")
    about: dict[str, Any] = {
        "dataset": opened.path.resolve().name,
        "dataset_hash": opened.hash,
        "protocol": used,
        "optimistic": splits[0].optimistic,
        "folds": len(splits),
        "epochs": epochs,
        "seed": seed,
        "level": classes.level,
        "apps": sorted(set(truth)),
    }
    found: list[tuple[Outcome, Measured]] = []
    with progress("comparing") as show:
        for outcome in compare_models(
            flows, truth, splits, models,
            epochs=epochs, seed=seed, device=device, cache=output / "cache", show=show,
        ):  # fmt: skip
            tested = flows.take(outcome.rows)
            measured = measure_pooled(
                tested,
                [truth[row] for row in outcome.rows],
                outcome.probabilities,
                outcome.apps,
                fold=outcome.fold,
                groups=groups[outcome.rows],
                seed=seed,
            )
            _write_one(output, outcome, measured, about, tested, classes)
            found.append((outcome, measured))
    metrics = _write_all(output, found, about)
    note(f"Report: {output / 'report.html'}")
    report(metrics, lambda console: _show(found, console), as_json=as_json)


def chosen(flows: "FlowBatch", apps: str | None) -> "FlowBatch":
    """The flows long enough for a verdict that have a label, of some apps alone where asked for.

    Raises:
        UsageError: no flow has one of these apps.
    """
    import numpy as np

    from apptell.errors import UsageError

    flows = long_enough(flows)
    flows = flows.filter(np.asarray(flows.column("label").is_valid()))
    if apps is None:
        return flows
    wished = [name.strip().lower() for name in apps.split(",")]
    truth = apps_of(flows)
    if missing := sorted(set(wished) - set(truth)):
        raise UsageError(f"--apps: the dataset has no flow of {missing[0]!r}")
    return flows.filter(np.array([app in wished for app in truth], dtype=bool))


def _splits(
    flows: "FlowBatch",
    protocol: str,
    given: str | None,
    n_folds: int,
    seed: int,
    output: Path,
    level: str,
) -> "list[Split]":
    """The folds, or the one split that was given; written below the report."""
    from apptell.cli.labelled import split_of
    from apptell.dataset import folds, save_split
    from apptell.errors import OutputError

    splits = (
        folds(flows, protocol, n_folds, seed, level)
        if given is None
        else [split_of(flows, given, seed, level)]
    )
    try:
        (output / "splits").mkdir(parents=True, exist_ok=True)
        for number, each in enumerate(splits, 1):
            save_split(each, flows, output / "splits" / f"fold-{number}.jsonl")
    except OSError as error:
        raise OutputError(f"{output}: {error.strerror}") from error
    return splits


def _place(outcome: "Outcome") -> str:
    return f"{outcome.model}-names-{outcome.names}"


def _write_one(
    output: Path,
    outcome: "Outcome",
    measured: "Measured",
    about: dict[str, Any],
    tested: "FlowBatch",
    classes: "Classes",
) -> None:
    """The page of one model, in a folder below the report."""
    from apptell.cli.evaluate import example_images
    from apptell.reports.evaluation import write_report
    from apptell.reports.html import Story

    masked = outcome.names == "masked"
    done = [
        (
            f"{outcome.model} learned and was tested on {about['dataset']} in {about['folds']} "
            f"folds under the protocol {about['protocol']}; each of the {len(tested):,} flows was "
            "tested once, by a model that saw nothing of its group."
        ),
        (
            "Server names, HTTP hosts and the names in certificates were overwritten with zeros."
            if masked
            else "Server names were left as they were."
        ),
        *(["A random split flatters every model."] if about["optimistic"] else []),
        *(
            f"Confused: {c.true} given as {c.given}, {c.flows:,} flows, such as "
            f"{', '.join(c.examples)}."
            for c in measured.hardest
        ),
    ]
    if (kept := measured.promise) is not None:
        got = "none was accepted" if kept.got is None else f"{kept.got:.1%} were right"
        done.append(
            f"With temperature and threshold from the other folds, {kept.precision:.0%} right was "
            f"promised; {got}, at coverage {kept.coverage:.1%}. Calibration error "
            f"{measured.result.calibration_error:.3f} before, {kept.calibration_error:.3f} after."
        )
    story = Story(
        title=f"{outcome.model}, names {outcome.names}, protocol {about['protocol']}",
        done=done,
        command=shlex.join(["apptell", *sys.argv[1:]]),
        examples=()
        if masked
        else example_images(
            tested, classes.of(tested), outcome.probabilities.argmax(axis=1), outcome.apps
        ),
    )
    facts = {**about, "model": outcome.model, "names": outcome.names, **measured.to_json()}
    write_report(output / _place(outcome), measured.result, story, facts)


def _row(outcome: "Outcome", measured: "Measured") -> list[Any]:
    result, provider, alone = measured.result, measured.by_provider, measured.without_other
    speed = len(outcome.rows) / outcome.identify_s if outcome.identify_s else 0.0
    return [
        outcome.model,
        outcome.names,
        result.scores.n_flows,
        result.scores.accuracy,
        result.intervals["accuracy"],
        result.scores.macro_f1,
        result.intervals["macro_f1"],
        result.at_threshold.accuracy,
        result.coverage,
        result.calibration_error,
        None if provider is None else provider.scores.accuracy,
        None if provider is None else provider.scores.macro_f1,
        None if alone is None else alone.scores.accuracy,
        None if alone is None else alone.scores.macro_f1,
        f"{outcome.train_s:.1f}",
        round(speed),
    ]


def _write_all(
    output: Path, found: "list[tuple[Outcome, Measured]]", about: dict[str, Any]
) -> dict[str, Any]:
    """The overview; gives the content of its ``metrics.json``."""
    from apptell.reports.page import Section, write_page

    metrics = {
        **about,
        "models": [
            {
                "model": outcome.model,
                "names": outcome.names,
                "train_s": outcome.train_s,
                "identify_s": outcome.identify_s,
                **measured.result.to_json(),
                **measured.to_json(),
            }
            for outcome, measured in found
        ],
    }
    words = [
        (
            f"{about['dataset']}, protocol {about['protocol']}, {about['folds']} folds, seed "
            f"{about['seed']}; models that learn in passes had {about['epochs']} of the paper's 100 "
            "epochs. Intervals hold 95 % of 1,000 drawings of whole groups."
        ),
        "Without other: the flows of background are left out of the test, not of the training.",
    ]
    if about["optimistic"]:
        words.append("This split is random by flow: it flatters every model.")
    table = Section(
        "models",
        "Models side by side",
        "Pooled over the folds. Each has a page of its own, below.",
        _HEAD,
        [_row(outcome, measured) for outcome, measured in found],
    )
    pages = Section(
        "pages",
        "Pages",
        "",
        ("page", "model", "names"),
        [(_place(o), o.model, o.names) for o, _ in found],
        link={_place(o): f"{_place(o)}/report.html" for o, _ in found},
    )
    write_page(
        output,
        f"Models compared on {about['dataset']}",
        words,
        [table, pages],
        metrics,
        shlex.join(["apptell", *sys.argv[1:]]),
    )
    return metrics


def _show(found: "list[tuple[Outcome, Measured]]", console: "Console") -> None:
    from rich.table import Table

    from apptell.reports.page import shown

    columns = (0, 1, 3, 4, 5, 6, 7, 8, 10, 11)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(_HEAD[column], justify="left" if column < 2 else "right")
    for outcome, measured in found:
        row = _row(outcome, measured)
        table.add_row(*(shown(row[column]) for column in columns))
    console.print(table)
