"""Finds candidates for apps that a model does not know: captures or records in, a folder of candidates out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.catalogue import Catalogue
from apptell.errors import OutputError
from apptell.watch.candidates import AppCandidate, find_candidates
from apptell.watch.example_flows import ExampleFlow, example_captures
from apptell.watch.found_folder import write_found
from apptell.watch.traffic import gather

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from apptell.models import Model
    from apptell.watch.traffic import WatchedTraffic

EXAMPLES: Final = 5
"""Flows of a candidate whose packets are kept."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found in some traffic."""

    model: str
    flows: int
    strange: int
    """Flows that the model calls unknown or declines."""
    is_mixed: bool
    """Whether clients run several apps at once."""
    candidates: tuple[AppCandidate, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "flows": self.flows,
            "strange": self.strange,
            "mixed": self.is_mixed,
            "candidates": [each.to_json() for each in self.candidates],
        }


def discover(
    sources: Sequence[str],
    model: Model,
    out: Path | None = None,
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    catalogue: Sequence[str | Path] = (),
) -> Discovery:
    """Groups flows that a model does not know into candidates for apps.

    Args:
        sources: captures and folders of captures, or files and archives of records; not both.
        model: trained to recognise unknown apps.
        out: the folder to write, which must not exist; None writes nothing.
        examples: flows of each candidate whose first packets are copied from captures; 0 copies no payload.
        seed: of random choices.
        catalogue: files with rows that are added to the catalogue or override its own.

    Raises:
        CatalogueError: such a file cannot be read, or one of its rows is not valid.
        UsageError: captures and records together, or a model that cannot recognise unknown apps.
        CaptureError: a source cannot be read, or is damaged.
        OutputError: the folder exists or cannot be written.
        MissingError: scikit-learn is not installed.
    """
    if out is not None and (out.exists() or out.is_symlink()):
        raise OutputError(f"{out}: already exists and is not replaced")
    listed = Catalogue.load([str(file) for file in catalogue])
    traffic = gather(sources, model, listed)
    candidates, mixed = find_candidates(traffic, model.apps, seed, listed)
    if out is not None:
        captures = {}
        if traffic.inputs is not None and examples and candidates:
            wanted = {one.number: _examples(traffic, one, examples) for one in candidates}
            captures = example_captures(sources, wanted)
        write_found(out, model, traffic, candidates, captures)
    return Discovery(
        f"{model.name}@{model.hash}",
        len(traffic),
        int(traffic.is_strange.sum()),
        mixed,
        tuple(candidates),
    )


def _examples(traffic: WatchedTraffic, one: AppCandidate, n: int) -> list[ExampleFlow]:
    """Flows of a candidate that are as far apart in time as possible."""
    order = one.rows[np.argsort(traffic.times_ns[one.rows], kind="stable")]
    rows = order[np.unique(np.linspace(0, len(order) - 1, min(n, len(order))).astype(np.int64))]
    return [
        ExampleFlow(
            row["capture"],
            row["protocol"],
            (
                (row["client_address"], row["client_port"]),
                (row["server_address"], row["server_port"]),
            ),
            row["start_ns"],
        )
        for row in traffic.table.take(rows).to_pylist()
    ]
