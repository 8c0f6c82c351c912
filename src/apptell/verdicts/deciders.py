"""Chooses what decides verdicts, from a caller's arguments: evidence, a model, and context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from apptell.catalogue import Catalogue
from apptell.errors import UsageError
from apptell.flows.options import transport_numbers
from apptell.models import Model, load_model
from apptell.verdicts.context import ContextOptions
from apptell.verdicts.evidence import NETWORK, Evidence, EvidenceOptions
from apptell.verdicts.identity import UNLISTED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TCP, UDP = 6, 17
_WINDOW: Final = "30s"
"""The context of flows where evidence includes it and no window is given."""


@dataclass(frozen=True, slots=True)
class Deciders:
    """Evidence, model and context that decide verdicts."""

    evidence: Evidence | None
    """Evidence; None if only the model decides."""
    model: Model | None
    """The model; None if only evidence decides."""
    context: ContextOptions | None
    """How a client's flows are re-weighted; None to decide each flow independently."""
    transports: tuple[int, ...]
    """IP protocol numbers of the flows to read."""

    @property
    def apps(self) -> set[str]:
        """The apps that a verdict can name."""
        known = set() if self.model is None else set(self.model.apps)
        return known if self.evidence is None else known.union(self.evidence.known_apps)

    @property
    def categories(self) -> set[str] | None:
        """Categories of apps and kinds of services that a record can have; None if no catalogue is used."""
        if self.evidence is None:
            return None
        catalogue = self.evidence.catalogue
        categories = {app.category for app in catalogue.apps.values() if app.category is not None}
        kinds = {row.kind for row in catalogue.domains} - {"app"}
        return categories | kinds | {NETWORK, UNLISTED}

    @property
    def name(self) -> str:
        """A short description of what decides."""
        names = "" if self.evidence is None else "names"
        model = "" if self.model is None else f"{self.model.name}@{self.model.hash}"
        return " and ".join(filter(None, (names, model)))


def choose_deciders(
    evidence: EvidenceOptions | str | None = None,
    model: Model | str | Path | None = None,
    catalogue: Sequence[str | Path] = (),
    context: ContextOptions | str | None = None,
    transports: str | Sequence[int | str] | None = None,
) -> Deciders:
    """Loads the requested evidence and model.

    Args:
        evidence: kinds of evidence, separated by commas, or ``all`` (default: all but ``model`` and
            ``context``; with a model, all but ``context``).
        model: a model or its folder (default: the one that ships with apptell, where it is asked).
        catalogue: files with rows that are added to the catalogue or override its own.
        context: seconds of context, as in ``30s``.
        transports: names (tcp, udp) or IP protocol numbers (default: both; with only a model, those that it
            learned).

    Raises:
        UsageError: arguments that do not fit together, or an unknown kind of evidence.
        ModelError: the model cannot be loaded.
        CatalogueError: a file of the catalogue cannot be read.
    """
    if isinstance(evidence, EvidenceOptions):
        options = evidence
    elif evidence is not None:
        options = EvidenceOptions.parse(evidence)
    else:
        options = EvidenceOptions()
        if model is not None:
            options = EvidenceOptions(options.kinds | {"model"})
    asks_model = bool(options.kinds & {"model", "context"})
    if model is not None and not asks_model:
        raise UsageError(
            "a model is given, but the evidence does not include it; add model", argument="evidence"
        )
    if context is not None and not asks_model:
        raise UsageError(
            "context re-weights a model's verdicts: give a model, or all evidence", argument="model"
        )
    window = context or (_WINDOW if "context" in options.kinds else None)
    around = ContextOptions.parse(window) if isinstance(window, str) else window
    used = None
    if asks_model:
        used = model if isinstance(model, Model) else load_model(model)
    found = None
    if options.asks_names:
        found = Evidence(Catalogue.load([str(file) for file in catalogue]), options)
    if transports is None:
        learned = () if used is None else used.transports
        transports = [t for t in (TCP, UDP) if found is not None or used is None or t in learned]
    return Deciders(found, used, around, transport_numbers(transports))
