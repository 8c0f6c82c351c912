"""Deadlines of the steps in which the live pipeline ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

_STEPS_S: Final = (0.3, 0.7, 1.0)
"""The interpreter takes some tenths of a second more to end."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Deadlines by the monotonic clock, s, within two seconds of the request to end."""

    identify_s: float
    """Until then, waiting flows are identified; later ones are declined as overloaded."""
    tell_s: float
    """Until then, open flows are reported; the others are counted as unreported."""
    write_s: float
    """Until then, outputs write; records that still wait are counted as dropped."""

    @classmethod
    def from_now(cls) -> Ending:
        """All steps, counted from now."""
        now_s = time.monotonic()
        return cls(*(now_s + step_s for step_s in _STEPS_S))
