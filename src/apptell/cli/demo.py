"""``apptell demo``: trains, evaluates and identifies on the embedded samples, and writes a report."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.screen import note, progress
from apptell.cli.shared_options import Seed, flow_options

if TYPE_CHECKING:
    from apptell.models import Model

_SHOWN_OF_EACH = 3
_SHOWN_NAMED = 15


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
    """Runs every step on embedded samples: train, evaluate, identify, report, and recognise an unknown app.

    Examples:
        apptell demo
        apptell demo --model paper-cnn -o my-demo/
    """
    from apptell.experiments.demo import UNLEARNED, demo_epochs, leave_out_app, train_on_samples
    from apptell.experiments.samples import embedded_dataset, embedded_recordings, named_sample
    from apptell.records.text_table import human_bytes

    passes = epochs or demo_epochs(model)
    recordings = embedded_recordings()
    captures = [path for folder in recordings for path in sorted(folder.glob("*.pcap.xz"))]
    size = human_bytes(sum(path.stat().st_size for path in captures))
    note(
        f"[1/6] Reading {len(captures)} embedded captures ({size}): real messaging servers and "
        f"clients, recorded {len(recordings)} times, each on another network."
    )
    with progress("reading") as show:
        data = embedded_dataset(output / "dataset", lambda name: show(-1, name))
    note(f"      {len(data):,} flows of {len(data.apps)} classes: {', '.join(data.apps)}.")

    note(f"[2/6] Training {model} for {passes} epochs; some recordings are kept for testing.")
    with progress(f"training {model}") as show:
        shown = train_on_samples(
            data, output / "model", model, epochs=passes, seed=seed, progress=show, notify=note
        )

    folder = shown.held_out[0]
    note(f"[3/6] Identifying {folder.name} flow by flow; some of its flows:")
    n_flows = _identify_recording(
        sorted(folder.glob("*.pcap.xz")), shown.model, output / "verdicts.jsonl"
    )

    shown.write_report(output / "report")
    result = shown.test.evaluation
    note(
        f"[4/6] The report: {output / 'report' / 'report.html'}\n\n"
        f"Summary: {model} was trained on the first payload packets of {shown.n_train:,} flows of "
        f"{shown.n_recordings} recordings. On {folder.name}, which was kept out of training, "
        f"it identifies {result.scores.accuracy:.1%} of the flows correctly. Its confidence is at least "
        f"{result.threshold:.0%} for {result.coverage:.1%} of them; of these, "
        f"{result.at_threshold.accuracy:.1%} are correct. "
        f"All {n_flows:,} verdicts are in {output / 'verdicts.jsonl'}.\n"
    )
    note(
        f"[5/6] Training another model (fast) that never sees {UNLEARNED}; can it tell that it does not know "
        "this app?"
    )
    with progress("training fast") as show:
        open_set = leave_out_app(data, seed=seed, progress=show)
    note(
        f"      It may call {open_set.rate:.0%} of the flows of apps that it knows unknown; the limit for that "
        "comes from held-out parts of its training flows. Measured on the recording that was kept out of "
        f"training, it calls {open_set.realised:.1%} of {open_set.known:,} such flows unknown, and "
        f"{open_set.caught:.1%} of all {open_set.unknown:,} flows of {UNLEARNED}. Sorted by how unknown they "
        f"look, a flow of {UNLEARNED} comes before a flow of a known app in {open_set.auroc:.1%} of the pairs "
        "(the AUROC).\n"
    )
    named = named_sample()
    note(
        "[6/6] Well-known apps, identified without a model by what their traffic shows openly (from "
        f"{named.name}, recorded with servers that answer for their names):"
    )
    _identify_named(named)
    note(
        "\nWhat to try next:\n"
        "  Identify the apps in your own capture:\n"
        "    apptell identify YOUR.pcap\n"
        "  Learn a model of the apps that your captures name, for flows that show no name:\n"
        "    apptell learn CAPTURES/ -o my-model/\n"
        "  Train a model that calls flows unknown when they look like none of its apps:\n"
        f"    apptell train {output / 'dataset'} -o open/ --model fast --split source --unknown\n"
        "  Train the paper's network, or its forest (paper-rf), on the same flows and split:\n"
        f"    apptell train {output / 'dataset'} -o network/ --model paper-cnn --epochs 20 "
        "--split source\n"
        "  Train on your own apps: one folder per recording, with one capture per app:\n"
        "    apptell dataset build CAPTURES/ -o DATASET/"
    )


def _identify_recording(captures: list[Path], model: "Model", path: Path) -> int:
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


def _identify_named(capture: Path) -> None:
    """Prints some of the flows of a capture that name an app or a service, with their evidence."""
    from apptell.flows import FlowOptions
    from apptell.names import read_flows
    from apptell.records.schema import verdict_records
    from apptell.records.text_table import VERDICT_COLUMNS, TableWriter
    from apptell.verdicts import choose_deciders, identify_flows

    deciders = choose_deciders()
    options = FlowOptions(transports=deciders.transports)
    table = TableWriter(sys.stdout, VERDICT_COLUMNS[:-1])
    n_shown = 0
    with read_flows(capture, options, observer=deciders.evidence) as reader:
        for verdicts in identify_flows(reader, evidence=deciders.evidence):
            records = verdict_records(verdicts)
            known = records.filter(records.column("evidence").is_valid())
            table.write(known.slice(0, _SHOWN_NAMED - n_shown))
            n_shown = min(_SHOWN_NAMED, n_shown + len(known))
    table.close()
