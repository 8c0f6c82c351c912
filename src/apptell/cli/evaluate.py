"""``apptell evaluate``: a model and a dataset in, how right the model is out."""

from pathlib import Path
from typing import Annotated

import typer

from apptell.cli.evaluation_table import print_evaluation
from apptell.cli.options import DatasetFolder, Json, Level, Seed, SplitOption, System, Threshold
from apptell.cli.screen import command_line, note, report


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model's folder.")],
    dataset: DatasetFolder,
    threshold: Threshold = None,
    split: SplitOption = None,
    seed: Seed = 0,
    level: Level = None,
    system: System = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="REPORT", help="Write a report's folder there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measures one model on one dataset: figures per app, means, confusion, also at the threshold.

    Examples:
        apptell evaluate model/ dataset/
        apptell evaluate model/ dataset/ --split model/split.jsonl -o report/
    """
    from apptell.experiments.evaluate import SPLIT_FILE
    from apptell.experiments.evaluate import evaluate as evaluate_model

    found = evaluate_model(
        model, dataset, threshold=threshold, split=split, seed=seed, level=level, system=system
    )
    if found.seen_share:
        note(
            f"The model learned from {found.seen_share:.1%} of the flows that it is measured on: these "
            f"figures flatter it. Measure what it did not see: --split {model / SPLIT_FILE}"
        )
    if unknown := found.evaluation.unknown_apps:
        note(f"The model does not know {', '.join(unknown)}: their flows count as wrong.")
    if output is not None:
        found.write_report(output, command=command_line())
        note(f"Report: {output / 'report.html'}")
    report(
        found.to_json(),
        lambda console: print_evaluation(found.evaluation, console),
        as_json=as_json,
    )
