"""Computes the figures of a comparison from one model's out-of-fold probabilities of several seeds.

The verdicts of all seeds are pooled, so that each flow counts once a seed; an interval draws whole
groups with all their verdicts. The figures of each single seed are also given: they show how much the choice
of folds and of initial weights changes a figure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.evaluation.figures import Evaluation, evaluate_predictions
from apptell.evaluation.promises import Judged, Promise, promise
from apptell.evaluation.providers import by_provider, provider_of, shares_a_provider
from apptell.verdicts.schema import OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

_CONFUSIONS: Final = 8
_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class PooledFolds:
    """One model with one seed, its folds pooled."""

    seed: int
    rows: NDArray[np.int64]
    """The tested flows, ascending, shape (n,)."""
    fold: NDArray[np.int64]
    """The fold in which each was tested, from 0, shape (n,)."""
    probabilities: NDArray[np.float32]
    """Shape (n, k)."""
    held: tuple[tuple[NDArray[np.int64], NDArray[np.float32]], ...] = ()
    """Of each fold, flows of its training side and the probabilities of models that learned from the
    rest of that side; empty when none were held out."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two apps of which one is often taken for the other."""

    true: str
    given: str
    flows: int
    """Verdicts, of all seeds."""
    examples: tuple[str, ...]
    """Community IDs of a few such flows, the most confident first, with the server's name if known."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One model under one split, its folds and seeds pooled."""

    result: Evaluation
    by_provider: Evaluation | None
    """Apps of one provider as one; None when no two apps share one."""
    without_other: Evaluation | None
    """Only the flows of apps, without background; None if there is no background."""
    by_seed: tuple[dict[str, float], ...]
    """``seed`` and its own figures."""
    promise: Promise | None
    """Of the first seed; None when no groups were held out."""
    hardest: tuple[Confusion, ...]
    """Most frequent confusions first."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; the figures of ``metrics.json`` of an evaluation and those beside them."""
        return {
            "by_provider": None if self.by_provider is None else _means(self.by_provider),
            "without_other": None if self.without_other is None else _means(self.without_other),
            "by_seed": [dict(each) for each in self.by_seed],
            "promise": None if self.promise is None else self.promise.to_json(),
            "hardest": [
                {"true": c.true, "given": c.given, "flows": c.flows, "examples": list(c.examples)}
                for c in self.hardest
            ],
        }


