"""A dataset's flows and a split in, what a model learns from or is measured on out."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from apptell.dataset import Split
    from apptell.evaluation import Evaluation
    from apptell.flows import FlowBatch
    from apptell.models import Model


def apps_of(flows: "FlowBatch") -> list[str]:
    """The app of each flow: an activity belongs to its app, the phone's system to the background."""
    apps = [label.split("/", 1)[0] for label in flows.column("label").to_pylist()]
    return ["other" if app == "system" else app for app in apps]


def split_of(flows: "FlowBatch", wished: str, seed: int) -> "Split":
    """The split of a ``--split`` option: the file of that name if there is one, else a protocol."""
    from apptell.dataset import split

    return split(flows, Path(wished) if Path(wished).is_file() else wished, seed=seed)


def measure(
    model: "Model", flows: "FlowBatch", threshold: float | None, seed: int
) -> "tuple[Evaluation, NDArray[np.float32]]":
    """Every figure of a model on labelled flows, and its probabilities, shape (n, k)."""
    from apptell.evaluation import evaluate, slices_of
    from apptell.verdicts import choose_threshold

    probabilities = model.predict_proba(flows)
    result = evaluate(
        apps_of(flows),
        probabilities,
        model.apps,
        choose_threshold(threshold, model),
        groups_of(flows),
        captures=flows.column("capture").to_pylist(),
        slices=slices_of(flows),
        seed=seed,
    )
    return result, probabilities


def groups_of(flows: "FlowBatch") -> "Sequence[str]":
    """The unit of each flow for intervals: its source, else its session, else its capture."""
    rows = flows.column("groups").to_pylist(maps_as_pydicts="strict")
    captures = flows.column("capture").to_pylist()
    return [
        (groups or {}).get("source") or (groups or {}).get("session") or capture or ""
        for groups, capture in zip(rows, captures, strict=True)
    ]


def long_enough(flows: "FlowBatch") -> "FlowBatch":
    """The flows that a verdict is given on: those with two payload packets."""
    from apptell.verdicts.pipeline import MIN_PAYLOAD_PACKETS

    return flows.filter(flows.payload_packets >= MIN_PAYLOAD_PACKETS)
