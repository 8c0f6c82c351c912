"""Opens datasets, and selects the labelled flows and the split that are requested."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow.compute as pc

from apptell.dataset.classes import Classes
from apptell.dataset.groups import is_late_view
from apptell.dataset.selection import Selection
from apptell.dataset.splits import Split, split
from apptell.dataset.store import Dataset
from apptell.encoding import encoding_of
from apptell.errors import DatasetError, UsageError
from apptell.flows.schema import FlowBatch
from apptell.verdicts.pipeline import MIN_PAYLOAD_PACKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.models import Model

Flows = str | Path | Dataset | Selection | FlowBatch
"""A dataset or its folder, some flows of it, or flows in memory."""
NO_SPLIT: Final = "none"
"""The split without a test side: every flow is used for training."""


def open_flows(source: Flows) -> Dataset | Selection | FlowBatch:
    """The dataset of a folder; anything else as it is.

    Raises:
        DatasetError: there is no dataset in the folder, or it is damaged.
    """
    return Dataset.open(source) if isinstance(source, str | Path) else source


def labelled_flows(
    source: Dataset | Selection | FlowBatch,
    classes: Classes | None = None,
    apps: Sequence[str] | None = None,
) -> Selection:
    """Selects the flows that have a class and at least two payload packets.

    Late views are no flows, and are left out (``late_views_of``).

    Args:
        source: where the flows are.
        classes: how labels become classes (default: apps).
        apps: only flows of these classes (default: all).

    Raises:
        UsageError: a class has no flow.
    """
    classes = classes or Classes()
    chosen = Selection.of(source)
    chosen = chosen.filter(~is_late_view(chosen.flows))
    chosen = chosen.filter(chosen.flows.payload_packets >= MIN_PAYLOAD_PACKETS)
    chosen = chosen.filter(classes.kept(chosen.flows))
    if apps is None:
        return chosen
    wanted = [name.strip().lower() for name in apps]
    truth = classes.of(chosen.flows)
    if missing := sorted(set(wanted) - set(truth)):
        raise UsageError(f"the dataset has no flows of {missing[0]!r}")
    return chosen.filter(np.isin(np.array(truth, dtype=np.str_), wanted))


@dataclass(frozen=True, slots=True)
class LateViews:
    """Late views of some flows: more to learn from, and nothing to measure on."""

    views: Selection
    """The n views."""
    apps: NDArray[np.str_]
    """The class of each, shape (n,)."""
    of_row: NDArray[np.int64]
    """The flow that each is a view of, as a row of these flows, shape (n,)."""

    def of(self, rows: NDArray[np.int64]) -> Selection:
        """The views of some rows alone: those of a training side, which has no connection of a test side."""
        return self.views.filter(np.isin(self.of_row, rows))

    def within(self, rows: NDArray[np.int64]) -> LateViews:
        """The views of some ascending rows, as views of the selection of these rows."""
        keep = np.isin(self.of_row, rows)
        return LateViews(
            self.views.filter(keep), self.apps[keep], np.searchsorted(rows, self.of_row[keep])
        )


def late_views_of(
    source: Dataset | Selection | FlowBatch, flows: Selection, classes: Classes
) -> LateViews:
    """The late views of flows that were chosen from a source; those of other flows are left out.

    Args:
        source: where the flows come from.
        flows: as ``labelled_flows`` chose them.
        classes: how labels become classes.

    Raises:
        DatasetError: the source has no late views.
    """
    views = Selection.of(source)
    views = views.filter(is_late_view(views.flows))
    views = views.filter(classes.kept(views.flows))
    if not len(views):
        raise DatasetError(
            "the flows have no late views: build the dataset again with late views, or learn without them"
        )
    known, first = np.unique(
        np.asarray(flows.flows.column("connection_id").fill_null(0)), return_index=True
    )
    wanted = np.asarray(views.flows.column("part_of"))
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    is_known = known[at] == wanted
    views = views.filter(is_known)
    apps = np.array(classes.of(views.flows), dtype=np.str_)
    return LateViews(views, apps, first[at[is_known]])


def apps_of(flows: FlowBatch) -> list[str]:
    """The app of each flow: an activity belongs to its app, the phone's system to the background."""
    return Classes().of(flows)


def split_of(flows: FlowBatch, name: str | Path, seed: int = 0, level: str = "app") -> Split:
    """The split of that name: one of ``split_names``, or the file that ``save_split`` wrote.

    Raises:
        DatasetError: the flows have no such group, or the file does not fit.
        UsageError: there is no such split.
    """
    place = Path(name) if Path(name).is_file() else name
    return split(flows, place, seed=seed, level=level)


def classes_of_model(model: Model, level: str | None = None, system: str | None = None) -> Classes:
    """The classes to measure a model by: the requested ones, else those of its training.

    Raises:
        UsageError: activities are requested, and the model was trained on apps.
    """
    learned = model.info["data"]
    own = str(learned.get("level", "app"))
    if level == "activity" and own == "app":
        raise UsageError(
            f"level 'activity': the model {model.name}@{model.hash} knows only apps; "
            "train one on activities"
        )
    return Classes(level or own, system or str(learned.get("system", "other")))


def has_payload(flows: Selection) -> bool:
    """Whether any payload byte of any of the flows was kept."""
    for batch in flows.batches(("segments",)):
        lengths = pc.binary_length(pc.list_flatten(batch.column("segment_bytes")))
        if pc.any(pc.greater(lengths, 0)).as_py():
            return True
    return False


def refuse_without_payload(flows: Selection, inputs: str, model: str) -> None:
    """Refuses a model that reads payload where no flow has any.

    Args:
        flows: the flows for training or measuring.
        inputs: the name of the model's encoding.
        model: its name, for the message.

    Raises:
        DatasetError: it reads payload bytes, and the flows have none.
    """
    if encoding_of(inputs).reads_payload and len(flows) and not has_payload(flows):
        raise DatasetError(
            f"model {model} reads payload bytes, and these flows have none: "
            "use a model on lengths, such as sequence or lengths-rf"
        )
