"""Updates a model: trains it again, in full, from the rows that its folder keeps and from new ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset.classes import Classes
from apptell.errors import DatasetError, UsageError
from apptell.experiments.circularity import name_labels_share
from apptell.experiments.evaluate import name_of
from apptell.experiments.held_out_change import AppChange, compare_held_out
from apptell.experiments.labelled import labelled_flows, open_flows
from apptell.experiments.left_out_apps import task_of
from apptell.experiments.pseudo_labels import confident_flows
from apptell.learning.model_fitting import fit_and_write, from_rows, labelled_inputs, now, to_rows
from apptell.learning.model_training import MIN_FLOWS, facts_of
from apptell.models import Model, check_target, load_model
from apptell.models.model_folder import MOST_JA4
from apptell.models.training_rows import TrainingRows
from apptell.watch.found_folder import read_candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from apptell.dataset.selection import Selection
    from apptell.experiments.labelled import Flows
    from apptell.learning.task import Task

MANY_GROUPS: Final = 5
"""Labelled sessions or networks of an app from which on its pseudo-labels are left out: they would hurt."""


@dataclass(frozen=True, slots=True)
class UpdatedModel:
    """An updated model, or one that was refused."""

    model: Model | None
    """None where it was refused."""
    parent: str
    changes: tuple[AppChange, ...]
    """Every app before and after, on held-out groups."""
    added: Mapping[str, int]
    """New rows by app."""

    @property
    def lost(self) -> tuple[AppChange, ...]:
        """Apps that lose more than they may."""
        return tuple(each for each in self.changes if each.is_lost)

    @property
    def refusal(self) -> str:
        """Why it was refused, or would be without force; empty for no reason."""
        if not self.lost:
            return ""
        worst = max(self.lost, key=lambda each: (each.before or 0) - each.after)
        more = f" and {len(self.lost) - 1} more" if len(self.lost) > 1 else ""
        return (
            f"{worst.app}{more} would lose: {worst.before:.1%} of {worst.flows:,} held-out flows were right, "
            f"{worst.after:.1%} would be"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": None if self.model is None else f"{self.model.name}@{self.model.hash}",
            "parent": self.parent,
            "added": dict(self.added),
            "refused": self.refusal if self.model is None else "",
            "apps": [each.to_json() for each in self.changes],
        }


def update(
    model: str | Path,
    *,
    out: str | Path,
    add: Sequence[tuple[str | Path, str]] = (),
    labels: Sequence[Flows] = (),
    pseudo: Sequence[tuple[float, str | Path]] = (),
    force: bool = False,
    replace: bool = False,
    progress: Callable[[float, str], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> UpdatedModel:
    """Trains a model again from its kept rows and new ones, unless an app would lose.

    Args:
        model: the folder of a model that was trained with its rows kept; it is not changed.
        out: the folder of the updated model.
        add: folders of candidates that ``discover`` found, each with the app that it is.
        labels: datasets with labelled flows.
        pseudo: datasets or captures whose flows are labelled by the model itself where its verdict, by the
            client's other flows too, has at least this probability.
        force: write the model even if an app loses.
        replace: whether an existing model may be replaced.
        progress: called with the share done, 0 to 1, and words.
        notify: called with notices, one sentence each.

    Returns:
        The updated model, or what it would lose: then nothing was written.

    Raises:
        UsageError: nothing is new, or the model kept no rows.
        ModelError: the model or its rows are damaged.
        DatasetError: a candidate or dataset is damaged, or has rows of another kind of input.
        MissingError: the training libraries are not installed.
        OutputError: the folder cannot be written, or holds something that must not be replaced.
    """
    folder, notify = Path(model), notify or (lambda _sentence: None)
    check_target(out, replace=replace)
    used = load_model(folder)
    old = used.kept_rows()
    if old is None:
        raise UsageError(
            f"{folder}: was trained without keeping its rows, so it cannot be updated",
            argument="keeps_rows",
        )
    task = task_of(used, used.info["seed"])
    new = _New(task, used, notify)
    for path, app in add:
        new.add_candidate(Path(path), app)
    for dataset in labels:
        new.add_labelled(dataset)
    for least, source in pseudo:
        new.add_confident(least, source)
    rows = new.rows(old)
    notify(f"{used.name}: {len(old):,} kept flows and {len(rows):,} new ones.")
    changes = tuple(compare_held_out(task, old, rows, show=progress))
    parent = f"{used.name}@{used.hash}"
    done = UpdatedModel(None, parent, changes, Counter(rows.apps.tolist()))
    if done.lost and not force:
        return done
    return _written(done, used, task, TrainingRows.concat([old, rows]), new, out, replace, progress)


class _New:
    """New rows, and what is said of their origin."""

    def __init__(self, task: Task, model: Model, notify: Callable[[str], None]) -> None:
        self.said: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = dict(model.info.get("learned", {}))
        self._task, self._model, self._notify = task, model, notify
        data = model.info["data"]
        self._classes = Classes(data.get("level", "app"), data.get("system", "other"))
        self._parts: list[TrainingRows] = []
        self._pseudo: list[TrainingRows] = []
        self._labelled: Counter[str] = Counter()

    def add_candidate(self, folder: Path, app: str) -> None:
        """A candidate as an app."""
        name = app.strip().lower()
        if not name or not name.isprintable() or len(name) > 256:
            raise UsageError(f"{app!r} cannot be the name of an app")
        _, rows = read_candidate(folder)
        views = 1 + len(self._task.views) if self._task.views else 0
        if views and not rows.encoded.views:  # it was only seen as it was met
            rows = replace(
                rows,
                encoded=rows.encoded._replace(views=views),
                inputs=np.repeat(rows.inputs[:, None], views, axis=1),
            )
        self._add_ja4(rows.ja4[rows.ja4 != ""].tolist())
        self._keep(self._parts, replace(rows, apps=np.full(len(rows), name)), "candidate", name)

    def add_labelled(self, dataset: Flows) -> None:
        """The labelled flows of a dataset."""
        opened = open_flows(dataset)
        chosen = labelled_flows(opened, self._classes)
        if name_labels_share(chosen.flows) and self._task.names not in ("masked", None):
            self._notify(
                "Labels come from server names, which this model reads: it learns to repeat them."
            )
        rows = self._encoded(chosen, self._classes.of(chosen.flows))
        for app in set(rows.apps.tolist()):
            self._labelled[app] += len(np.unique(rows.groups[rows.apps == app]))
        self._keep(self._parts, rows, "labels", name_of(opened))

    def add_confident(self, least: float, source: str | Path) -> None:
        """Flows that the model is sure of."""
        chosen, apps = confident_flows(self._model, source, least)
        self._keep(
            self._pseudo, self._encoded(chosen, apps), f"pseudo {least:g}", Path(source).name
        )

    def rows(self, old: TrainingRows) -> TrainingRows:
        """All of them, apps with too few flows left out.

        Raises:
            UsageError: there are none.
            DatasetError: their inputs are not those of the model.
        """
        many = [app for app, n in self._labelled.items() if n >= MANY_GROUPS]
        if many and self._pseudo:
            self._notify(
                f"Pseudo-labels of {len(many):,} apps are left out: these have many labelled sessions."
            )
        kept = [rows.take(np.flatnonzero(~np.isin(rows.apps, many))) for rows in self._pseudo]
        parts = [rows for rows in (*self._parts, *kept) if len(rows)]
        if not parts:
            raise UsageError("there is no new flow to learn from")
        try:
            TrainingRows.concat([old.take(np.zeros(0, dtype=np.int64)), *parts])
        except UsageError as error:
            raise DatasetError(f"made for another model: {error}") from error
        found = TrainingRows.concat(parts)
        count = Counter(found.apps.tolist())
        few = [n for n in count if count[n] < MIN_FLOWS and n not in self._model.apps]
        if few:
            self._notify(
                f"{len(few):,} new apps have fewer than {MIN_FLOWS} flows and are left out."
            )
            found = found.take(np.flatnonzero(~np.isin(found.apps, few)))
        if not len(found):
            raise UsageError("no new app has enough flows to learn from")
        return found

    def _encoded(self, chosen: Selection, apps: Sequence[str]) -> TrainingRows:
        labels = np.array([app.lower() for app in apps], dtype=np.str_)
        enough = chosen.flows.payload_packets >= 2
        chosen, labels = chosen.filter(enough), labels[enough]
        self._learn_of(chosen)
        return to_rows(self._task, labelled_inputs(self._task, chosen, labels, describes=True))

    def _learn_of(self, chosen: Selection) -> None:
        """Adds transports and JA4s to what the model knows."""
        more = facts_of(self._task, chosen)
        mine = self.facts.get("transports", ["tcp"])
        self.facts["transports"] = [n for n in ("tcp", "udp") if n in {*mine, *more["transports"]}]
        self._add_ja4(more["ja4"])

    def _add_ja4(self, more: Sequence[str]) -> None:
        """Adds JA4s to those that the model knows."""
        self.facts["ja4"] = sorted({*self.facts.get("ja4", []), *more})[:MOST_JA4]

    def _keep(self, parts: list[TrainingRows], rows: TrainingRows, how: str, what: str) -> None:
        parts.append(rows)
        self.said.append({"by": how, "from": what, "flows": dict(Counter(rows.apps.tolist()))})


def _written(
    done: UpdatedModel,
    used: Model,
    task: Task,
    rows: TrainingRows,
    new: _New,
    out: str | Path,
    replaces: bool,
    progress: Callable[[float, str], None] | None,
) -> UpdatedModel:
    """The updated model in its folder, with its lineage."""
    info = used.info
    entry = {
        "parent": used.hash,
        "parent_onnx_sha256": info["onnx_sha256"],
        "added": new.said,
        "when": now(),
        "forced": bool(done.lost),
        "held_out": [each.to_json() for each in done.changes],
    }
    old_data = {
        key: value for key, value in info["data"].items() if key not in ("hash", "flows", "per_app")
    }
    model = fit_and_write(
        task.learner(),
        task,
        from_rows(rows),
        new.facts,
        out=out,
        threshold=info["threshold"],
        unknown=used.unknown is not None,
        keep_rows=True,
        new_stacks="new_stacks" in info,
        replace=replaces,
        show=progress,
        extra={
            "calibration": info["calibration"],
            "data": old_data,
            "lineage": [*info.get("lineage", []), entry],
        },
    )
    return replace(done, model=model)
