"""``apptell learn``: learns a model from captures that nobody labelled, by the names in them."""

from pathlib import Path
from typing import Annotated

import typer

from apptell.cli.screen import note, progress, report
from apptell.cli.shared_options import CatalogueFiles, Json, Seed
from apptell.cli.verb import INTERRUPTED


def learn(
    captures: Annotated[
        list[Path], typer.Argument(metavar="CAPTURE...", help="Captures or folders of captures.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="MODEL", help="Folder of the model.")
    ],
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep the labelled flows in this dataset; later captures are added to it. "
            "[default: they are not kept]",
        ),
    ] = None,
    catalogue: CatalogueFiles = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Name of a model: fast, fusion, sequence."
        ),
    ] = "fast",
    least: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Number of labelled flows that an app needs."),
    ] = 20,
    precision: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Choose the threshold so that at least this share of accepted verdicts is right, as "
            "far as names can tell.",
        ),
    ] = 0.95,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the model in the folder.")
    ] = False,
    seed: Seed = 0,
    jobs: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of processes; each one reads whole captures.", min=1
        ),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Learns a model from captures that nobody labelled, so that flows without names are identified too.

    Server names, DNS answers and addresses label the flows. The model learns with names masked.

    Examples:
        apptell learn captures/ -o model/
        apptell learn captures/ -o model/ --dataset flows/ --catalogue ours.csv
    """
    from apptell.experiments.learn import learn as learn_model

    with progress("learning") as show:
        learned = learn_model(
            captures,
            output,
            dataset=dataset,
            catalogue=catalogue or (),
            model=model,
            least_flows=least,
            precision=precision,
            replace=replace,
            seed=seed,
            jobs=jobs,
            progress=show,
            notify=note,
        )
    promise = learned.trained.promise
    found = {
        "model": f"{learned.model.name}@{learned.model.hash}",
        "folder": str(output),
        "interrupted": learned.trained.is_interrupted,
        "apps": learned.n_flows,
        "left_out": learned.left_out,
        "label_sources": learned.label_sources,
        "held_out": learned.held_out,
        "threshold": learned.model.threshold,
        "coverage": None if promise is None else round(promise.coverage, 4),
    }
    report(
        found,
        lambda console: console.print(
            f"{sum(learned.n_flows.values()):,} labelled flows of {len(learned.n_flows)} classes "
            "were used for training."
        ),
        as_json=as_json,
    )
    note(f"The model is in {output}. To use it: apptell identify CAPTURE -m {output}")
    if learned.trained.is_interrupted:
        note("Interrupted: this is the best model so far.")
        raise typer.Exit(INTERRUPTED)
