"""Measures how well flows of unlearned apps are recognised.

OSCR (open-set classification rate): Dhamija et al., "Reducing Network Agnostophobia" (2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class OpenSetFigures:
    """How well flows of unlearned apps are distinguished from flows of known ones."""

    rate: float
    """The stated share of flows of known apps that may be called unknown."""
    known: int
    """Flows of known apps."""
    unknown: int
    """Flows of unlearned apps."""
    auroc: float
    """Probability that a flow of an unlearned app looks more unusual than one of a known app."""
    caught: float
    """Share of the flows of unlearned apps that are called unknown."""
    realised: float
    """Share of the flows of known apps that are called unknown."""
    realised_interval: tuple[float, float]
    """Its 95 % bootstrap interval over groups."""
    oscr: float
    """Area under the share of known flows that are right and not called unknown, by the share of flows of
    unlearned apps that are not called unknown."""
    caught_by_app: dict[str, float]
    """``caught`` of each unlearned app."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "rate": self.rate,
            "known": self.known,
            "unknown": self.unknown,
            "auroc": round(self.auroc, 4),
            "caught": round(self.caught, 4),
            "realised": round(self.realised, 4),
            "realised_95": [round(end, 4) for end in self.realised_interval],
            "oscr": round(self.oscr, 4),
            "caught_by_app": {app: round(share, 4) for app, share in self.caught_by_app.items()},
        }

    @property
    def sentence(self) -> str:
        """The figures for people."""
        low, high = self.realised_interval
        words = (
            f"Unknown, stated rate {self.rate:.1%}: {self.realised:.1%} of {self.known:,} flows of known apps "
            f"are called unknown (95 % interval {low:.1%} to {high:.1%})"
        )
        if not self.unknown:
            return f"{words}; no flow is of an unlearned app."
        return (
            f"{words}, and {self.caught:.1%} of {self.unknown:,} flows of unlearned apps; AUROC "
            f"{self.auroc:.3f}, OSCR {self.oscr:.3f}."
        )


def measure_open_set(
    p_unknown: NDArray[np.float32],
    truth: NDArray[np.str_],
    guess: NDArray[np.str_],
    known_apps: NDArray[np.str_],
    groups: NDArray[Any],
    *,
    rate: float,
    cutoff: float,
    seed: int = 0,
    n_draws: int = 300,
) -> OpenSetFigures:
    """The figures of some flows.

    Args:
        p_unknown: how unusual each flow is, shape (n,).
        truth: the app of each.
        guess: the likeliest app of each.
        known_apps: the apps that the model learned.
        groups: the group of each flow, for the interval.
        rate: the stated rate.
        cutoff: the smallest ``p_unknown`` that is called unknown.
        seed: seed of the bootstrap.
        n_draws: bootstrap draws.
    """
    is_known = np.isin(truth, known_apps)
    is_called = p_unknown >= np.float32(cutoff)
    number = np.unique(groups[is_known], return_inverse=True)[1]
    called, total = np.bincount(number, is_called[is_known]), np.bincount(number)
    draws = np.random.default_rng(seed).integers(0, max(len(total), 1), (n_draws, len(total)))
    shares = called[draws].sum(axis=1) / np.maximum(total[draws].sum(axis=1), 1)
    ends = np.quantile(shares, [0.025, 0.975]) if len(total) else np.zeros(2)
    by_app = {
        str(app): float(is_called[truth == app].mean()) for app in np.unique(truth[~is_known])
    }
    return OpenSetFigures(
        rate,
        int(is_known.sum()),
        int((~is_known).sum()),
        auroc(p_unknown, ~is_known),
        float(is_called[~is_known].mean()) if (~is_known).any() else 0.0,
        float(is_called[is_known].mean()) if is_known.any() else 0.0,
        (float(ends[0]), float(ends[1])),
        oscr(p_unknown, is_known, guess == truth),
        by_app,
    )


def auroc(scores: NDArray[Any], is_positive: NDArray[np.bool_]) -> float:
    """Area under the receiver operating characteristic; equal scores count half; 0.5 without either class."""
    n_positive, n_negative = int(is_positive.sum()), int((~is_positive).sum())
    if not n_positive or not n_negative:
        return 0.5
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2  # from 1
    ranks = mean_rank[place]
    least = n_positive * (n_positive + 1) / 2
    return float((ranks[is_positive].sum() - least) / (n_positive * n_negative))


def oscr(scores: NDArray[Any], is_known: NDArray[np.bool_], is_right: NDArray[np.bool_]) -> float:
    """Area under the open-set classification rate curve, 0 to 1.

    Args:
        scores: how unusual each flow is, shape (n,).
        is_known: whether its app was learned, shape (n,).
        is_right: whether its likeliest app is the true one, shape (n,).
    """
    n_known, n_unknown = int(is_known.sum()), int((~is_known).sum())
    if not n_known or not n_unknown:
        return 0.0
    values, place = np.unique(scores, return_inverse=True)
    right = np.bincount(place, is_known & is_right, minlength=len(values)).cumsum() / n_known
    accepted = np.bincount(place, ~is_known, minlength=len(values)).cumsum() / n_unknown
    rate, share = np.append(0.0, right), np.append(0.0, accepted)
    return float((np.diff(share) * (rate[1:] + rate[:-1]) / 2).sum())
