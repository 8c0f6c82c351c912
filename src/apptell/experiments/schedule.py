"""Epochs, seeds and the end of trainings, for a reproduction of the paper's Section 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from apptell.errors import needs_extra

EPOCHS: Final = 100
"""Section 4."""
_CPU_EPOCHS, _SEEDS = 15, 5
_QUICK_EPOCHS, _QUICK_SEEDS = 10, 2
_HELD_OUT: Final = 0.1
"""Share of the training flows that is held out where the network's training may end early."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The number of epochs and seeds."""

    epochs: int
    seeds: tuple[int, ...]
    device: str
    patience: int | None = None
    """Passes without a smaller loss on a tenth of the training flows, which are held out, after which a
    training of the network ends; None trains all epochs on all training flows, as the paper does.
    """

    @classmethod
    def choose(
        cls,
        epochs: int | None = None,
        seeds: int | None = None,
        seed: int = 0,
        device: str = "auto",
        *,
        quick: bool = False,
        patience: int | None = None,
    ) -> Schedule:
        """Chooses epochs and seeds: the paper's epochs with a GPU, otherwise fewer.

        Args:
            epochs: passes (default: 100 on a GPU, 15 on a CPU, 10 with ``quick``).
            seeds: number of seeds (default: 5, 2 with ``quick``).
            seed: the first seed.
            device: ``auto``, ``cpu`` or ``cuda``.
            quick: whether to reduce epochs and seeds.
            patience: passes without a smaller loss on held-out flows that end a training (default: none).

        Raises:
            MissingError: PyTorch is not installed.
        """
        with needs_extra("train", "training"):
            import torch
        fast = device != "cpu" and torch.cuda.is_available()
        usual = _QUICK_EPOCHS if quick else EPOCHS if fast else _CPU_EPOCHS
        n_seeds = seeds or (_QUICK_SEEDS if quick else _SEEDS)
        return cls(epochs or usual, tuple(range(seed, seed + n_seeds)), device, patience)

    @property
    def words(self) -> str:
        """What was reduced, for the captions of tables."""
        seeds = f"{len(self.seeds)} seed{'s' if len(self.seeds) != 1 else ''}"
        if self.epochs < EPOCHS:
            return f"REDUCED: {self.epochs} epochs instead of the paper's {EPOCHS}{self._ended}, {seeds}"
        if self.patience is None:
            return f"{self.epochs} epochs as in the paper, {seeds}"
        return f"at most the paper's {self.epochs} epochs{self._ended}, {seeds}"

    @property
    def _ended(self) -> str:
        if self.patience is None:
            return ""
        passes = f"{self.patience} epochs" if self.patience > 1 else "one epoch"
        return f" (ended after {passes} without a smaller loss on a held-out tenth of the training flows)"

    @property
    def hyperparameters(self) -> dict[str, float] | None:
        """The network's, where they are not its defaults."""
        if self.patience is None:
            return None
        return {"validation": _HELD_OUT, "patience": self.patience}
