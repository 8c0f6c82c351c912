"""Tests each claim of the paper's Section 4 on evaluations of the network and the forest.

A claim is true if it holds for every seed; the measured values are given beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from apptell.evaluation.paper import RIGHT_ABOVE_09

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.evaluation.figures import Evaluation

_SURE = 0.9
"""The confidence in the claims of Section 4.2."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of the paper."""

    words: str
    """The claim, and its place in the paper."""
    holds: bool
    found: str
    """What was measured."""


def claims_of(
    cnn: Sequence[Evaluation], forest: Sequence[Evaluation], with_other: Sequence[Evaluation]
) -> tuple[Claim, ...]:
    """Tests each claim.

    Args:
        cnn: the network by seed.
        forest: the forest by the same seeds.
        with_other: the network with the class Other by the same seeds; empty without background.
    """
    accuracy = [each.scores.accuracy for each in cnn]
    rival = [each.scores.accuracy for each in forest]
    sure = [_share_above(each, "right") for each in cnn]
    unsure = [1 - share for each in cnn if (share := _share_above(each, "wrong")) is not None]
    gained = [each.at_threshold.macro_precision - each.scores.macro_precision for each in cnn]
    worse = _not_higher(cnn, forest)
    claims = [
        Claim(
            "The network is right on more than 96 % of the flows (abstract).",
            min(accuracy) > 0.96,
            f"accuracy {_span(accuracy)}",
        ),
        Claim(
            "The network is better than the forest (Section 4.1).",
            all(a > b for a, b in zip(accuracy, rival, strict=True)),
            f"accuracy {_span(accuracy)} against {_span(rival)}",
        ),
        Claim(
            "The network is higher than the forest in each class (Section 4.1; in the paper's own "
            "tables DingTalk's precision is not: 91.79 % against 92.5 %).",
            not worse,
            f"not higher: {', '.join(worse)}" if worse else "higher in every figure of every class",
        ),
        Claim(
            "More than 90 % of the right verdicts have a confidence above 0.9 (Section 4.2).",
            all(share is not None and share > RIGHT_ABOVE_09 for share in sure),
            f"share {_span([share or 0.0 for share in sure])}",
        ),
        Claim(
            "Most wrong verdicts have a lower confidence (Section 4.2).",
            all(share > 0.5 for share in unsure),
            f"share of wrong verdicts at 0.9 or less {_span(unsure)}"
            if unsure
            else "no verdict was wrong",
        ),
        Claim(
            "A threshold of 0.85 raises precision and costs coverage (Section 4.2).",
            min(gained) > 0 and all(each.coverage < 1 for each in cnn),
            f"mean precision {_span([each.at_threshold.macro_precision for each in cnn])} at coverage "
            f"{_span([each.coverage for each in cnn])}",
        ),
    ]
    if with_other:
        cost = [
            before.at_threshold.macro_f1 - after.at_threshold.macro_f1
            for before, after in zip(cnn, with_other, strict=True)
        ]
        claims.append(
            Claim(
                "With background traffic as the class Other the classifier gets worse (Section 4.3).",
                min(cost) > 0,
                f"mean F at the threshold falls by {_span(cost)} (the paper: 1.43 points)",
            )
        )
    return tuple(claims)


def _share_above(result: Evaluation, kind: str) -> float | None:
    """Share of right or wrong verdicts with a confidence of 0.9 or more; None without any."""
    edges, counts = np.array(result.histogram["edges"]), np.array(result.histogram[kind])
    total = counts.sum()
    return float(counts[edges[:-1] >= _SURE - 1e-9].sum() / total) if total else None


def _not_higher(cnn: Sequence[Evaluation], forest: Sequence[Evaluation]) -> list[str]:
    """Figures of classes in which the network's mean over seeds is not above the forest's."""
    found = []
    for figure in ("precision", "recall", "f1"):
        ours = np.mean([getattr(each.scores, figure) for each in cnn], axis=0)
        theirs = np.mean([getattr(each.scores, figure) for each in forest], axis=0)
        found += [
            f"{app}'s {'F' if figure == 'f1' else figure}"
            for app, a, b in zip(cnn[0].scores.apps, ours, theirs, strict=True)
            if a <= b
        ]
    return found


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2%}", f"{max(values):.2%}"
    return low if low == high else f"{low} to {high}"
