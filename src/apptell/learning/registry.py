"""The name of a model in, its recipe out: which inputs it takes and how it is trained."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from apptell.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.learning.progress import Progress


@dataclass(frozen=True, slots=True)
class Settings:
    """What a recipe is asked for."""

    epochs: int = 100
    seed: int = 0
    device: str = "auto"
    progress: Callable[[Progress], None] | None = None
    checkpoint: Path | None = None
    """A file from which an interrupted training of the same data and settings may go on."""


class Trainable(Protocol):
    """What a recipe makes: an estimator with scikit-learn's methods that turns into ONNX."""

    classes_: NDArray[Any]

    def fit(self, X: Any, y: Any, **more: Any) -> Any:
        """Learns."""

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities, columns as in ``classes_``."""

    def to_onnx(self) -> bytes:
        """The ONNX model, its output in the order of ``classes_``."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One kind of model."""

    name: str
    """As in ``--model``."""
    inputs: str
    """Name of its encoding in ``apptell.encoding.ENCODINGS``."""
    description: str
    """One line."""
    make: Callable[[Settings], Trainable]
    """Makes it, untrained."""
    report: Callable[[Any], dict[str, Any]]
    """What ``model.json`` keeps of its training, under ``training``."""
    libraries: tuple[str, ...] = ()
    """Distributions whose version ``model.json`` keeps."""
    options: tuple[str, ...] = ()
    """Options of its encoding that the user chooses."""
    views: tuple[Mapping[str, Any], ...] = ()
    """Options under which the training flows are encoded as well: what another capture would have seen.
    Then ``fit`` gets X of shape (n, 1 + views, ...), the flows as they will be met first."""
    grouped: bool = False
    """Whether ``fit`` takes ``groups``: where each flow came from."""
    balanced: bool = False
    """Whether it learns as if every class were as common as any other: its prior in ``model.json``."""


def all_recipes() -> dict[str, Recipe]:
    """Every recipe by its name, sorted."""
    from apptell.learning import recipes as folder

    names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    found = [importlib.import_module(f"{folder.__name__}.{name}").RECIPE for name in names]
    return {recipe.name: recipe for recipe in found}


def recipe_of(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: there is none.
    """
    there = all_recipes()
    if name not in there:
        raise UsageError(f"no model is called {name!r}; there are {', '.join(there)}")
    return there[name]
