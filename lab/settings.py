"""The settings of one recording: a device, a network, a day, and the number of flows of each app."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.world import Network


CLIENTS_OF_DAY = ("oldest", "older", "current", "older", "current")


@dataclass(frozen=True)
class Settings:
    """One recording: a device, a network, a day, and how many flows of each app."""

    recording: str
    seed: int
    tls: str
    mtu: int
    network: Network
    day: int
    front: str
    """``none``: each server on an address of its own; ``route`` or ``terminate``.

    One HAProxy before all.
    """
    quotas: dict[str, int]
    """Flows for each app; ``other`` is shared by the background."""
    workers: int = 8
    drift: bool = False
    n_names: int = 12
    limit_s: float = 900
    keep_payload: int = 0
    """Packets with payload kept of each flow in the capture; 0 keeps the capture whole."""

    @property
    def version(self) -> str:
        """Which set of client libraries the day has; ``current`` is the environment itself."""
        return CLIENTS_OF_DAY[self.day % len(CLIENTS_OF_DAY)]

    @property
    def place(self) -> Path:
        """The recording's folder in a dataset; ``apptell dataset build`` takes groups from it."""
        groups = {
            "day": self.day,
            "device": self.tls,
            "network": self.network.name,
            "front": self.front,
            "version": self.version,
            "capture_point": self.network.tap,
        }
        return Path(self.recording, *(f"{name}={value}" for name, value in groups.items()))
