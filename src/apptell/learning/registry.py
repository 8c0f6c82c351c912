"""Finds recipes by the name of a model: its inputs, and how it is trained.

Recipes are found in two places: the modules of ``apptell.learning.recipes``, and the entry points of the
group ``apptell.models`` of all installed packages, each of which names a ``Recipe``.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final, Protocol

from apptell.errors import MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.learning.progress import Progress

ENTRY_POINTS: Final = "apptell.models"
"""The group of entry points that name recipes of other distributions."""


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """A number that a recipe lets its user choose."""

    default: float | None
    """None: the recipe decides by the data."""
    description: str
    """One line."""
    kind: type[int | float] = float
    low: float = 0.0
    """Values must be above this."""
    high: float = float("inf")
    """Values must not be above this."""

    def check(self, name: str, value: float) -> float:
        """The value, as an int if the kind is int.

        Raises:
            UsageError: it is out of range, or not whole where it must be.
        """
        number = self.kind(value)
        if number != value or not self.low < number <= self.high:
            if self.kind is int:
                words = f"a whole number of at least {self.low + 1:g}"
            else:
                words = f"above {self.low:g}"
            limit = "" if self.high == float("inf") else f" and at most {self.high:g}"
            raise UsageError(f"{name}={value:g} is not {words}{limit}")
        return number


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The options of a training."""

    epochs: int = 100
    """Passes over the flows, for models that learn in passes."""
    seed: int = 0
    device: str = "auto"
    progress: Callable[[Progress], None] | None = None
    checkpoint: Path | None = None
    """A file from which an interrupted training with the same data and options may continue."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Every number that the recipe declares, by name."""


class Trainable(Protocol):
    """The estimator that a recipe makes: scikit-learn's methods, and a conversion to ONNX."""

    classes_: NDArray[Any]

    def fit(self, X: Any, y: Any, **more: Any) -> Any:
        """Learns."""

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities, columns as in ``classes_``."""

    def to_onnx(self) -> bytes:
        """The ONNX model, its output in the order of ``classes_``."""


def _nothing(_trained: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One kind of model."""

    name: str
    """The name that is passed to ``train`` and ``compare``."""
    inputs: str
    """Name of its encoding in ``apptell.encoding.ENCODINGS``."""
    description: str
    """One line."""
    make: Callable[[TrainingOptions], Trainable]
    """Creates the untrained estimator."""
    report: Callable[[Any], dict[str, Any]] = _nothing
    """Returns what ``model.json`` keeps of the training, under ``training``."""
    libraries: tuple[str, ...] = ()
    """Distributions whose version ``model.json`` keeps."""
    options: tuple[str, ...] = ()
    """Options of its encoding that the user chooses."""
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=dict)
    """Numbers that the user may choose, by name."""
    views: tuple[Mapping[str, Any], ...] = ()
    """Further options under which the training flows are also encoded, as other captures would have shown
    them. ``fit`` then gets X of shape (n, 1 + views, ...), with the plain flows first.
    """
    late_views: bool = False
    """Whether it can also learn from late views of connections, which a dataset may have as rows."""
    grouped: bool = False
    """Whether ``fit`` takes ``groups``, the source of each flow."""
    balanced: bool = False
    """Whether it weights all classes equally in training, which is its prior in ``model.json``."""

    def complete(self, chosen: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Every hyperparameter by name: the chosen ones, and the defaults of the others.

        Raises:
            UsageError: the recipe has no hyperparameter of that name, or a value is out of range.
        """
        values: dict[str, Any] = {name: each.default for name, each in self.hyperparameters.items()}
        for name, value in (chosen or {}).items():
            if name not in values:
                known = ", ".join(values) or "none"
                raise UsageError(
                    f"model {self.name} has no hyperparameter {name!r}; available: {known}"
                )
            values[name] = self.hyperparameters[name].check(name, value)
        return values


def recipe_names() -> list[str]:
    """The names of every recipe, sorted; nothing of another distribution is imported."""
    return sorted({*_own_names(), *(point.name for point in entry_points(group=ENTRY_POINTS))})


def all_recipes() -> dict[str, Recipe]:
    """Every recipe by its name, sorted.

    Raises:
        MissingError: an entry point cannot be loaded, or does not name a recipe of the same name.
    """
    return {name: recipe_of(name) for name in recipe_names()}


def recipe_of(name: str) -> Recipe:
    """The recipe of that name; apptell's own before one of another distribution.

    Raises:
        UsageError: there is none.
        MissingError: its entry point cannot be loaded, or does not name a recipe of the same name.
    """
    own = _own_names()
    if name in own:
        recipe: Recipe = importlib.import_module(own[name]).RECIPE
        return recipe
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return _loaded(point)
    raise UsageError(f"unknown model {name!r}; available: {', '.join(recipe_names())}")


def _own_names() -> dict[str, str]:
    """The names of apptell's own recipes, and the module of each: ``paper_rf`` has ``paper-rf``."""
    from apptell.learning import recipes as folder

    modules = (module.name for module in pkgutil.iter_modules(folder.__path__))
    return {name.replace("_", "-"): f"{folder.__name__}.{name}" for name in modules}


def _loaded(point: EntryPoint) -> Recipe:
    place = f"the model {point.name} ({point.value})"
    try:
        recipe = point.load()
    except (ImportError, AttributeError) as error:
        raise MissingError(f"{place} cannot be loaded: {error}") from error
    if not isinstance(recipe, Recipe) or recipe.name != point.name:
        raise MissingError(f"{place} is not a Recipe of that name")
    return recipe
