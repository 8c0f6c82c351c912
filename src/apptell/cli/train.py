"""``apptell train``: trains a model and measures it on flows that were kept out of training."""

from pathlib import Path
from typing import Annotated

import typer

from apptell.cli.evaluation_table import print_evaluation
from apptell.cli.screen import choose_progress, note, progress, report
from apptell.cli.shared_options import (
    SPLIT_WORDS,
    DatasetFolder,
    Device,
    Json,
    Level,
    Packets,
    ProgressForm,
    Seed,
    System,
    TestDataset,
)
from apptell.cli.verb import INTERRUPTED


def train(
    dataset: DatasetFolder,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="MODEL", help="Folder of the model.")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Name of a model: fusion, fast, paper-cnn, ..."
        ),
    ] = "fusion",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the model in the folder.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="SPLIT|FILE",
            help=f"{SPLIT_WORDS} [default: paper; none with --all or --test]",
        ),
    ] = None,
    learn_all: Annotated[
        bool, typer.Option("--all", help="Train on every flow; the same as --split none.")
    ] = False,
    test: TestDataset = None,
    epochs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Passes over the training flows.")
    ] = 100,
    seed: Seed = 0,
    device: Device = "auto",
    ports: Annotated[
        str, typer.Option(metavar="on|off", help="Whether paper-rf sees the two ports.")
    ] = "on",
    packets: Packets = None,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="How fusion and fast use server names: on, masked or hashed. "
            "[default: on; masked if the labels come from names]",
        ),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="late: also learn from later packets of the training connections (fusion, fast, sequence). "
            "[default: none]",
        ),
    ] = None,
    hyperparameters: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Set a hyperparameter, as in lr=0.001; repeatable.",
        ),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Choose the threshold so that at least this share of accepted verdicts is right. The "
            "model does not change if this cannot be guaranteed.",
        ),
    ] = None,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown",
            help="Also learn to recognise flows of apps that are not in the dataset. Training takes about ten "
            "times longer.",
        ),
    ] = False,
    keep_rows: Annotated[
        bool,
        typer.Option(
            "--keep-rows",
            help="Keep the encoded flows in the model's folder, so that apptell update can train it again. "
            "They hold no payload, address or name of a capture.",
        ),
    ] = False,
    new_stacks: Annotated[
        bool,
        typer.Option(
            "--new-stacks",
            help="Also learn how to decide flows of TLS stacks that are not in the dataset, on devices that "
            "are left out in turn. Where nothing is right often enough, they are declined.",
        ),
    ] = False,
    level: Level = None,
    system: System = None,
    progress_form: ProgressForm = "auto",
    as_json: Json = False,
) -> None:
    """Trains a model on one side of a split and measures it on the other.

    Examples:
        apptell train dataset/ -o model/
        apptell train dataset/ -o model/ --model paper-cnn --split source --seed 1
    """
    from apptell.errors import UsageError
    from apptell.experiments.train import train as train_model

    choose_progress(progress_form)

    if ports not in ("on", "off"):
        raise UsageError(f"--ports {ports!r} is neither on nor off")
    if learn_all and split not in (None, "none"):
        raise UsageError("--all learns from every flow: leave out --split")
    with progress(f"training {model}") as show:
        trained = train_model(
            dataset,
            model,
            out=output,
            replace=replace,
            split="none" if learn_all else split,
            test=test,
            epochs=epochs,
            seed=seed,
            device=device,
            ports=ports == "on",
            packets=packets,
            names=names,
            hyperparameters=_numbers(hyperparameters or []),
            views=views,
            precision=precision,
            unknown=unknown,
            keep_rows=keep_rows,
            new_stacks=new_stacks,
            level=level or "app",
            system=system or "other",
            progress=show,
            notify=note,
        )
    used, test_result = trained.model, trained.test
    found = {
        "model": f"{used.name}@{used.hash}",
        "folder": str(output),
        "interrupted": trained.is_interrupted,
        "test": None if test_result is None else test_result.evaluation.to_json(),
    }
    report(
        found,
        lambda console: (
            console.print(f"{len(trained.split.train):,} flows were used for training.")
            if test_result is None
            else print_evaluation(test_result.evaluation, console)
        ),
        as_json=as_json,
    )
    note(f"The model is in {output}. To use it: apptell identify CAPTURE -m {output}")
    if trained.is_interrupted:
        note("Interrupted: this is the best model so far.")
        raise typer.Exit(INTERRUPTED)


def _numbers(texts: list[str]) -> dict[str, float]:
    """The hyperparameters of ``--set``.

    Raises:
        UsageError: one is not NAME=VALUE with a number.
    """
    from apptell.errors import UsageError

    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise UsageError(f"--set {text}: not NAME=VALUE with a number") from error
    return found
