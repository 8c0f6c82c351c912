"""Measures a model on labelled flows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.dataset.classes import by_app
from apptell.dataset.groups import origins
from apptell.dataset.splits import training_rows
from apptell.dataset.store import Dataset
from apptell.encoding import images
from apptell.errors import UsageError
from apptell.evaluation import evaluate_predictions, slices_of
from apptell.evaluation.open_set import OpenSetFigures, measure_open_set
from apptell.experiments.by_evidence import EvidenceFigures, EvidenceOfFlows, check_asked
from apptell.experiments.circularity import WARNING, warning_facts
from apptell.experiments.labelled import (
    classes_of_model,
    labelled_flows,
    open_flows,
    refuse_without_payload,
    split_of,
)
from apptell.experiments.verdict_table import VerdictTable
from apptell.files import readable
from apptell.models import Model, load_model
from apptell.reports.evaluation import write_report
from apptell.reports.html import ReportText
from apptell.verdicts import choose_threshold
from apptell.verdicts.novelty import check_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from apptell.dataset.classes import Classes
    from apptell.dataset.selection import Selection
    from apptell.evaluation import Evaluation
    from apptell.experiments.labelled import Flows
    from apptell.flows.schema import FlowBatch

SPLIT_FILE = "split.jsonl"
"""The file in a model's folder with the flows that it was trained and measured on."""


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """One model, measured on n labelled flows.

    Example:
        >>> result = apptell.evaluate("model/", "dataset/", split="model/split.jsonl")
        >>> table = result.verdicts().to_arrow()
        >>> table.column("true_class")[0].as_py(), table.num_rows
        ('signal', 8)
    """

    model: str
    """Name and hash, ``fusion@1a2b3c4d``."""
    evaluation: Evaluation
    """Every figure."""
    flows: Selection
    """The flows that it was measured on."""
    truth: tuple[str, ...]
    """The class of each flow."""
    apps: tuple[str, ...]
    """The k classes that it knows: columns of the probabilities."""
    probabilities: NDArray[np.float32]
    """Shape (n, k)."""
    facts: dict[str, Any]
    """The parameters of the measurement: dataset, split, seed, share of the flows that the model was trained
    on.
    """
    open_set: OpenSetFigures | None = None
    """How well flows of unlearned apps are recognised; None where it was not asked."""
    by_evidence: EvidenceFigures | None = None
    """What each kind of evidence, and the model behind them, is worth; None where it was not asked."""

    def __repr__(self) -> str:
        return f"<EvaluatedModel {self.model}: accuracy {self.accuracy:.1%} on {len(self.flows):,} flows>"

    @property
    def accuracy(self) -> float:
        """Share of the flows whose most probable class is right, whatever the confidence."""
        return self.evaluation.scores.accuracy

    @property
    def macro_f1(self) -> float:
        """Mean of the classes' F1."""
        return self.evaluation.scores.macro_f1

    @property
    def coverage(self) -> float:
        """Share of the flows that are accepted at the threshold."""
        return self.evaluation.coverage

    @property
    def seen_share(self) -> float:
        """Share of the flows that the model was trained on, as far as its folder records them."""
        return float(self.facts.get("seen_share", 0.0))

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, as ``metrics.json`` holds them."""
        found = {**self.facts, **self.evaluation.to_json()}
        if self.open_set is not None:
            found["unknown"] = self.open_set.to_json()
        if self.by_evidence is not None:
            found["evidence"] = self.by_evidence.to_json()
        return found

    def verdicts(self) -> VerdictTable:
        """The verdict on each flow, with its truth and the probability of every class."""
        return VerdictTable(
            self.flows.flows,
            self.truth,
            self.apps,
            self.evaluation.threshold,
            self.model,
            self.probabilities,
        )

    def write_report(
        self, folder: str | Path, *, text: ReportText | None = None, command: str = ""
    ) -> dict[str, Any]:
        """Writes a report's folder: report.html, metrics.json, per_app.csv, confusion.csv, verdicts.parquet.

        Args:
            folder: created if it is missing; files of an earlier report are replaced.
            text: the text of the page (default: the parameters of the measurement).
            command: the command that creates the report again.

        Returns:
            The content of ``metrics.json``.

        Raises:
            OutputError: the folder cannot be written.
        """
        facts = dict(self.facts)
        if self.by_evidence is not None:
            facts["evidence"] = self.by_evidence.to_json()
        found = write_report(Path(folder), self.evaluation, text or self._text(command), facts)
        self.verdicts().write(Path(folder) / "verdicts.parquet")
        return found

    def example_images(self) -> list[tuple[str, NDArray[Any]]]:
        """The image of one flow of each class that was named rightly, with its class."""
        return example_images(self.flows, self.truth, self.probabilities.argmax(axis=1), self.apps)

    def _text(self, command: str) -> ReportText:
        data, split = self.facts["dataset"], self.facts["split"]
        which = "all flows" if split in (None, "none") else f"the test side of the split {split}"
        return ReportText(
            title=f"{self.model.partition('@')[0]} on {data}",
            paragraphs=[
                *([self.facts[WARNING]] if WARNING in self.facts else []),
                (
                    f"The model {self.model} was measured on {which} of {data}: {len(self.flows):,} flows "
                    "with at least two payload packets."
                ),
                *(
                    [f"The model was trained on {self.seen_share:.1%} of these flows."]
                    if self.seen_share
                    else []
                ),
            ],
            command=command,
            examples=self.example_images(),
        )


def evaluate(
    model: Model | str | Path,
    dataset: Flows,
    *,
    threshold: float | None = None,
    unknown: float | None = None,
    split: str | Path | None = None,
    seed: int = 0,
    level: str | None = None,
    system: str | None = None,
    unlearned: Sequence[str] = (),
    evidence: str | None = None,
    catalogue: Sequence[str | Path] = (),
    progress: Callable[[float, str], None] | None = None,
) -> EvaluatedModel:
    """Measures a model on labelled flows.

    Args:
        model: the model or its folder.
        dataset: a dataset or its folder, or some flows of one.
        threshold: smallest accepted confidence (default: the model's own, else 0.85).
        unknown: also measure how well flows of unlearned apps are recognised when this share of flows of known
            apps may be called unknown, as in 0.05.
        split: measure only the test side of this split (default: all flows): a split by name, or a file that
            holds a split.
        seed: seed of a split by name, and of the intervals.
        level: ``app`` or ``activity`` (default: as the model was trained).
        system: the class of the phone's own traffic: ``other``, ``system``, or ``drop`` to leave it out
            (default: as the model was trained).
        unlearned: measure how well flows of these apps are recognised by a model that did not learn them: the
            model is trained again without them on the training side of the split (default: ``source``) of this
            dataset, and ``unknown`` is 0.05 unless it is given.
        evidence: also measure these kinds of evidence, of ``name``, ``dns``, ``range`` and ``model``, separated
            by commas and asked in this order (default: the model alone; the catalogue is not read).
        catalogue: files with rows that are added to the catalogue, for evidence.
        progress: called with the share done, 0 to 1, and words, while it is trained again.

    Raises:
        DatasetError: there are no flows to measure on, or the model reads payload and the flows have none.
        ModelError: the model's folder is damaged.
        UsageError: there is no such split, level or kind, or the threshold is not between 0 and 1.

    Example:
        >>> result = apptell.evaluate("model/", "dataset/", split="model/split.jsonl")
        >>> round(result.accuracy, 1)
        1.0
    """
    used = model if isinstance(model, Model) else load_model(model)
    folder = None if isinstance(model, Model) else Path(model)
    limit = choose_threshold(threshold, used)
    if not unlearned:
        check_rate(unknown, used)
    check_asked(evidence, catalogue)
    if evidence is not None and unlearned:
        raise UsageError("evidence is measured of a model as it is, not of one without apps")
    classes = classes_of_model(used, level, system)
    opened = open_flows(dataset)
    chosen = labelled_flows(opened, classes)
    if unlearned:
        from apptell.experiments.left_out_apps import RATE, evaluate_without, task_of

        return evaluate_without(
            task_of(used, seed), chosen, classes, unlearned,
            split=split or "source", rate=unknown or RATE, threshold=threshold,
            facts={"dataset": name_of(opened), "dataset_hash": hash_of(opened)}, show=progress,
        )  # fmt: skip
    if split is not None:
        chosen = chosen.take(split_of(chosen.flows, split, seed, classes.level).test)
    facts = warning_facts(chosen.flows)
    facts |= {"dataset": name_of(opened), "dataset_hash": hash_of(opened)}
    known = facts["dataset_hash"] is not None and facts["dataset_hash"] == used.info["data"].get(
        "dataset_hash"
    )
    seen = _seen_share(folder, chosen.flows, whole=split is None) if known else 0.0
    facts |= {"split": None if split is None else str(split), "level": classes.level, "seed": seed}
    facts |= {"seen_in_training": seen > 0, "seen_share": seen}
    measured = measure(used, chosen, limit, seed, classes, facts, unknown)
    if evidence is None:
        return measured
    guess, best = measured.probabilities.argmax(axis=1), measured.probabilities.max(axis=1)
    figures = EvidenceOfFlows(evidence, catalogue, chosen.flows, measured.truth).measure(
        [measured.apps[place] for place in guess], best >= np.float32(limit)
    )
    return replace(measured, by_evidence=figures)


def measure(
    model: Model,
    flows: Selection,
    threshold: float,
    seed: int,
    classes: Classes,
    facts: dict[str, Any],
    unknown: float | None = None,
) -> EvaluatedModel:
    """Every figure of a model on labelled flows.

    Args:
        model: the model.
        flows: n flows that have a class.
        threshold: smallest accepted confidence.
        seed: seed of the intervals.
        classes: how labels become classes; the activities of a finer model are added up by app.
        facts: the parameters of the measurement.
        unknown: share of flows of known apps that may be called unknown; None measures nothing of it.

    Raises:
        DatasetError: there are no flows, or the model reads payload and the flows have none.
    """
    refuse_without_payload(flows, model.info["inputs"], model.name)
    apps, p_unknown = model.apps, None
    if unknown is None:
        probabilities = flows.gather(model.predict_proba)
    else:
        both = flows.gather(lambda batch: np.column_stack(model.predict_with_unknown(batch)))
        probabilities, p_unknown = np.ascontiguousarray(both[:, :-2]), both[:, -2]
    if classes.level == "app":
        probabilities, apps = by_app(probabilities, apps)
    truth = classes.of(flows.flows)
    result = evaluate_predictions(
        truth,
        probabilities,
        apps,
        threshold,
        origins(flows.flows),
        captures=flows.flows.column("capture").to_pylist(),
        slices=slices_of(flows),
        seed=seed,
    )
    name = f"{model.name}@{model.hash}"
    open_set = None
    if unknown is not None and p_unknown is not None:
        known = np.array(apps)
        open_set = measure_open_set(
            p_unknown,
            np.array(truth),
            known[probabilities.argmax(axis=1)],
            known,
            origins(flows.flows),
            rate=unknown,
            cutoff=model.require_unknown().cutoff(unknown),
            seed=seed,
        )
    facts = {"model": name, **facts}
    return EvaluatedModel(
        name, result, flows, tuple(truth), tuple(apps), probabilities, facts, open_set
    )


def name_of(source: Any) -> str:
    """The name of a dataset: its folder's name; ``flows`` for flows in memory."""
    return readable(source.path.resolve().name) if isinstance(source, Dataset) else "flows"


def hash_of(source: Any) -> str | None:
    """A dataset's hash; None for flows that are in memory."""
    return source.hash if isinstance(source, Dataset) else None


def _seen_share(folder: Path | None, flows: FlowBatch, *, whole: bool) -> float:
    """The share of some flows of its own dataset that a model was trained on.

    Args:
        folder: the model's, which holds the split.
        flows: those that it is measured on.
        whole: whether these are the whole dataset, in case that file is missing.
    """
    if folder is None or not (folder / SPLIT_FILE).is_file():
        return float(whole)
    return float(training_rows(flows, folder / SPLIT_FILE).mean()) if len(flows) else 0.0


def example_images(
    flows: Selection, truth: Sequence[str], guess: NDArray[np.int64], apps: Sequence[str]
) -> list[tuple[str, NDArray[Any]]]:
    """The image of one flow of each class that was named rightly, with as many payload packets as there are.

    Args:
        flows: n flows.
        truth: the class of each.
        guess: the column that each was given, shape (n,).
        apps: the classes of the columns.

    Returns:
        The class and the image, shape (87, 87), of each example; none where no flow has bytes.
    """
    true = np.array(truth)
    packets = flows.flows.payload_packets
    shown: dict[str, int] = {}
    for number, app in enumerate(apps):
        rows = np.flatnonzero((true == app) & (guess == number))
        if len(rows):
            shown[app] = int(rows[packets[rows].argmax()])
    found = flows.read(list(shown.values()))
    if not len(found) or not found.column("segment_bytes").is_valid().to_numpy(False).any():
        return []
    return list(zip(shown, images(found), strict=True))
