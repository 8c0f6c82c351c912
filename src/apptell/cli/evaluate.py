"""``apptell evaluate``: measures a model on a dataset."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.evaluation_table import print_evaluation, print_evidence
from apptell.cli.screen import command_line, note, progress, report
from apptell.cli.shared_options import (
    CatalogueFiles,
    DatasetFolder,
    Json,
    MeasuredEvidence,
    Seed,
    Threshold,
    UnknownRate,
    app_names,
    unknown_rate,
)

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.experiments.evaluate import EvaluatedModel


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a model.")],
    dataset: DatasetFolder,
    threshold: Threshold = None,
    unknown: UnknownRate = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="SPLIT|FILE",
            help="Measure only the test side of this split, named as in train. [default: all flows]",
        ),
    ] = None,
    seed: Seed = 0,
    level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="app, or activity: classes are app/activity where a label has an activity. [default: the "
            "model's own]",
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="How the phone's own traffic is treated: other (background), system (a class), drop. "
            "[default: as in training]",
        ),
    ] = None,
    unlearned: Annotated[
        str | None,
        typer.Option(
            metavar="APPS",
            help="Train the model again without these apps, separated by commas, and measure how well their "
            "flows are recognised as unknown. [default: none]",
        ),
    ] = None,
    evidence: MeasuredEvidence = None,
    catalogue: CatalogueFiles = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="REPORT", help="Folder of the report. [default: no report]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measures one model on one dataset, over all flows and over those accepted at the threshold.

    Examples:
        apptell evaluate model/ dataset/
        apptell evaluate model/ dataset/ --split model/split.jsonl -o report/
    """
    from apptell.experiments.circularity import WARNING
    from apptell.experiments.evaluate import SPLIT_FILE
    from apptell.experiments.evaluate import evaluate as evaluate_model

    with progress("training without apps") if unlearned else nullcontext() as show:
        found = evaluate_model(
            model,
            dataset,
            threshold=threshold,
            unknown=unknown_rate(unknown),
            split=split,
            seed=seed,
            level=level,
            system=system,
            unlearned=app_names(unlearned) or (),
            evidence=evidence,
            catalogue=catalogue or (),
            progress=show,
        )
    if WARNING in found.facts:
        note(found.facts[WARNING])
    if found.seen_share:
        note(
            f"The model was trained on {found.seen_share:.1%} of the measured flows, so these figures "
            f"flatter it. To measure flows that it has not seen: --split {model / SPLIT_FILE}"
        )
    if not_known := found.evaluation.unknown_apps:
        note(f"The model does not know {', '.join(not_known)}: their flows count as errors.")
    if output is not None:
        found.write_report(output, command=command_line())
        note(f"Report: {output / 'report.html'}")
    report(found.to_json(), lambda console: _print(found, console), as_json=as_json)


def _print(found: "EvaluatedModel", console: "Console") -> None:
    print_evaluation(found.evaluation, console, found.open_set)
    if found.by_evidence is not None:
        print_evidence(found.by_evidence.to_json(), console)
