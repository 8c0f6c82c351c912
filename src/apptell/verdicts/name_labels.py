"""Captures in; their flows out, labelled by what names, DNS answers and addresses say: no phone is needed.

The label is the verdict of ``verdicts.evidence`` on the flow, without a model: an app of the catalogue, or
``other`` where the flow belongs to a service that many apps share. ``label_source`` says what it rests on. A
capture is read twice: what a flow that ends late says may name one that ended before it.

A model that reads names would learn to repeat these labels. Flows labelled in this way are learned from with
names masked, and what is measured on them is marked (``apptell.experiments``).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.catalogue import Catalogue
from apptell.errors import CaptureError
from apptell.labels.format import Candidate, LabelFormat
from apptell.labels.labelled_capture import LabelledCapture, labelled
from apptell.labels.naming import NAME_LABELS
from apptell.verdicts.evidence import BY_NAME, Evidence, EvidenceOptions
from apptell.verdicts.pipeline import flows_and_verdicts
from apptell.verdicts.schema import NO_EVIDENCE, OTHER, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

SHARED_KINDS: Final = ("platform", "cdn", "sdk", "ads")
"""Kinds of services whose flows no app is named for; they are labelled OTHER."""
_PART: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
_NO_LABEL: Final = -1


class Names(LabelFormat):
    """Any capture, its flows labelled by names, DNS answers, addresses and ranges. Used only on request."""

    name: ClassVar[str] = NAME_LABELS

    def detect(self, candidate: Candidate) -> bool:  # noqa: ARG002
        """Never: labels by names are asked for, because a model must not read the names that it learns from."""
        return False

    def read(self, candidate: Candidate) -> Iterator[LabelledCapture]:
        """The capture."""
        if candidate.is_capture:
            options = candidate.options
            labeller = NameLabeller(tuple(map(str, options.catalogue)), options.rename)
            yield LabelledCapture(
                candidate.name,
                candidate.path,
                labeller,
                candidate.reader,
                candidate.recorded_groups,
            )


@dataclass(frozen=True, slots=True)
class NameLabeller:
    """Labels flows by evidence; pickled with its source.

    Raises:
        CatalogueError: a file of the catalogue cannot be read, or one of its rows is wrong.
    """

    catalogue: tuple[str, ...] = ()
    """Files with rows that are added to the catalogue of apps."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Id of an app to label."""

    def __post_init__(self) -> None:
        _catalogue(self.catalogue)

    @property
    def kind(self) -> str:
        """The ground truth's name."""
        return NAME_LABELS

    def label(self, batches: Iterable[FlowBatch], source: LabelledCapture) -> Iterator[FlowBatch]:
        """The flows that an app or a shared service is known of."""
        known = _KnownFlows.of(source, _catalogue(self.catalogue), self.rename)
        kinds = Counter[str]()
        for batch in batches:
            label, kind, outcome = known.look_up(batch)
            has_label = label >= 0
            for number, n in enumerate(np.bincount(outcome[~has_label], minlength=len(OUTCOMES))):
                if n:
                    source.dropped[OUTCOMES[number]] += int(n)
            kept, kind = batch.filter(has_label), kind[has_label]
            if not len(kept):
                continue
            names = np.array(known.labels, dtype=object)[label[has_label]]
            sources = pa.array(BY_NAME, pa.string()).take(pa.array(kind))
            for name, n in zip(BY_NAME, np.bincount(kind, minlength=len(BY_NAME)), strict=True):
                kinds[name] += int(n)
            yield labelled(kept, names, self.kind).with_columns(label_source=sources)
        source.facts["label_sources"] = {name: kinds[name] for name in BY_NAME if kinds[name]}


@lru_cache(maxsize=4)
def _catalogue(files: tuple[str, ...]) -> Catalogue:
    return Catalogue.load(files)


@dataclass(frozen=True, slots=True)
class _KnownFlows:
    """What evidence says of the flows of a capture: 12 bytes each."""

    keys: NDArray[np.uint64]
    """Of each flow (``_keys``), ascending, shape (n,)."""
    label: NDArray[np.int16]
    """Place in ``labels``, or _NO_LABEL, shape (n,)."""
    kind: NDArray[np.int8]
    """Place of its evidence in BY_NAME, shape (n,)."""
    outcome: NDArray[np.int8]
    """Place in OUTCOMES, shape (n,)."""
    labels: list[str]

    @classmethod
    def of(
        cls, source: LabelledCapture, catalogue: Catalogue, rename: Mapping[str, str]
    ) -> _KnownFlows:
        """Reads a capture for its names; where it is damaged, what precedes the damage counts."""
        evidence = Evidence(catalogue, EvidenceOptions())
        labels: dict[str, int] = {}
        columns: list[list[NDArray[np.generic]]] = [[], [], [], []]
        flows = source.reader(source.capture, None, evidence)
        try:
            for _, verdicts in flows_and_verdicts(flows, evidence=evidence):
                batch = verdicts.to_arrow()
                app, service = batch.column("app").to_pylist(), batch.column("service_kind")
                is_shared = np.asarray(pc.is_in(service, pa.array(SHARED_KINDS)))
                kind = _places(batch.column("evidence"), BY_NAME)
                names = [
                    name if name is not None else OTHER if shared else None
                    for name, shared in zip(app, is_shared.tolist(), strict=True)
                ]
                columns[0].append(_keys(batch))
                columns[1].append(
                    np.array(
                        [
                            _NO_LABEL
                            if name is None
                            else labels.setdefault(rename.get(name, name), len(labels))
                            for name in names
                        ],
                        dtype=np.int16,
                    )
                )
                columns[2].append(kind)
                columns[3].append(_places(batch.column("outcome"), OUTCOMES))
        except CaptureError:
            pass  # whoever reads the flows again comes to the damage too
        types = (np.uint64, np.int16, np.int8, np.int8)
        keys, label, kind, outcome = (
            np.concatenate(column) if column else np.zeros(0, dtype)
            for column, dtype in zip(columns, types, strict=True)
        )
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], label[order], kind[order], outcome[order], list(labels))

    def look_up(
        self, flows: FlowBatch
    ) -> tuple[NDArray[np.int16], NDArray[np.int8], NDArray[np.int8]]:
        """Label, evidence and outcome of n flows as numbers, each of shape (n,)."""
        n, wanted = len(flows), _keys(flows.to_arrow())
        label = np.full(n, _NO_LABEL, dtype=np.int16)
        kind, outcome = np.full(n, -1, np.int8), np.full(n, OUTCOMES.index(NO_EVIDENCE), np.int8)
        if len(self.keys):
            at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            found = self.keys[at] == wanted
            at = at[found]
            label[found], kind[found], outcome[found] = (
                self.label[at],
                self.kind[at],
                self.outcome[at],
            )
        return label, kind, outcome


def _keys(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """A number for each part of a connection, shape (n,)."""
    connection = np.asarray(batch.column("connection_id"), dtype=np.uint64)
    return connection ^ (np.asarray(batch.column("part")).astype(np.uint64) * _PART)


def _places(values: pa.Array, words: tuple[str, ...]) -> NDArray[np.int8]:
    return np.asarray(pc.index_in(values, pa.array(words)).fill_null(-1), dtype=np.int8)
