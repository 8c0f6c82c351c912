"""Maps labels to classes: what a model learns and is measured by.

A label is ``app`` or ``app/activity``. At the level ``app`` an activity belongs to its app. The phone's own
traffic, labelled ``system``, is background by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

LEVELS: Final = ("app", "activity")
SYSTEM_KINDS: Final = ("other", "system", "drop")
OTHER: Final = "other"
SYSTEM: Final = "system"


@dataclass(frozen=True, slots=True)
class Classes:
    """How labels become classes."""

    level: str = "app"
    """``app``, or ``activity``: ``app/activity`` where a label has one."""
    system: str = "other"
    """What the phone's own traffic is: ``other`` (background), ``system`` (its own class), ``drop``."""

    def __post_init__(self) -> None:
        """Raises UsageError if a value is not one of those."""
        for name, word, known in (
            ("level", self.level, LEVELS),
            ("system", self.system, SYSTEM_KINDS),
        ):
            if word not in known:
                raise UsageError(f"{name} {word!r} is not one of {', '.join(known)}")

    def kept(self, flows: FlowBatch) -> NDArray[np.bool_]:
        """Whether each flow has a class, shape (n,): all that have a label, or those not the system's."""
        labels = flows.column("label").to_pylist()
        drops = self.system == "drop"
        return np.array(
            [label is not None and not (drops and app_of(label) == SYSTEM) for label in labels],
            dtype=bool,
        )

    def of(self, flows: FlowBatch) -> list[str]:
        """The class of each flow; every flow needs a label."""
        known: dict[str, str] = {}
        return [
            known[label] if label in known else known.setdefault(label, self._class(label))
            for label in flows.column("label").to_pylist()
        ]

    def _class(self, label: str) -> str:
        if app_of(label) == SYSTEM and self.system == OTHER:
            return OTHER
        return app_of(label) if self.level == "app" else label


def app_of(label: str) -> str:
    """The app of a label, an activity's as well."""
    return label.partition("/")[0]


def by_app(
    probabilities: NDArray[np.float32], classes: Sequence[str]
) -> tuple[NDArray[np.float32], list[str]]:
    """Probabilities of apps: the sum over an app's activities.

    Args:
        probabilities: shape (n, k).
        classes: the k classes.

    Returns:
        Probabilities of shape (n, a), and the a apps, sorted.
    """
    apps = sorted({app_of(name) for name in classes})
    summed = np.zeros((len(probabilities), len(apps)), dtype=np.float32)
    for column, name in enumerate(classes):
        summed[:, apps.index(app_of(name))] += probabilities[:, column]
    return summed, apps
