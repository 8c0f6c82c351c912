"""Computes an ``Evaluation``: every figure of a report.

Paper, Section 4. Precision and recall at a threshold are over the accepted flows (only so can the
paper's 99.11 % recall stand beside 93.67 % coverage).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.dataset.selection import Selection
from apptell.errors import DatasetError
from apptell.evaluation.curves import (
    coverage_precision,
    expected_calibration_error,
    histogram,
    reliability,
)
from apptell.evaluation.scores import Scores, confusion_matrix, score
from apptell.evaluation.shown import evaluation_html, evaluation_text
from apptell.evaluation.uncertainty import bootstrap_intervals
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.verdicts.pipeline import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from apptell.flows.schema import FlowBatch


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation:
    """The accuracy of a model on n labelled flows, with all other figures of a report.

    Example:
        >>> found = apptell.evaluate("model/", "dataset/").evaluation
        >>> found.threshold, found.scores.n_flows, sorted(found.intervals)[0]
        (0.85, 40, 'accuracy')
    """

    scores: Scores
    """Over all flows, whatever the confidence (Tables 4 to 6)."""
    threshold: float
    """Smallest accepted confidence."""
    at_threshold: Scores
    """Over the accepted flows only (Section 4.2)."""
    app_coverage: float
    """Share of apps in a capture that have an accepted, right flow; mean over captures."""
    histogram: dict[str, Any]
    """Right and wrong verdicts by confidence (Fig. 3)."""
    coverage_precision: list[dict[str, float]]
    """Coverage and precision at each threshold."""
    reliability: list[dict[str, float]]
    """Mean confidence and accuracy in bins of confidence."""
    calibration_error: float
    """Expected calibration error over 15 bins."""
    intervals: dict[str, tuple[float, float]]
    """95 % bootstrap intervals of the means, drawn by group where groups are known."""
    slices: dict[str, dict[str, dict[str, float]]]
    """Accuracy and flows by payload packets seen, client rule and hello."""
    n_groups: int
    """Groups the intervals were drawn by; 0 when flows were drawn one by one."""
    unknown_apps: tuple[str, ...]
    """Apps of the truth that the model does not know; their flows are wrong in every figure."""

    @property
    def coverage(self) -> float:
        """Share of flows that were accepted."""
        return self.at_threshold.n_flows / self.scores.n_flows

    def __repr__(self) -> str:
        return evaluation_text(self)

    def _repr_html_(self) -> str:
        return evaluation_html(self)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, as ``metrics.json`` holds them (docs/reference/cli.md describes each)."""
        return {
            "apps": list(self.scores.apps),
            "unknown_apps": list(self.unknown_apps),
            **self.scores.to_json(),
            "threshold": self.threshold,
            "coverage": self.coverage,
            "app_coverage": self.app_coverage,
            "at_threshold": {"coverage": self.coverage, **self.at_threshold.to_json()},
            "intervals_95": {name: list(ends) for name, ends in self.intervals.items()},
            "groups": self.n_groups,
            "histogram": self.histogram,
            "coverage_precision": self.coverage_precision,
            "calibration": {
                "expected_calibration_error": self.calibration_error,
                "reliability": self.reliability,
            },
            "slices": self.slices,
        }


