"""A model's name and settings, and the inputs that it learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset.selection import Selection
from apptell.encoding import encode
from apptell.errors import needs_extra
from apptell.learning.registry import TrainingOptions, recipe_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.learning.progress import Progress
    from apptell.learning.registry import Trainable

NEIGHBOUR: Final = "nearest-neighbour"
"""The 1-nearest neighbour on the statistics without ports: only for comparisons, it cannot be saved."""


@dataclass(frozen=True, slots=True)
class Task:
    """A model and its settings."""

    model: str
    """A recipe's name, or NEIGHBOUR."""
    epochs: int = 100
    seed: int = 0
    device: str = "auto"
    ports: bool = False
    """Whether a model on statistics sees the two ports."""
    packets: int | None = None
    """Payload packets that the model sees, if they can be chosen; default: that of its inputs."""
    names: str | None = None
    """How inputs that read server names see them: ``on``, ``masked`` or ``hashed``."""
    hyperparameters: Mapping[str, float] | None = None
    """Numbers of the recipe that are not its defaults, by name."""

    def with_seed(self, seed: int) -> Task:
        """The same with another seed."""
        return replace(self, seed=seed)

    @property
    def inputs(self) -> str:
        """The name of the encoding it takes."""
        return "statistics" if self.model == NEIGHBOUR else recipe_of(self.model).inputs

    @property
    def options(self) -> dict[str, Any]:
        """The options of its encoding."""
        there = ("ports",) if self.model == NEIGHBOUR else recipe_of(self.model).options
        requested = {
            "ports": self.ports,
            "packets": self.packets,
            "names": self.names,
            "keys": self.names != "masked",
        }
        return {name: requested[name] for name in there if requested.get(name) is not None}

    def learner(
        self,
        progress: Callable[[Progress], None] | None = None,
        checkpoint: Path | None = None,
    ) -> Trainable:
        """The model, untrained.

        Args:
            progress: called about twice a second by models that learn in passes.
            checkpoint: a file from which an interrupted training of the same data may go on.

        Raises:
            MissingError: the training libraries are not installed.
            UsageError: a hyperparameter that the recipe does not have.
        """
        recipe = recipe_of(self.model)
        options = TrainingOptions(
            self.epochs, self.seed, self.device, progress, checkpoint,
            recipe.complete(self.hyperparameters),
        )  # fmt: skip
        with needs_extra("train", "training"):
            return recipe.make(options)

    @property
    def views(self) -> tuple[Mapping[str, Any], ...]:
        """Further options under which each training flow is encoded."""
        return () if self.model == NEIGHBOUR else recipe_of(self.model).views

    @property
    def is_grouped(self) -> bool:
        """Whether it also uses the source of each flow."""
        return self.model != NEIGHBOUR and recipe_of(self.model).grouped

    def encode(
        self,
        flows: FlowBatch | Selection,
        change: Callable[[FlowBatch], FlowBatch] | None = None,
        *,
        views: bool = False,
    ) -> NDArray[Any]:
        """The inputs of flows, shape (n, ...), made a batch at a time.

        Args:
            flows: with the groups core, segments and names.
            change: a change of each batch before encoding, such as masking its names.
            views: every view that the model learns from; of a model with several, shape (n, views, ...),
                the flows as they are met first.
        """
        options = self.options
        more = self.views if views else ()

        def inputs(batch: FlowBatch) -> NDArray[Any]:
            batch = batch if change is None else change(batch)
            plain = encode(batch, self.inputs, options)
            if not more:
                return plain
            others = (encode(batch, self.inputs, {**options, **view}) for view in more)
            return np.stack([plain, *others], axis=1)

        return Selection.of(flows).gather(inputs, ("core", "segments", "names"))