def measure_pooled(
    flows: FlowBatch,
    labels: Sequence[str],
    apps: Sequence[str],
    seeds: Sequence[PooledFolds],
    *,
    groups: NDArray[Any],
    slices: Mapping[str, NDArray[Any]] | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> Measured:
    """Every figure of one model.

    Args:
        flows: n flows, with the groups core, names and labels.
        labels: the true app of each.
        apps: the k apps of the probabilities.
        seeds: one for each seed, at least one.
        groups: the unit of each flow for the intervals, shape (n,).
        slices: name to a value for each flow, shape (n,): accuracy is given for each value.
        threshold: smallest accepted confidence; default: the paper's 0.85.
        seed: of the bootstrap.
    """
    truth = np.asarray(labels, dtype=np.str_)
    captures = flows.numpy("capture").astype(str)
    rows = np.concatenate([folds.rows for folds in seeds])
    turn = np.repeat([folds.seed for folds in seeds], [len(folds.rows) for folds in seeds])
    probabilities = np.concatenate([folds.probabilities for folds in seeds])
    whole = _Views(truth[rows].tolist(), probabilities, apps, groups[rows], threshold, seed)
    return Measured(
        evaluate_predictions(
            whole.labels,
            probabilities,
            apps,
            threshold,
            whole.groups,
            # An app that one seed finds in a capture is not found by the others.
            captures=np.char.add(turn.astype(str), np.char.add("/", captures[rows])),
            slices={name: values[rows] for name, values in (slices or {}).items()},
            seed=seed,
        ),
        whole.provider(),
        whole.without_other(),
        tuple(_alone(folds, truth, apps, groups, threshold) for folds in seeds),
        _promise(seeds[0], truth, apps, groups),
        hardest(flows, truth, rows, probabilities, apps),
    )


@dataclass(frozen=True, slots=True)
class _Views:
    """The figures of the same verdicts in several views."""

    labels: list[str]
    probabilities: NDArray[np.float32]
    apps: Sequence[str]
    groups: NDArray[Any]
    threshold: float | None
    seed: int | None
    """Of the bootstrap; None for no intervals."""

    def all(self) -> Evaluation:
        return self._of(self.labels, self.probabilities, self.apps, self.groups)

    def provider(self) -> Evaluation | None:
        if not shares_a_provider(self.apps):
            return None
        summed, providers = by_provider(self.probabilities, self.apps)
        return self._of([provider_of(app) for app in self.labels], summed, providers, self.groups)

    def without_other(self) -> Evaluation | None:
        is_app = np.array([label != OTHER for label in self.labels])
        if is_app.all() or not is_app.any():
            return None
        left = [label for label in self.labels if label != OTHER]
        return self._of(left, self.probabilities[is_app], self.apps, self.groups[is_app])

    def _of(
        self,
        labels: Sequence[str],
        probabilities: NDArray[np.float32],
        apps: Sequence[str],
        groups: NDArray[Any],
    ) -> Evaluation:
        return evaluate_predictions(
            labels, probabilities, apps, self.threshold, groups, seed=self.seed
        )


def _alone(
    folds: PooledFolds,
    truth: NDArray[np.str_],
    apps: Sequence[str],
    groups: NDArray[Any],
    threshold: float | None,
) -> dict[str, float]:
    """The figures of one seed."""
    rows = folds.rows
    views = _Views(truth[rows].tolist(), folds.probabilities, apps, groups[rows], threshold, None)
    result = views.all()
    found = {
        "seed": folds.seed,
        "accuracy": result.scores.accuracy,
        "macro_f1": result.scores.macro_f1,
        "accuracy_at_threshold": result.at_threshold.accuracy,
        "coverage": result.coverage,
        "expected_calibration_error": result.calibration_error,
    }
    for name, view in (
        ("by_provider", views.provider()),
        ("without_other", views.without_other()),
    ):
        if view is not None:
            found[f"{name}_accuracy"] = view.scores.accuracy
            found[f"{name}_macro_f1"] = view.scores.macro_f1
    return found


def _promise(
    folds: PooledFolds, truth: NDArray[np.str_], apps: Sequence[str], groups: NDArray[Any]
) -> Promise | None:
    if not folds.held:
        return None
    number = {app: i for i, app in enumerate(apps)}

    def judged(rows: NDArray[np.int64], probabilities: NDArray[np.float32]) -> Judged:
        right = np.array([number.get(app, -1) for app in truth[rows].tolist()], dtype=np.int64)
        return Judged(right, probabilities, groups[rows])

    judgements = []
    for number_of_fold, held in enumerate(folds.held):
        here = folds.fold == number_of_fold
        judgements.append((judged(*held), judged(folds.rows[here], folds.probabilities[here])))
    return promise(judgements)


def hardest(
    flows: FlowBatch,
    truth: NDArray[np.str_],
    rows: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    apps: Sequence[str],
) -> tuple[Confusion, ...]:
    """The most frequent confusions, each with a few flows of it.

    Args:
        flows: n flows, with the groups core and names.
        truth: the true app of each, shape (n,).
        rows: the flow of each verdict, shape (m,).
        probabilities: shape (m, k).
        apps: the k apps.
    """
    true = truth[rows]
    given = np.array(apps, dtype=np.str_)[probabilities.argmax(axis=1)]
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(true != given)
    pairs = Counter(zip(true[wrong].tolist(), given[wrong].tolist(), strict=True))
    found = []
    for (one, other), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[
        :_CONFUSIONS
    ]:
        here = wrong[(true[wrong] == one) & (given[wrong] == other)]
        here = here[np.argsort(-confidence[here], kind="stable")]
        shown = list(dict.fromkeys(rows[here].tolist()))[:_EXAMPLES]
        found.append(Confusion(one, other, count, tuple(_said(flows, row) for row in shown)))
    return tuple(found)


def _said(flows: FlowBatch, row: int) -> str:
    """A flow's Community ID, or where its capture has it, and its server's name if known."""
    flow = flows[row]
    name = flow.server_name if "server_name" in flows.columns else None
    known = flow.community_id or f"{flow.capture}#{flow.connection_id}"
    return f"{known} {name}" if name else str(known)


def _means(result: Evaluation) -> dict[str, Any]:
    scores = result.scores
    return {
        "apps": list(scores.apps),
        **scores.to_json(),
        "coverage": result.coverage,
        "accuracy_at_threshold": result.at_threshold.accuracy,
        "intervals_95": {name: list(ends) for name, ends in result.intervals.items()},
    }
