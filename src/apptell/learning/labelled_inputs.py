"""What a model and its detector of unlearned apps learn from: inputs with all that is known of each flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LabelledInputs:
    """What a model learns from, and what its detector needs beside it; n flows."""

    inputs: NDArray[Any]
    """Of the model, with its views; shape (n, ...)."""
    apps: NDArray[np.str_]
    lengths: NDArray[np.float32]
    """Signed payload lengths, shape (n, packets)."""
    groups: NDArray[np.str_]
    """Where each flow came from."""
    clients: NDArray[np.str_] | None = None
    """Whose each flow is; None: those of a group are of one client."""
    times_ns: NDArray[np.int64] | None = None
    """When each flow was decided; None where that is not known: then nothing is kept for watching."""
    ja4: NDArray[np.str_] | None = None
    """TLS fingerprint of each flow, empty for none; None where they are not known."""
    devices: NDArray[np.str_] | None = None
    """The device that each flow is of; None: those of a group are of one device."""

    def take(self, rows: NDArray[np.int64]) -> LabelledInputs:
        """Some of the flows."""
        return LabelledInputs(
            self.inputs[rows],
            self.apps[rows],
            self.lengths[rows],
            self.groups[rows],
            None if self.clients is None else self.clients[rows],
            None if self.times_ns is None else self.times_ns[rows],
            None if self.ja4 is None else self.ja4[rows],
            None if self.devices is None else self.devices[rows],
        )
