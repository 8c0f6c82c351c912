"""``apptell train``: a dataset in, a model and its figures on flows it did not learn from out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.evaluation_table import print_evaluation
from apptell.cli.labelled import chosen_of, measure, split_of
from apptell.cli.options import (
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
from apptell.cli.verb import INTERRUPTED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from apptell.dataset import Classes, Selection, Split
    from apptell.evaluation import Evaluation
    from apptell.experiments.promise import PrecisionPromise
    from apptell.learning.task import Task
    from apptell.models import Model


def train(
    dataset: DatasetFolder,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="MODEL", help="The model's folder.")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="NAME", help="fusion, fast, paper-cnn, paper-rf, ..."
        ),
    ] = "fusion",
    split: SplitOption = "paper",
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
            metavar="MODE", help="Server names in models that read them: on, masked, hashed."
        ),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Choose the threshold that promises this share of right verdicts, on held-out groups.",
        ),
    ] = None,
    level: Level = None,
    system: System = None,
    as_json: Json = False,
) -> None:
    """Trains a model on one side of a split and measures it on the other.

    Examples:
        apptell train dataset/ -o model/
        apptell train dataset/ -o model/ --model paper-cnn --split source --seed 1
    """
    from apptell.dataset import Classes, Dataset
    from apptell.errors import UsageError

    if ports not in ("on", "off"):
        raise UsageError(f"--ports {ports!r} is neither on nor off")
    classes = Classes(level or "app", system or "other")
    opened = Dataset.open(dataset)
    trained = train_and_measure(
        chosen_of(opened, classes),
        output,
        model=model,
        split=split or "paper",
        epochs=epochs,
        seed=seed,
        device=device,
        ports=ports == "on",
        packets=packets,
        names=names,
        precision=precision,
        classes=classes,
        data={"dataset": opened.path.resolve().name, "dataset_hash": opened.hash},
    )
    used, result = trained.model, trained.result
    interrupted = bool(used.info.get("training", {}).get("interrupted"))
    found = {
        "model": f"{used.name}@{used.hash}",
        "folder": str(output),
        "interrupted": interrupted,
        "test": result.to_json(),
    }
    report(found, lambda console: print_evaluation(result, console), as_json=as_json)
    note(f"The model is in {output}. Try: apptell identify CAPTURE -m {output}")
    if interrupted:
        note("Interrupted: this is the best model so far.")
        raise typer.Exit(INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Trained:
    """A model and how it does on the flows that were kept from it."""

    model: "Model"
    sides: "Split"
    tested: "Selection"
    """The flows of the test side."""
    result: "Evaluation"
    probabilities: "NDArray[np.float32]"
    """Of the test side, shape (n, k)."""


def train_and_measure(
    chosen: "Selection",
    output: Path,
    *,
    model: str,
    split: str,
    epochs: int,
    seed: int,
    device: str,
    ports: bool,
    packets: int | None = None,
    names: str | None = None,
    precision: float | None = None,
    classes: "Classes",
    data: dict[str, Any],
) -> Trained:
    """Trains on one side of a split, measures on the other; writes model, figures and split."""
    from apptell.dataset import save_split
    from apptell.learning import Progress, recipe_of, train_model
    from apptell.learning.card import model_card
    from apptell.learning.task import Task
    from apptell.models import read_model, write_model
    from apptell.verdicts.calibration import FLOOR

    sides = split_of(chosen.flows, split, seed, classes.level)
    recipe = recipe_of(model)
    learned, tested = chosen.take(sides.train), chosen.take(sides.test)
    warning = " (random by flow: optimistic on networks it never saw)" if sides.optimistic else ""
    note(
        f"{model}: {len(learned):,} flows to learn from, {len(tested):,} to measure on, "
        f"split {sides.protocol}{warning}."
    )
    task = Task(model, epochs, seed, device, ports, packets, names)
    kept = _promised(task, learned, sides, precision, classes) if precision is not None else None
    with progress(f"training {model}") as show:

        def step(state: Progress) -> None:
            beside = f"epoch {state.epoch} of {state.epochs}, {state.remaining_s:.0f} s left"
            show(state.done, beside)

        trained = train_model(
            learned,
            classes.of(learned.flows),
            model=model,
            ports=ports,
            packets=packets,
            names=names,
            epochs=epochs,
            seed=seed,
            device=device,
            threshold=None if kept is None else kept.threshold,
            out=output,
            progress=step,
            extra_info={
                "calibration": None
                if kept is None
                else {"temperature": kept.temperature, "floor": FLOOR},
                "data": {
                    **data,
                    "split": sides.protocol,
                    "split_seed": seed,
                    "level": classes.level,
                    "system": classes.system,
                },
            },
        )
    result, probabilities = measure(trained, tested, None, seed, classes)
    # The figures belong into the model's own folder, and are known only now.
    info, weights = read_model(output)
    info["metrics"] = {
        "measured_on": f"test side of split {sides.protocol}, {len(tested)} flows",
        "accuracy": round(result.scores.accuracy, 4),
        "macro_f1": round(result.scores.macro_f1, 4),
        "coverage": round(result.coverage, 4),
        "accuracy_at_threshold": round(result.at_threshold.accuracy, 4),
        **({} if precision is None else {"promised_at_threshold": precision}),
    }
    write_model(output, weights, info, model_card(info, recipe.description))
    save_split(sides, chosen.flows, output / "split.jsonl")
    return Trained(trained, sides, tested, result, probabilities)


def _promised(
    task: "Task",
    learned: "Selection",
    sides: "Split",
    precision: float,
    classes: "Classes",
) -> "PrecisionPromise":
    """Temperature and threshold by groups held out of the training side."""
    from apptell.errors import UsageError
    from apptell.experiments.promise import choose
    from apptell.verdicts.pipeline import DEFAULT_THRESHOLD

    if not 0 < precision < 1:
        raise UsageError(f"--precision {precision} is not between 0 and 1")
    with progress("holding groups out") as show:
        kept = choose(
            learned,
            classes.of(learned.flows),
            task,
            precision,
            protocol=sides.protocol,
            level=classes.level,
            show=show,
        )
    what = (
        f"cannot promise {precision:.0%}: the threshold stays {DEFAULT_THRESHOLD}"
        if kept.threshold is None
        else f"promise {precision:.0%} at threshold {kept.threshold:.3f}"
    )
    note(
        f"{kept.n_flows:,} held-out verdicts of {kept.n_groups} groups {what}; temperature "
        f"{kept.temperature:.2f}."
    )
    return kept
