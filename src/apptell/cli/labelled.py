"""A dataset's flows and a split in, what a model learns from or is measured on out."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from apptell.dataset import Classes, Dataset, Selection, Split
    from apptell.evaluation import Evaluation
    from apptell.flows import FlowBatch
    from apptell.models import Model


def apps_of(flows: "FlowBatch") -> list[str]:
    """The app of each flow: an activity belongs to its app, the phone's system to the background."""
    from apptell.dataset import Classes

    return Classes().of(flows)


def split_of(flows: "FlowBatch", wished: str, seed: int, level: str = "app") -> "Split":
    """The split of a ``--split`` option: the file of that name if there is one, else a protocol."""
    from apptell.dataset import split

    place = Path(wished) if Path(wished).is_file() else wished
    return split(flows, place, seed=seed, level=level)


def classes_of_model(model: "Model", level: str | None, system: str | None) -> "Classes":
    """The classes to measure a model by: those asked for, else those it was trained on.

    Raises:
        UsageError: activities are asked for, and the model was trained on apps.
    """
    from apptell.dataset import Classes
    from apptell.errors import UsageError

    learned = model.info["data"]
    own = str(learned.get("level", "app"))
    if level == "activity" and own == "app":
        raise UsageError(
            f"--level activity: the model {model.name}@{model.hash} knows apps alone; "
            "train one with --level activity"
        )
    return Classes(level or own, system or str(learned.get("system", "other")))


def measure(
    model: "Model", chosen: "Selection", threshold: float | None, seed: int, classes: "Classes"
) -> "tuple[Evaluation, NDArray[np.float32]]":
    """Every figure of a model on labelled flows, and the probabilities of its classes, shape (n, k)."""
    from apptell.dataset.classes import by_app
    from apptell.evaluation import evaluate, slices_of
    from apptell.verdicts import choose_threshold

    flows = chosen.flows
    probabilities, names = chosen.gather(model.predict_proba), model.apps
    if classes.level == "app":
        probabilities, names = by_app(probabilities, names)
    result = evaluate(
        classes.of(flows),
        probabilities,
        names,
        choose_threshold(threshold, model),
        groups_of(flows),
        captures=flows.column("capture").to_pylist(),
        slices=slices_of(chosen),
        seed=seed,
    )
    return result, probabilities


def groups_of(flows: "FlowBatch") -> "Sequence[str]":
    """The unit of each flow for intervals: its source, else its session, else its capture."""
    from apptell.dataset.groups import origins

    return list(origins(flows).tolist())


def chosen_of(
    source: "Dataset | FlowBatch | Selection",
    classes: "Classes | None" = None,
    apps: str | None = None,
) -> "Selection":
    """The flows that a verdict is given on and that have a class: those with two payload packets.

    Args:
        source: where they are.
        classes: how labels become classes; apps unless given.
        apps: only flows of these classes, by commas.

    Raises:
        UsageError: no flow has one of these classes.
    """
    import numpy as np

    from apptell.dataset import Classes, Selection
    from apptell.errors import UsageError
    from apptell.verdicts.pipeline import MIN_PAYLOAD_PACKETS

    classes = classes or Classes()
    chosen = Selection.of(source)
    chosen = chosen.filter(chosen.flows.payload_packets >= MIN_PAYLOAD_PACKETS)
    chosen = chosen.filter(classes.kept(chosen.flows))
    if apps is None:
        return chosen
    wished = [name.strip().lower() for name in apps.split(",")]
    truth = classes.of(chosen.flows)
    if missing := sorted(set(wished) - set(truth)):
        raise UsageError(f"--apps: the dataset has no flow of {missing[0]!r}")
    return chosen.filter(np.isin(np.array(truth, dtype=np.str_), wished))