def evaluate_predictions(
    labels: Sequence[str],
    probabilities: NDArray[np.float32],
    apps: Sequence[str],
    threshold: float | None = None,
    groups: ArrayLike | None = None,
    *,
    captures: ArrayLike | None = None,
    slices: Mapping[str, ArrayLike] | None = None,
    seed: int | None = 0,
) -> Evaluation:
    """Every figure of one model on n flows.

    Args:
        labels: the true app of each flow, n of them. An app that the model does not know is never named, so
            that its flows count as wrong.
        probabilities: shape (n, k).
        apps: the model's k apps, in the order of the columns.
        threshold: smallest accepted confidence; default: the paper's 0.85.
        groups: the unit of each flow for the intervals, shape (n,); None draws flows one by one.
        captures: the capture of each flow for app coverage, shape (n,); None takes all as one.
        slices: name to a value for each flow, shape (n,): accuracy is given for each value.
        seed: seed of the bootstrap; None gives no intervals.

    Raises:
        DatasetError: there are no flows, or the inputs are not of one length.
    """
    n = len(labels)
    if n == 0:
        raise DatasetError("there are no flows with a label")
    if probabilities.shape != (n, len(apps)):
        raise DatasetError(
            f"probabilities of shape {probabilities.shape} for {n} labels and {len(apps)} apps"
        )
    threshold = DEFAULT_THRESHOLD if threshold is None else threshold
    classes = [*apps, *sorted(set(labels) - set(apps))]
    number = {app: i for i, app in enumerate(classes)}
    truth = np.array([number[label] for label in labels], dtype=np.int64)
    guess = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(n), guess]
    right = truth == guess
    accepted = confidence >= np.float32(threshold)
    scores = score(confusion_matrix(truth, guess, len(classes)), classes)
    bins = reliability(confidence, right)
    return Evaluation(
        scores=scores,
        threshold=threshold,
        at_threshold=score(
            confusion_matrix(truth[accepted], guess[accepted], len(classes)),
            classes,
            counted=scores.counted,
        ),
        app_coverage=_app_coverage(truth, right & accepted, captures),
        histogram=histogram(confidence, right),
        coverage_precision=coverage_precision(confidence, right),
        reliability=bins,
        calibration_error=expected_calibration_error(bins),
        intervals={}
        if seed is None
        else bootstrap_intervals(truth, guess, len(classes), groups, seed=seed),
        slices={
            name: _accuracy_by(np.asarray(values), right) for name, values in (slices or {}).items()
        },
        n_groups=0 if groups is None else len(np.unique(np.asarray(groups))),
        unknown_apps=tuple(classes[len(apps) :]),
    )


def slices_of(flows: FlowBatch | Selection) -> dict[str, NDArray[Any]]:
    """The values by which accuracy is reported: payload packets seen, client rule, hello, shape (n,) each.

    The flows need the groups *core* and *segments*. ``hello`` is ``hello`` for a flow whose first
    segment from the client begins with a TLS client hello, ``mid-session`` for one that begins with
    another TLS record, ``none`` otherwise; it is left out where no flow has kept bytes.
    """
    chosen = Selection.of(flows)
    whole = chosen.flows
    found = {
        "payload_packets": np.minimum(whole.payload_packets, DECISION_SEGMENTS),
        "client_by": np.array([rule or "unknown" for rule in whole.numpy("client_by")]),
    }
    hello = chosen.gather(_hello, ("segments",))
    return (
        found if (hello == "").all() else {**found, "hello": np.where(hello == "", "none", hello)}
    )


def _hello(flows: FlowBatch) -> NDArray[Any]:
    """What each flow's client begins with; an empty text where no byte was kept."""
    segments = flows.segments()
    kinds = np.full(len(flows), "", dtype="<U11")
    for flow in np.flatnonzero(np.diff(segments.first)):
        first, end = int(segments.first[flow]), int(segments.first[flow + 1])
        client = next((row for row in range(first, end) if segments.to_server[row]), first)
        head = segments.data[segments.start[client] : segments.start[client + 1]][:6].tobytes()
        kinds[flow] = "none"
        if len(head) == 6 and head[0] == 0x16 and head[1] == 0x03 and head[5] == 0x01:
            kinds[flow] = "hello"
        elif len(head) >= 3 and 0x14 <= head[0] <= 0x17 and head[1] == 0x03:
            kinds[flow] = "mid-session"
    return kinds


def _app_coverage(
    truth: NDArray[np.int64], found: NDArray[np.bool_], captures: ArrayLike | None
) -> float:
    """The mean over captures of the share of present apps with a flow that was found."""
    capture = np.zeros(len(truth), np.int64)
    if captures is not None:
        _, capture = np.unique(np.asarray(captures), return_inverse=True)
    width = int(truth.max()) + 1
    size = (int(capture.max()) + 1) * width
    cell = capture * width + truth
    present = (np.bincount(cell, minlength=size) > 0).reshape(-1, width)
    hit = (np.bincount(cell[found], minlength=size) > 0).reshape(-1, width)
    return float((hit.sum(axis=1) / present.sum(axis=1)).mean())


def _accuracy_by(values: NDArray[Any], right: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Accuracy and number of flows for each value, values as text in their own order."""
    present, at = np.unique(values, return_inverse=True)
    flows = np.bincount(at)
    good = np.bincount(at, right)
    return {
        str(value): {"accuracy": float(good[i] / flows[i]), "flows": int(flows[i])}
        for i, value in enumerate(present)
    }
