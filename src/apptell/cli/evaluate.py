"""``apptell evaluate``: a model and a dataset in, how right the model is out."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.evaluation_table import print_evaluation
from apptell.cli.labelled import chosen_of, classes_of_model, measure, split_of
from apptell.cli.options import DatasetFolder, Json, Level, Seed, SplitOption, System, Threshold
from apptell.cli.screen import note, report

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from apptell.dataset import Selection
    from apptell.flows import FlowBatch


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
    from apptell.dataset import Dataset
    from apptell.models import load_model
    from apptell.reports.evaluation import write_report
    from apptell.reports.html import ReportText

    used = load_model(model)
    opened = Dataset.open(dataset)
    classes = classes_of_model(used, level, system)
    chosen = chosen_of(opened, classes)
    if split is not None:
        chosen = chosen.take(split_of(chosen.flows, split, seed, classes.level).test)
    known = used.info["data"].get("dataset_hash") == opened.hash
    seen = _seen(model, chosen.flows, whole=split is None) if known else 0.0
    if seen:
        note(
            f"The model learned from {seen:.1%} of the flows that it is measured on: these figures "
            f"flatter it. Measure what it did not see: --split {model / 'split.jsonl'}"
        )
    result, probabilities = measure(used, chosen, threshold, seed, classes)
    if result.unknown_apps:
        note(
            f"The model does not know {', '.join(result.unknown_apps)}: their flows count as wrong."
        )
    about = {
        "model": f"{used.name}@{used.hash}",
        "dataset": opened.path.resolve().name,
        "dataset_hash": opened.hash,
        "split": split,
        "level": classes.level,
        "seed": seed,
        "seen_in_training": seen > 0,
        "seen_share": seen,
    }
    if output is not None:
        which = "all flows" if split is None else f"the test side of split {split}"
        text = ReportText(
            title=f"{used.name} on {opened.path.resolve().name}",
            done=[
                (
                    f"The model {used.name}@{used.hash} was given {which} of the dataset "
                    f"{opened.path.resolve().name}: {len(chosen):,} flows with at least two payload "
                    f"packets. Each verdict rests on at most the first five of them."
                ),
                *([f"The model learned from {seen:.1%} of these very flows."] if seen else []),
            ],
            command=shlex.join(["apptell", *sys.argv[1:]]),
            examples=example_images(
                chosen,
                classes.of(chosen.flows),
                probabilities.argmax(axis=1),
                result.scores.apps,
            ),
        )
        found = write_report(output, result, text, about)
        note(f"Report: {output / 'report.html'}")
    else:
        found = {**about, **result.to_json()}
    report(found, lambda console: print_evaluation(result, console), as_json=as_json)


def _seen(model: Path, flows: "FlowBatch", *, whole: bool) -> float:
    """The share of some flows of its own dataset that a model learned from.

    Args:
        model: its folder; the split that lies there says it.
        flows: those that it is measured on.
        whole: whether these are the whole dataset, which is all there is to say without that file.
    """
    from apptell.dataset.splits import training_rows

    file = model / "split.jsonl"
    if not file.is_file():
        return float(whole)
    return float(training_rows(flows, file).mean()) if len(flows) else 0.0


def example_images(
    chosen: "Selection", truth: "Sequence[str]", guess: "NDArray[np.int64]", apps: "Sequence[str]"
) -> "list[tuple[str, NDArray[Any]]]":
    """The image of one rightly told flow of each class, with as many payload packets as there are."""
    import numpy as np

    from apptell.encoding import images

    true = np.array(truth)
    packets = chosen.flows.payload_packets
    shown: dict[str, int] = {}
    for number, app in enumerate(apps):
        rows = np.flatnonzero((true == app) & (guess == number))
        if len(rows):
            shown[app] = int(rows[packets[rows].argmax()])
    flows = chosen.read(list(shown.values()))
    if not len(flows) or not flows.column("segment_bytes").is_valid().to_numpy(False).any():
        return []
    return list(zip(shown, images(flows), strict=True))
