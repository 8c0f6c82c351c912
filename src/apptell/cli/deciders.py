"""The options of a verb in, what decides its verdicts out: evidence, a model, and the context of flows."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apptell.cli.notes import note_evidence, note_known_apps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.models import Model
    from apptell.verdicts import ContextOptions, Evidence

_WINDOW = "30s"
"""The context of flows where evidence includes it and no window is given."""


@dataclass(frozen=True, slots=True)
class Deciders:
    """What decides."""

    evidence: "Evidence | None"
    """None: the model alone."""
    model: "Model | None"
    """None: evidence alone."""
    context: "ContextOptions | None"
    """How a client's flows are re-weighted; None for each flow alone."""
    transports: str
    """The transport protocols to read, separated by commas."""

    @property
    def apps(self) -> set[str]:
        """The apps that a verdict can name."""
        known = set() if self.model is None else set(self.model.apps)
        return known if self.evidence is None else known.union(self.evidence.known_apps)

    @property
    def name(self) -> str:
        """What decides, in a few words."""
        names = "" if self.evidence is None else "names"
        model = "" if self.model is None else f"{self.model.name}@{self.model.hash}"
        return " and ".join(filter(None, (names, model)))


def choose_deciders(
    kinds: str | None,
    model: Path | None,
    catalogue: "Sequence[str] | None",
    context: str | None,
    transports: str | None,
) -> Deciders:
    """Loads what the options ask for, and says on stderr what it knows.

    Args:
        kinds: of evidence, as ``--evidence`` takes them.
        model: the folder of a model.
        catalogue: files with rows for the catalogue.
        context: seconds, as ``--context`` takes them.
        transports: names of transport protocols, separated by commas.

    Raises:
        UsageError: options that do not fit together, or an unknown kind of evidence.
        ModelError: the model cannot be loaded.
        CatalogueError: a file of the catalogue cannot be read.
    """
    from apptell.catalogue import Catalogue
    from apptell.errors import UsageError
    from apptell.models import load_model
    from apptell.verdicts import ContextOptions, Evidence, EvidenceOptions

    if kinds is not None:
        options = EvidenceOptions.parse(kinds)
    else:
        options = EvidenceOptions()
        if model is not None:
            options = EvidenceOptions(options.kinds | {"model"})
    asks_model = bool(options.kinds & {"model", "context"})
    if model is not None and not asks_model:
        raise UsageError("--model: --evidence names no model; add model to it")
    if context is not None and not asks_model:
        raise UsageError("--context weighs a model's verdicts: add -m MODEL or --evidence all")
    window = context or (_WINDOW if "context" in options.kinds else None)
    around = None if window is None else ContextOptions.parse(window)
    used = load_model(model) if asks_model else None
    evidence = None
    if options.asks_names:
        packets = {} if used is None else {"decision_packets": used.decision_packets}
        evidence = Evidence(Catalogue.load(catalogue or ()), options, **packets)
        note_evidence(evidence)
    if used is not None:
        note_known_apps(used, embedded=model is None)
    if transports is None:
        both = evidence is not None or used is None
        transports = "tcp,udp" if both else _names(used)
    return Deciders(evidence, used, around, transports)


def _names(model: "Model | None") -> str:
    """The transport protocols that a model learned."""
    numbers = {"tcp": 6, "udp": 17}
    learned = () if model is None else model.transports
    return ",".join(name for name, number in numbers.items() if number in learned)
