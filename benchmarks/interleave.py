"""Combines sessions of single apps into phones that run several apps at once, for measuring context."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_APART_NS = 5_000_000_000


@dataclass(frozen=True)
class Phones:
    """Whose each flow is and when, on that phone's clock."""

    key: np.ndarray
    """Number of the phone, shape (n,)."""
    time_ns: np.ndarray
    """Since the phone's first session began, shape (n,)."""


def interleave(
    apps: np.ndarray, session: np.ndarray, times_ns: np.ndarray, n_apps: int, seed: int
) -> Phones:
    """Puts ``n_apps`` sessions of different apps, drawn at random, onto one phone at the same time.

    Each begins up to 5 s after the phone's clock. Sessions that are left over stay fewer on their phone.

    Args:
        apps: of each flow, shape (n,).
        session: of each flow, shape (n,).
        times_ns: of each flow, shape (n,).
        n_apps: sessions at once.
        seed: of the drawing.
    """
    names, of_flow = np.unique(session, return_inverse=True)
    begin = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(begin, of_flow, times_ns)
    app = np.empty(len(names), dtype=object)
    app[of_flow] = apps
    random = np.random.default_rng(seed)
    phone = np.full(len(names), -1)
    waiting: list[list[int]] = []
    n_phones = 0
    for one in random.permutation(len(names)).tolist():
        for group in waiting:
            if all(app[one] != app[other] for other in group):
                group.append(one)
                break
        else:
            group = [one]
            waiting.append(group)
        if len(group) == n_apps:
            waiting.remove(group)
            phone[group] = n_phones
            n_phones += 1
    for group in waiting:
        phone[group] = n_phones
        n_phones += 1
    later = random.integers(0, _APART_NS, len(names))
    return Phones(phone[of_flow], times_ns - begin[of_flow] + later[of_flow])
