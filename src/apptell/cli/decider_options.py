"""Loads the evidence and the model that a verb's options select, and reports them on stderr."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from apptell.cli.notes import note_evidence, note_known_apps, note_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.verdicts import Deciders


def load_deciders(
    kinds: str | None,
    model: Path | None,
    catalogue: "Sequence[str] | None",
    context: str | None,
    transports: str | None,
    unknown: float | None = None,
) -> "Deciders":
    """Loads the evidence and the model that the options select, and reports on stderr what they know.

    Args:
        kinds: kinds of evidence, as in ``--evidence``.
        model: folder of a model.
        catalogue: files with rows for the catalogue.
        context: a window, as in ``--context``.
        transports: names of transport protocols, separated by commas.
        unknown: share of flows of the model's apps that may be called unknown.

    Raises:
        UsageError: options that do not fit together, an unknown kind of evidence, or a model that cannot
            recognise unknown apps.
        ModelError: the model cannot be loaded.
        CatalogueError: a file of the catalogue cannot be read.
    """
    from apptell.verdicts import choose_deciders
    from apptell.verdicts.novelty import check_rate

    found = choose_deciders(kinds, model, catalogue or (), context, transports)
    if found.evidence is not None:
        note_evidence(found.evidence)
    if found.model is not None:
        note_known_apps(found.model, embedded=model is None)
    check_rate(unknown, found.model)
    if unknown is not None and found.model is not None:
        note_unknown(found.model, unknown)
    gc.freeze()  # garbage collection would walk through the catalogue's objects time and again
    return found
