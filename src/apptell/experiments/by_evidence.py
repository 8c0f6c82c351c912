"""Measures each kind of evidence on labelled flows of a dataset.

A dataset stores the names of flows and, where they were known, the names that were asked in DNS. It does not
store the packets between flows, so evidence from other flows (``address``, ``context``) cannot be measured.
Evidence is measured only if a caller chooses its kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.catalogue import Catalogue
from apptell.errors import UsageError
from apptell.verdicts.evidence import Evidence, EvidenceOptions
from apptell.verdicts.schema import EVIDENCE_KINDS, OTHER
from apptell.verdicts.stored_flows import stored_evidence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

_COLUMNS: Final = {"name": ("server_name", "http_host"), "dns": ("dns_name",)}


@dataclass(frozen=True, slots=True)
class KindFigures:
    """What one kind of evidence decided."""

    kind: str
    """One of STORED_KINDS."""
    n_flows: int
    """Flows that it named as an app or as background."""
    share: float
    """These among all flows: its coverage."""
    accuracy: float
    """Share of them that were named correctly; 0 if there are none."""


@dataclass(frozen=True, slots=True)
class EvidenceFigures:
    """The figures of the kinds of evidence, in their order, on n labelled flows."""

    n_flows: int
    kinds: tuple[KindFigures, ...]
    """In their order; each decides only the flows that those before it left undecided."""
    coverage: float
    """Share of the flows that any kind named."""
    accuracy: float
    """Share of the named flows that were named correctly."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, as ``metrics.json`` holds them."""
        return {
            "flows": self.n_flows,
            "coverage": self.coverage,
            "accuracy": self.accuracy,
            "kinds": {
                each.kind: {
                    "flows": each.n_flows,
                    "share": each.share,
                    "accuracy": each.accuracy,
                }
                for each in self.kinds
            },
        }


class EvidenceOfFlows:
    """The evidence without a model on labelled flows.

    Args:
        kinds: kinds of evidence, separated by commas, of STORED_KINDS.
        catalogue: files with rows that are added to the shipped catalogue.
        flows: n flows with the groups *core* and *names*.
        truth: the class of each; of an activity, its app counts.

    Raises:
        UsageError: a kind cannot be measured on these flows.
        CatalogueError: a file of the catalogue cannot be read.
    """

    def __init__(
        self, kinds: str, catalogue: Sequence[str | Path], flows: FlowBatch, truth: Sequence[str]
    ) -> None:
        options = check_kinds(kinds)
        self.kinds = tuple(kind for kind in EVIDENCE_KINDS if kind in options.kinds)
        for kind in self.kinds:
            columns = _COLUMNS.get(kind, ())
            if columns and all(flows.column(name).null_count == len(flows) for name in columns):
                raise UsageError(f"evidence {kind!r}: the dataset stores no {_called(kind)}")
        known = Catalogue.load([str(file) for file in catalogue])
        self._ids = {app.name.casefold(): app.id for app in known.apps.values()}
        self._truth = np.array([self._one(label) for label in truth], dtype=object)
        asked = options.kinds & {"name", "dns", "range"}
        self._kind = np.full(len(flows), "", dtype=object)
        self._said = np.full(len(flows), "", dtype=object)
        if asked:
            found = Evidence(known, EvidenceOptions(asked)).resolve(flows).columns()
            apps, rests_on = found["app"].to_pylist(), found["evidence"].to_pylist()
            for row, (app, rests) in enumerate(zip(apps, rests_on, strict=True)):
                if app is not None:
                    self._said[row], self._kind[row] = app, rests

    def measure(
        self,
        guess: Sequence[str] = (),
        is_accepted: NDArray[np.bool_] | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> EvidenceFigures:
        """The figures, with a model if it is among the kinds.

        Args:
            guess: the model's likeliest class of each of m flows.
            is_accepted: whether its confidence reached the threshold, shape (m,); None without a model.
            rows: which of the n flows the m are (default: all).
        """
        chosen = np.arange(len(self._truth)) if rows is None else rows
        truth, said, kind = self._truth[chosen], self._said[chosen], self._kind[chosen]
        if "model" in self.kinds and is_accepted is not None:
            open_rows = np.flatnonzero((said == "") & is_accepted)
            said[open_rows] = [self._one(guess[row]) for row in open_rows.tolist()]
            kind[open_rows] = "model"
        n, is_right = len(truth), said == truth
        figures = []
        for each in self.kinds:
            is_of = kind == each
            m = int(is_of.sum())
            figures.append(KindFigures(each, m, m / max(n, 1), _mean(is_right[is_of])))
        is_named = said != ""
        return EvidenceFigures(n, tuple(figures), _mean(is_named), _mean(is_right[is_named]))

    def _one(self, label: str) -> str:
        """An app's id in the catalogue, by its id or name; an unlisted label is unchanged."""
        app = label.partition("/")[0]
        if app == OTHER:
            return OTHER
        return self._ids.get(app.casefold(), app)


def check_asked(kinds: str | None, catalogue: Sequence[str | Path]) -> None:
    """Refuses kinds that stored flows cannot be asked for, and a catalogue that nothing asks.

    Raises:
        UsageError: either.
    """
    if kinds is not None:
        check_kinds(kinds)
    elif catalogue:
        raise UsageError(
            "a catalogue is used only for evidence: choose kinds of evidence", argument="evidence"
        )


def check_kinds(kinds: str) -> EvidenceOptions:
    """Kinds of evidence that stored flows can be asked for.

    Raises:
        UsageError: an unknown kind, or one that needs packets that a dataset does not store.
    """
    return stored_evidence(EvidenceOptions.parse(kinds))


def _called(kind: str) -> str:
    return "names of flows" if kind == "name" else "names that were asked in DNS"


def _mean(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else 0.0
