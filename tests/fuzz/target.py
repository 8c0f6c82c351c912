"""What a kind of input says of itself, and where the kinds are found."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, ClassVar

from apptell.errors import ApptellError
from tests.fuzz import targets

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

Files = dict[str, bytes]
"""An input: the contents of its files by their paths. One that is a stream has one file."""


class Target:
    """A kind of input. A module in ``targets`` has one of them, named ``TARGET``."""

    name: ClassVar[str]
    refusals: ClassVar[tuple[type[Exception], ...]] = (ApptellError,)
    """What bad input may raise."""
    together: ClassVar[int] = 1
    """Inputs that ``run`` takes at a time; each alone where anything is found."""

    def seeds(self) -> dict[str, Files]:
        """Good inputs by name."""
        raise NotImplementedError

    def mutate(self, files: Files, rng: random.Random) -> Files:
        """A spoiled copy; the same for the same state of the generator."""
        raise NotImplementedError

    def run(self, inputs: Sequence[Files], scratch: Path) -> None:
        """Reads inputs as apptell does and checks what comes out.

        Args:
            inputs: at most ``together`` of them; all are read, whichever of them is refused.
            scratch: an empty folder, for kinds that are read from files.
        """
        raise NotImplementedError


def all_targets() -> dict[str, Target]:
    """Every kind of input by its name."""
    found = {}
    for module in pkgutil.iter_modules(targets.__path__):
        target = importlib.import_module(f"{targets.__name__}.{module.name}").TARGET
        found[target.name] = target
    return found
