"""Decides flows of TLS stacks that a model never saw, by what held for devices that were left out of training.

A model on hellos learns the TLS stacks of the devices that it was trained on. Where it does not know a flow's
JA4 it is often wrong and sure of it. There its probabilities are averaged with those of a forest on payload
lengths, or softened, as far as that made accepted verdicts right on devices that were left out. Where nothing
did, flows of new stacks are declined. ``apptell.learning.stack_training`` makes this choice from the training
flows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.encoding.lengths import lengths
from apptell.errors import ModelError
from apptell.models.session import BoundedSession
from apptell.models.temperature import calibrate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

DECLINING: Final = 100.0
"""A temperature at which no app of three or more comes near any useful threshold."""
FLOOR: Final = 1e-5
"""The smallest probability that is softened."""


def mixed(
    probabilities: NDArray[np.float32],
    by_lengths: NDArray[np.float32] | None,
    share: float,
    temperature: float,
) -> NDArray[np.float32]:
    """What flows of new stacks are decided by, shape (n, k).

    Args:
        probabilities: the model's, shape (n, k).
        by_lengths: the forest's, shape (n, k); None where its share is 0.
        share: the forest's in the mean.
        temperature: of the mean.
    """
    if by_lengths is not None and share:
        probabilities = ((1 - share) * probabilities + share * by_lengths).astype(np.float32)
    return calibrate(probabilities, temperature, FLOOR)


class NewStacks:
    """A model's rule for flows of new stacks.

    Args:
        about: ``new_stacks`` of the model's ``model.json``, checked.
        forest: the checked content of ``lengths.onnx``; None where its share is 0.
        n_apps: apps of the model.
        place: where both came from, for messages.

    Raises:
        ModelError: the forest does not load, or does not fit the model.
    """

    def __init__(
        self, about: Mapping[str, Any], forest: bytes | None, n_apps: int, place: str
    ) -> None:
        self.share = float(about["share"])
        """The forest's share in the mean."""
        self.temperature = float(about["temperature"])
        self._packets, self._n_apps = int(about["packets"]), n_apps
        self._session: BoundedSession | None = None
        if forest is None:
            return
        self._session = BoundedSession(forest, f"{place}: lengths.onnx", 1)
        shapes = [each.shape[1:] for each in self._session.inputs]
        if shapes != [[self._packets]]:
            raise ModelError(f"{place}: lengths.onnx takes {shapes}, not {self._packets} lengths")
        self._by_lengths(np.zeros((2, self._packets), dtype=np.float32))

    def decide(
        self,
        flows: FlowBatch,
        probabilities: NDArray[np.float32],
        is_new: NDArray[np.bool_],
        *,
        early: bool,
    ) -> NDArray[np.float32]:
        """The probabilities, those of flows of new stacks replaced; shape (n, k).

        Args:
            flows: n flows with the group ``segments``.
            probabilities: the model's, shape (n, k).
            is_new: which flows are of new stacks, shape (n,).
            early: the flows are open and their lengths incomplete: those of new stacks are declined.
        """
        rows = np.flatnonzero(is_new)
        if not len(rows):
            return probabilities
        by_lengths, temperature = None, DECLINING if early else self.temperature
        if self._session is not None and not early:
            by_lengths = self._by_lengths(lengths(flows.take(rows), packets=self._packets))
        found = probabilities.copy()
        found[rows] = mixed(probabilities[rows], by_lengths, self.share, temperature)
        return found

    def _by_lengths(self, sizes: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self._session is not None
        feed = self._session.inputs[0].name
        return self._session.probabilities(feed, sizes, self._n_apps)
