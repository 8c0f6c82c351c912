"""``apptell demo``: trains, evaluates and identifies on the embedded samples, and writes a report."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.screen import note, progress
from apptell.cli.shared_options import Seed, flow_options

if TYPE_CHECKING:
    from apptell.flows import FlowBatch
    from apptell.models import Model

_SHOWN_OF_EACH = 3
_EPOCHS = {"paper-cnn": 20}
"""Enough for the samples, where 100 take too long."""


def demo(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Folder for dataset, model and report."
        ),
    ] = Path("apptell-demo"),
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Name of a model: fusion, paper-cnn, ..."
        ),
    ] = "fusion",
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Passes over the training flows. [default: 100, or 20 for paper-cnn]",
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Runs every step on embedded samples: train, evaluate, identify and report.

    Examples:
        apptell demo
        apptell demo --model paper-cnn -o my-demo/
    """
    from apptell.errors import DatasetError
    from apptell.experiments.samples import embedded_dataset, embedded_recordings
    from apptell.experiments.train import train
    from apptell.records.text_table import human_bytes
    from apptell.reports.html import ReportText

    passes = epochs or _EPOCHS.get(model, 100)
    recordings = embedded_recordings()
    captures = [path for folder in recordings for path in sorted(folder.glob("*.pcap.xz"))]
    size = human_bytes(sum(path.stat().st_size for path in captures))
    note(
        f"[1/4] Reading {len(captures)} embedded captures ({size}): real messaging servers and "
        f"clients, recorded {len(recordings)} times, each on another network."
    )
    with progress("reading") as show:
        data = embedded_dataset(output / "dataset", lambda name: show(-1, name))
    apps = data.apps
    note(f"      {len(data):,} flows of {len(apps)} classes: {', '.join(apps)}.")

    note(f"[2/4] Training {model} for {passes} epochs; some recordings are kept for testing.")
    with progress(f"training {model}") as show:
        trained = train(
            data,
            model,
            out=output / "model",
            replace=_was_trained_on(output / "model", data.hash),
            split="source",
            epochs=passes,
            seed=seed,
            progress=show,
            notify=note,
        )
    used, tested = trained.model, trained.test
    if tested is None:
        raise DatasetError(f"{output}: no recording was kept from the model")
    held_out = sorted(set(_recording_of(tested.flows.flows)))
    n_learned, result = len(trained.split.train), tested.evaluation

    folder = next(path for path in recordings if path.name == held_out[0])
    note(f"[3/4] Identifying {held_out[0]} flow by flow; some of its flows:")
    n_flows = _identify(sorted(folder.glob("*.pcap.xz")), used, output / "verdicts.jsonl")

    text = ReportText(
        title=f"{model} on recordings that were kept out of training",
        paragraphs=[
            (
                f"The model {model} was trained for {passes} epochs on {n_learned:,} flows of "
                f"{len(recordings) - len(held_out)} recordings and then measured on "
                f"{len(tested.flows):,} flows of {', '.join(held_out)}: another network on another day."
            ),
            "The model sees the first bytes of at most the first five payload packets of each flow.",
        ],
        command="apptell demo",
        examples=tested.example_images(),
    )
    tested.write_report(output / "report", text=text)
    note(
        f"[4/4] The report: {output / 'report' / 'report.html'}\n\n"
        f"Summary: {model} was trained on the first payload packets of {n_learned:,} flows of "
        f"{len(recordings) - len(held_out)} recordings. On {held_out[0]}, which was kept out of training, "
        f"it identifies {result.scores.accuracy:.1%} of the flows correctly. Its confidence is at least "
        f"{result.threshold:.0%} for {result.coverage:.1%} of them; of these, "
        f"{result.at_threshold.accuracy:.1%} are correct. "
        f"All {n_flows:,} verdicts are in {output / 'verdicts.jsonl'}.\n\n"
        "What to try next:\n"
        "  Identify the flows of your own capture:\n"
        f"    apptell identify YOUR.pcap -m {output / 'model'}\n"
        "  Train the paper's network, or its forest (paper-rf), on the same flows and split:\n"
        f"    apptell train {output / 'dataset'} -o network/ --model paper-cnn --epochs 20 "
        "--split source\n"
        "  Train on your own apps: one folder per recording, with one capture per app:\n"
        "    apptell dataset build CAPTURES/ -o DATASET/"
    )


def _was_trained_on(model: Path, dataset_hash: str) -> bool:
    """Whether a folder has a model of this dataset: only that one is the demonstration's to replace."""
    from apptell.errors import ModelError
    from apptell.models import read_model

    try:
        info, _ = read_model(model)
    except ModelError:
        return False
    return bool(info["data"].get("dataset_hash") == dataset_hash)


def _recording_of(flows: "FlowBatch") -> list[str]:
    rows = flows.column("groups").to_pylist(maps_as_pydicts="strict")
    return [groups["source"] for groups in rows]


def _identify(captures: list[Path], model: "Model", path: Path) -> int:
    """Writes the verdicts on a recording, prints a few for each capture, and returns their number."""
    from apptell.names import read_flows
    from apptell.records.forms.jsonl import JsonLines
    from apptell.records.schema import VERDICT_RECORD, verdict_records
    from apptell.records.text_table import VERDICT_COLUMNS, Column, TableWriter
    from apptell.records.writers import open_writer
    from apptell.verdicts import identify_flows

    recorded_as = Column("recorded as", 14, lambda row: Path(row["capture"]).name.split(".")[0])
    table = TableWriter(sys.stdout, (*VERDICT_COLUMNS[:-1], recorded_as))
    n_flows = 0
    with open_writer(path, JsonLines(), VERDICT_RECORD) as writer:
        for capture in captures:
            n_shown = 0
            with read_flows(capture, flow_options("clean")) as reader:
                for verdicts in identify_flows(reader, model):
                    records = verdict_records(verdicts)
                    writer.write(records)
                    table.write(records.slice(0, _SHOWN_OF_EACH - n_shown))
                    n_flows += len(records)
                    n_shown = min(_SHOWN_OF_EACH, n_shown + len(records))
    table.close()
    return n_flows
