"""Finds apps that a model no longer knows well, by comparison with held-out flows.

No labels are needed. Where a flow's own name identifies its app, the model can be checked against it, which is
the strongest sign. Otherwise the sign is that the verdict on a flow by itself differs more often from the
verdict by its client's other flows than it did on held-out flows (measured in docs/reports/open-world.md).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from apptell.watch.observations import Observations

LEAST_FLOWS: Final = 100
"""Minimum number of flows of an app for an alarm."""
LEAST_NAMED: Final = 30
"""Minimum number of flows named as an app for an alarm by the model's accuracy on them."""
RISE: Final = 0.05
"""How much a share must rise, or the accuracy fall."""
_ERRORS: Final = 3.0
"""Minimum rise in standard errors, because small samples vary."""
SIGNS: Final = ("disagreement", "declined", "unknown", "p_unknown")
"""Shares of an app's flows that are compared with held-out flows; ``p_unknown`` is a mean."""


@dataclass(frozen=True, slots=True)
class AppDrift:
    """One app: its flows by window verdict."""

    app: str
    flows: int
    disagreement: float
    """Share of flows whose own verdict is another app."""
    declined: float
    """Share below the threshold."""
    unknown: float
    """Share that is called unknown."""
    p_unknown: float | None
    """Mean of how unusual they are; None if it was not measured."""
    new_stack: float
    """Share with a JA4 that the model does not know."""
    expected: Mapping[str, float]
    """The same of held-out flows, and their number as ``flows``."""
    named: int
    """Flows that are named as this app."""
    named_right: float | None
    """Share of these that the model also gives to it; None without any."""
    reason: str
    """Why it raises an alarm; empty for none."""

    @property
    def rise(self) -> float:
        """How much more often the verdicts disagree than on held-out flows."""
        return self.disagreement - self.expected.get("disagreement", 0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        rounded = {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }
        expected = {key: round(float(value), 4) for key, value in self.expected.items()}
        return {**rounded, "expected": expected, "rise": round(self.rise, 4)}


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The apps of a model, the most suspicious first."""

    model: str
    flows: int
    apps: tuple[AppDrift, ...]

    @property
    def named(self) -> int:
        """Flows that are named as one of the apps."""
        return sum(each.named for each in self.apps)

    @property
    def named_right(self) -> float:
        """Share of these that the model also gives to that app; 0 without any."""
        right = sum(each.named * (each.named_right or 0.0) for each in self.apps)
        return right / max(self.named, 1)

    @property
    def alarms(self) -> tuple[AppDrift, ...]:
        """Those that raise an alarm."""
        return tuple(each for each in self.apps if each.reason)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "model": self.model,
            "flows": self.flows,
            "named": self.named,
            "named_right": round(self.named_right, 4) if self.named else None,
            "alarms": [each.app for each in self.alarms],
            "apps": [each.to_json() for each in self.apps],
        }


def app_shares(
    seen: Observations, verdict: NDArray[np.int64], n_apps: int
) -> list[dict[str, float]]:
    """Flows and SIGNS of each app, by window verdict; an empty dictionary for an app without flows."""
    found: list[dict[str, float]] = []
    for number in range(n_apps):
        rows = np.flatnonzero(verdict == number)
        if not len(rows):
            found.append({})
            continue
        unusual = seen.p_unknown[rows]
        found.append(
            {
                "flows": float(len(rows)),
                "disagreement": float((seen.guess[rows] != number).mean()),
                "declined": float(seen.is_declined[rows].mean()),
                "unknown": float(seen.is_unknown[rows].mean()),
                "p_unknown": float(unusual.mean()),
                "new_stack": float(seen.is_new_stack[rows].mean()),
            }
        )
    return found


def measure_drift(
    seen: Observations,
    apps: Sequence[str],
    prior: NDArray[np.float64],
    expected: Mapping[str, Mapping[str, float]],
    model: str = "",
    named: NDArray[np.int64] | None = None,
) -> DriftReport:
    """Compares every app with held-out flows.

    Args:
        seen: the observed flows.
        apps: the k apps of the model.
        prior: how common each is by the model, shape (k,).
        expected: by app: ``flows``, SIGNS, and ``recall`` (share of its flows that the model gives to it).
        model: its name, for the report.
        named: flows that are named as each app, and those of them that the model gives to it, shape (2, k)
            (default: of the observed flows).
    """
    if named is None:
        named = _of_named(seen, len(apps))
    verdict = seen.window_verdicts(prior)
    rows = []
    for number, (app, share) in enumerate(
        zip(apps, app_shares(seen, verdict, len(apps)), strict=True)
    ):
        n_named, n_right = (int(each) for each in named[:, number])
        right = n_right / n_named if n_named else None
        if not share and right is None:
            continue
        share = share or dict.fromkeys(("flows", *SIGNS, "new_stack"), 0.0)
        held = expected.get(app, {})
        rows.append(
            AppDrift(
                app,
                int(share["flows"]),
                share["disagreement"],
                share["declined"],
                share["unknown"],
                None if np.isnan(share["p_unknown"]) else share["p_unknown"],
                share["new_stack"],
                held,
                n_named,
                right,
                _reason(share, held, n_named, right),
            )
        )
    rows.sort(key=lambda each: (not each.reason, _named_fall(each), -each.rise))
    return DriftReport(model, len(seen), tuple(rows))


def _of_named(seen: Observations, k: int) -> NDArray[np.int64]:
    """Observed flows that are named as each app, and those of them that the model gives to it, shape (2, k)."""
    own = seen.named[seen.named >= 0]
    right = own[seen.guess[seen.named >= 0] == own]
    return np.stack([np.bincount(own, minlength=k), np.bincount(right, minlength=k)])


def _named_fall(app: AppDrift) -> float:
    """Change of the accuracy on named flows, below 0 for a fall; 0 where there are too few."""
    if app.named < LEAST_NAMED or app.named_right is None or "recall" not in app.expected:
        return 0.0
    return min(app.named_right - app.expected["recall"], 0.0)


def _reason(
    share: Mapping[str, float], held: Mapping[str, float], n_named: int, right: float | None
) -> str:
    if right is not None and n_named >= LEAST_NAMED and "recall" in held:
        fall = held["recall"] - right
        if fall > RISE and fall > _ERRORS * _error(right, n_named, held["recall"], held["flows"]):
            return f"right on {right:.0%} of {n_named:,} named flows, {held['recall']:.0%} when held out"
    n = share["flows"]
    if n < LEAST_FLOWS or "disagreement" not in held:
        return ""
    rise = share["disagreement"] - held["disagreement"]
    error = _error(share["disagreement"], n, held["disagreement"], held["flows"])
    if rise > RISE and rise > _ERRORS * error:
        return (
            f"flow and window verdict disagree on {share['disagreement']:.0%} of {n:,.0f} flows, "
            f"{held['disagreement']:.0%} when held out"
        )
    return ""


def _error(one: float, n_one: float, other: float, n_other: float) -> float:
    """Standard error of the difference of two shares."""
    return float(np.sqrt(one * (1 - one) / max(n_one, 1) + other * (1 - other) / max(n_other, 1)))
