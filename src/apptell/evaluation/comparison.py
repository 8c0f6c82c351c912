"""Out-of-fold probabilities of one model in; every figure that stands in a comparison out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.evaluation.evaluate import Evaluation, evaluate, slices_of
from apptell.evaluation.promises import Promise, promise
from apptell.evaluation.providers import by_provider, provider_of, shares_a_provider
from apptell.verdicts.schema import OTHER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

_CONFUSIONS: Final = 8
_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two apps of which one is often taken for the other."""

    true: str
    given: str
    flows: int
    examples: tuple[str, ...]
    """Community IDs of a few such flows, the most confident first, with the server's name if known."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One model under one protocol, its folds pooled."""

    result: Evaluation
    by_provider: Evaluation | None
    """Apps of one provider as one; None when no two apps share one."""
    without_other: Evaluation | None
    """The flows of apps alone, none of background; None when there is no background."""
    promise: Promise | None
    hardest: tuple[Confusion, ...]
    """Most frequent confusions first."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; the figures of ``metrics.json`` of an evaluation and those beside them."""
        beside: dict[str, Any] = {}
        for name, result in (
            ("by_provider", self.by_provider),
            ("without_other", self.without_other),
        ):
            beside[name] = None if result is None else _means(result)
        return {
            **beside,
            "promise": None if self.promise is None else self.promise.to_json(),
            "hardest": [
                {"true": c.true, "given": c.given, "flows": c.flows, "examples": list(c.examples)}
                for c in self.hardest
            ],
        }


def measure_pooled(
    flows: FlowBatch,
    labels: Sequence[str],
    probabilities: NDArray[np.float32],
    apps: Sequence[str],
    *,
    fold: NDArray[np.int64],
    groups: NDArray[Any],
    threshold: float | None = None,
    seed: int = 0,
) -> Measured:
    """Every figure of one model.

    Args:
        flows: n tested flows, with the groups core, segments, names and labels.
        labels: the true app of each.
        probabilities: shape (n, k).
        apps: the k apps.
        fold: the fold in which each was tested, shape (n,).
        groups: the unit of each for the intervals, shape (n,).
        threshold: smallest accepted confidence; the paper's 0.85 unless given.
        seed: of the bootstrap.
    """
    captures = flows.column("capture").to_pylist()
    result = evaluate(
        labels,
        probabilities,
        apps,
        threshold,
        groups,
        captures=captures,
        slices=slices_of(flows),
        seed=seed,
    )
    merged = None
    if shares_a_provider(apps):
        summed, providers = by_provider(probabilities, apps)
        names = [provider_of(label) for label in labels]
        merged = evaluate(names, summed, providers, threshold, groups, seed=seed)
    alone = None
    is_app = np.array([label != OTHER for label in labels])
    if is_app.any() and not is_app.all():
        left = [label for label in labels if label != OTHER]
        alone = evaluate(
            left, probabilities[is_app], apps, threshold, np.asarray(groups)[is_app], seed=seed
        )
    number = {app: i for i, app in enumerate(apps)}
    truth = np.array([number.get(label, -1) for label in labels], dtype=np.int64)
    return Measured(
        result,
        merged,
        alone,
        promise(truth, probabilities, fold, groups),
        hardest(flows, labels, probabilities, apps),
    )


def hardest(
    flows: FlowBatch, labels: Sequence[str], probabilities: NDArray[np.float32], apps: Sequence[str]
) -> tuple[Confusion, ...]:
    """The most frequent confusions, each with a few flows of it."""
    guess = [apps[best] for best in probabilities.argmax(axis=1)]
    pairs = Counter((t, g) for t, g in zip(labels, guess, strict=True) if t != g)
    confidence = probabilities.max(axis=1)
    ids = flows.column("community_id").to_pylist()
    names = (
        flows.column("server_name").to_pylist()
        if "server_name" in flows.columns
        else [None] * len(flows)
    )
    truth, given = np.array(labels), np.array(guess)
    found = []
    for (true, other), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[
        :_CONFUSIONS
    ]:
        rows = np.flatnonzero((truth == true) & (given == other))
        rows = rows[np.argsort(-confidence[rows], kind="stable")][:_EXAMPLES]
        examples = tuple(f"{ids[r]} {names[r]}" if names[r] else str(ids[r]) for r in rows)
        found.append(Confusion(true, other, count, examples))
    return tuple(found)


def _means(result: Evaluation) -> dict[str, Any]:
    scores = result.scores
    return {
        "apps": list(scores.apps),
        **scores.to_json(),
        "coverage": result.coverage,
        "accuracy_at_threshold": result.at_threshold.accuracy,
        "intervals_95": {name: list(ends) for name, ends in result.intervals.items()},
    }
