"""Sums of bytes and flows over the last steps of time, for each combination of client, app and other traits.

A view of hundreds of apps and clients is a few operations on arrays, so that many different views do not slow
the path of packets, which shares the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

NARROWED: Final = ("client", "app", "category", "service", "outcome")
"""What the view can be narrowed by."""
MOST_ROWS: Final = 20_000
"""Combinations that are told apart in the window; more are counted together."""
_FIRST_ROWS: Final = 256
_CLEAN_STEPS: Final = 15
"""Steps after which combinations without flows in the window are dropped."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What tells flows apart on the page."""

    client: str | None
    app: str | None
    app_name: str | None
    category: str | None
    service: str | None
    outcome: str | None

    def fits(self, wanted: Mapping[str, str]) -> bool:
        """Whether it has the wanted values; an empty one stands for none."""
        return all((getattr(self, name) or "") == value for name, value in wanted.items())


_TOO_MANY: Final = Traits("others", None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class MinuteSums:
    """The sums of a view."""

    over_time: dict[str, list[int]]
    """App to its bytes in each step, the oldest first; an empty text for no app."""
    flows_over_time: dict[str, list[int]]
    """The same for the flows that were first seen in each step."""
    labels: dict[str, str]
    """App to its name as its vendor writes it."""
    by: dict[str, dict[str, list[int]]]
    """Each of NARROWED to its values, each with bytes and flows; services only of flows without an app."""


class WindowSums:
    """The sums of the last steps.

    Args:
        n_steps: of the window.
    """

    def __init__(self, n_steps: int) -> None:
        self._n_steps = n_steps
        self._now: int | None = None
        self._traits: list[Traits] = []
        self._rows: dict[Traits, int] = {}
        self._keys: dict[str, dict[str, int]] = {name: {} for name in NARROWED}
        self._codes: NDArray[np.int64] = np.zeros((_FIRST_ROWS, len(NARROWED)), dtype=np.int64)
        self._sums: NDArray[np.int64] = np.zeros((2, _FIRST_ROWS, n_steps), dtype=np.int64)
        """Bytes and flows of each row in each step; step s has the column s modulo ``n_steps``."""

    def __len__(self) -> int:
        return len(self._traits)

    def move_to(self, step: int) -> None:
        """Begins a step, and forgets what is older than the window. Steps never go back."""
        before, self._now = self._now, step if self._now is None else max(step, self._now)
        if before is None or self._now == before:
            return
        passed = min(self._now - before, self._n_steps)
        columns = (self._now - np.arange(passed)) % self._n_steps
        self._sums[:, :, columns] = 0
        if self._now // _CLEAN_STEPS != before // _CLEAN_STEPS:
            self._clean()

    def add(self, traits: Traits, n_bytes: int, flows: int) -> None:
        """Adds to the present step, after ``move_to``."""
        if self._now is None:
            raise ValueError("no step has begun")
        row = self._rows.get(traits)
        if row is None:
            row = self._new_row(traits if len(self._traits) < MOST_ROWS else _TOO_MANY)
        column = self._now % self._n_steps
        self._sums[0, row, column] += max(n_bytes, 0)
        self._sums[1, row, column] += flows

    def of(self, wanted: Mapping[str, str]) -> MinuteSums:
        """The sums of the combinations that have some values.

        Args:
            wanted: value for each of some names of ``NARROWED``; an empty text for none.
        """
        n, now = len(self._traits), self._now or 0
        codes = self._codes[:n]
        chosen = np.ones(n, dtype=np.bool_)
        for name, value in wanted.items():
            code = self._keys[name].get(value, -1)
            chosen &= codes[:, NARROWED.index(name)] == code
        rows = np.flatnonzero(chosen)
        order = (now + 1 + np.arange(self._n_steps)) % self._n_steps
        n_bytes, flows = self._sums[:, rows].sum(axis=2)
        seen = (n_bytes > 0) | (flows > 0)
        rows, n_bytes, flows = rows[seen], n_bytes[seen], flows[seen]
        codes = codes[rows]
        over_time: dict[str, list[int]] = {}
        flows_over_time: dict[str, list[int]] = {}
        labels: dict[str, str] = {}
        own = codes[:, NARROWED.index("app")]
        names = list(self._keys["app"])
        for code in np.unique(own).tolist():
            mine = rows[own == code]
            both = self._sums[:, mine].sum(axis=1)[:, order]
            over_time[names[code]], flows_over_time[names[code]] = both.tolist()
            labels[names[code]] = self._traits[mine[0]].app_name or names[code]
        without = own == self._keys["app"].get("", -1)
        by = {
            name: self._sums_by(name, codes[without], n_bytes[without], flows[without])
            if name == "service"
            else self._sums_by(name, codes, n_bytes, flows)
            for name in NARROWED
        }
        return MinuteSums(over_time, flows_over_time, labels, by)

    def _sums_by(
        self,
        name: str,
        codes: NDArray[np.int64],
        n_bytes: NDArray[np.int64],
        flows: NDArray[np.int64],
    ) -> dict[str, list[int]]:
        names = list(self._keys[name])
        found, at = np.unique(codes[:, NARROWED.index(name)], return_inverse=True)
        sums = np.zeros((2, len(found)), dtype=np.int64)
        np.add.at(sums[0], at, n_bytes)
        np.add.at(sums[1], at, flows)
        return {
            names[code]: [int(sums[0, i]), int(sums[1, i])] for i, code in enumerate(found.tolist())
        }

    def _new_row(self, traits: Traits) -> int:
        """The row of a combination; a new one where it has none."""
        row = self._rows.get(traits)
        if row is not None:
            return row
        row = len(self._traits)
        if row == len(self._codes):
            self._codes = np.concatenate([self._codes, np.zeros_like(self._codes)])
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)], axis=1)
        self._rows[traits] = row
        self._traits.append(traits)
        for i, name in enumerate(NARROWED):
            keys = self._keys[name]
            self._codes[row, i] = keys.setdefault(getattr(traits, name) or "", len(keys))
        return row

    def _clean(self) -> None:
        """Drops the combinations that have no flow and no byte in the window."""
        n = len(self._traits)
        kept = np.flatnonzero(self._sums[:, :n].any(axis=(0, 2)))
        if len(kept) == n:
            return
        sums = self._sums[:, kept]
        traits: list[Any] = [self._traits[row] for row in kept.tolist()]
        self._traits, self._rows = [], {}
        self._keys = {name: {} for name in NARROWED}
        room = max(_FIRST_ROWS, len(kept))
        self._codes = np.zeros((room, len(NARROWED)), dtype=np.int64)
        self._sums = np.zeros((2, room, self._n_steps), dtype=np.int64)
        for each in traits:
            self._new_row(each)
        self._sums[:, : len(kept)] = sums
