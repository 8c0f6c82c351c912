"""Labels the flows of captures by names, DNS answers and addresses, without a phone's log.

The label is the verdict of ``verdicts.evidence`` on the flow, without a model: an app of the catalogue, or
``other`` where the flow belongs to a service that many apps share. A flow that no evidence speaks of, but whose
server is in a block of addresses in which names told one app alone, in any of the captures, is labelled as this
app: a weaker source, for labels only. Blocks are the smallest that networks announce to each other.
``label_source`` says what a label rests on. All captures are read for their names before the first is labelled.

A model that reads names would learn to repeat these labels. Flows labelled in this way are learned from with
names masked, and what is measured on them is marked (``apptell.experiments``).
"""

from __future__ import annotations

import ipaddress
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
from apptell.verdicts.schema import NO_EVIDENCE, OTHER, OUTCOMES, UNLISTED_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

BLOCK: Final = "block"
"""The label source of a flow to a block of addresses that one app alone was reached in."""
LABEL_SOURCES: Final = (*BY_NAME, BLOCK)
BLOCK_BITS: Final = {4: 24, 6: 48}
"""Length of the prefix of a block by IP version: the longest that networks announce to each other."""
SHARED_KINDS: Final = ("platform", "cdn", "sdk", "ads")
"""Kinds of services whose flows no app is named for; they are labelled OTHER."""
_PART: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
_NO_LABEL: Final = -1
_AMBIGUOUS: Final = -2
_NO_BLOCK: Final = -1
_TYPES: Final = (np.uint64, np.int32, np.int8, np.int8, np.int32)


@dataclass(frozen=True)
class Names(LabelFormat):
    """Any capture, its flows labelled by names, DNS answers and addresses. Used only on request."""

    name: ClassVar[str] = NAME_LABELS
    known: dict[Path, KnownFlows] = field(default_factory=dict)
    """What a survey found in each capture."""

    def detect(self, candidate: Candidate) -> bool:  # noqa: ARG002
        """Never: labels by names are asked for, because a model must not read the names that it learns from."""
        return False

    def survey(self, candidates: Sequence[Candidate]) -> Names:
        """The format that knows what names say in all captures.

        Raises:
            CatalogueError: a file of the catalogue cannot be read, or one of its rows is wrong.
        """
        found = Survey()
        for candidate in candidates:
            if candidate.is_capture:
                found.read(candidate)
        found.settle_blocks()
        return Names(found.known)

    def read(self, candidate: Candidate) -> Iterator[LabelledCapture]:
        """The capture."""
        if candidate.is_capture:
            known = self.known.get(candidate.path)
            if known is None:
                known = self.survey([candidate]).known[candidate.path]
            yield LabelledCapture(
                candidate.name,
                candidate.path,
                NameLabeller(known),
                candidate.reader,
                candidate.recorded_groups,
            )


@dataclass(frozen=True, slots=True)
class NameLabeller:
    """Labels the flows of a capture by what is known of them; pickled with its source."""

    known: KnownFlows

    @property
    def kind(self) -> str:
        """The ground truth's name."""
        return NAME_LABELS

    def label(self, batches: Iterable[FlowBatch], source: LabelledCapture) -> Iterator[FlowBatch]:
        """The flows that an app or a shared service is known of."""
        kinds = Counter[str]()
        for batch in batches:
            label, kind, outcome = self.known.look_up(batch)
            has_label = label >= 0
            for number, n in enumerate(np.bincount(outcome[~has_label], minlength=len(OUTCOMES))):
                if n:
                    source.dropped[OUTCOMES[number]] += int(n)
            kept, kind = batch.filter(has_label), kind[has_label]
            if not len(kept):
                continue
            names = np.array(self.known.labels, dtype=object)[label[has_label]]
            sources = pa.array(LABEL_SOURCES, pa.string()).take(pa.array(kind))
            kinds.update(sources.to_pylist())
            yield labelled(kept, names, self.kind).with_columns(label_source=sources)
        source.facts["label_sources"] = {name: kinds[name] for name in LABEL_SOURCES if kinds[name]}


@dataclass(slots=True)
class KnownFlows:
    """What evidence says of the flows of a capture: 18 bytes each."""

    keys: NDArray[np.uint64]
    """Of each flow (``_keys``), ascending, shape (n,)."""
    label: NDArray[np.int32]
    """Place in ``labels``, or _NO_LABEL, shape (n,)."""
    kind: NDArray[np.int8]
    """Place of its evidence in LABEL_SOURCES, -1 for none, shape (n,)."""
    outcome: NDArray[np.int8]
    """Place in OUTCOMES, shape (n,)."""
    block: NDArray[np.int32]
    """Number of the server's block of addresses, or _NO_BLOCK, shape (n,)."""
    labels: list[str]
    """Those of all captures."""

    def look_up(
        self, flows: FlowBatch
    ) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int8]]:
        """Label, evidence and outcome of n flows as numbers, each of shape (n,)."""
        n, wanted = len(flows), _keys(flows.to_arrow())
        label = np.full(n, _NO_LABEL, dtype=np.int32)
        kind, outcome = np.full(n, -1, np.int8), np.full(n, OUTCOMES.index(NO_EVIDENCE), np.int8)
        if len(self.keys):
            at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            found = self.keys[at] == wanted
            at = at[found]
            label[found], kind[found] = self.label[at], self.kind[at]
            outcome[found] = self.outcome[at]
        return label, kind, outcome


class Survey:
    """Reads captures for their names, one after the other."""

    def __init__(self) -> None:
        self.known: dict[Path, KnownFlows] = {}
        self._labels: dict[str, int] = {}
        self._blocks: dict[str, int] = {}
        self._block_of: dict[str, int] = {}

    def read(self, candidate: Candidate) -> None:
        """Reads a capture; where it is damaged, what precedes the damage counts.

        Raises:
            CatalogueError: a file of the catalogue cannot be read, or one of its rows is wrong.
        """
        options = candidate.options
        evidence = Evidence(_catalogue(tuple(map(str, options.catalogue))), EvidenceOptions())
        columns: list[list[NDArray[np.generic]]] = [[] for _ in _TYPES]
        flows = candidate.reader(candidate.path, None, evidence)
        try:
            for _, verdicts in flows_and_verdicts(flows, evidence=evidence):
                batch = verdicts.to_arrow()
                labels = [
                    None if name is None else options.rename.get(name, name)
                    for name in _label_names(batch)
                ]
                servers = batch.column("server_address").to_pylist()
                columns[0].append(_keys(batch))
                columns[1].append(np.array([self._label(name) for name in labels], np.int32))
                columns[2].append(_places(batch.column("evidence"), BY_NAME))
                columns[3].append(_places(batch.column("outcome"), OUTCOMES))
                columns[4].append(np.array([self._block(server) for server in servers], np.int32))
        except CaptureError:
            pass  # whoever reads the flows again comes to the damage too
        keys, label, kind, outcome, block = (
            np.concatenate(column) if column else np.zeros(0, dtype)
            for column, dtype in zip(columns, _TYPES, strict=True)
        )
        order = np.argsort(keys, kind="stable")
        self.known[candidate.path] = KnownFlows(
            keys[order], label[order], kind[order], outcome[order], block[order], []
        )

    def settle_blocks(self) -> None:
        """Labels the flows that no evidence speaks of by their blocks, and hands out the labels."""
        app_of = np.full(len(self._blocks), _NO_LABEL, dtype=np.int32)
        by_names = [BY_NAME.index("name"), BY_NAME.index("dns")]
        unlisted = OUTCOMES.index(UNLISTED_NAME)
        for each in self.known.values():
            is_named = np.isin(each.kind, by_names) & (each.block != _NO_BLOCK)
            for block, label, outcome in zip(
                *(column[is_named].tolist() for column in (each.block, each.label, each.outcome)),
                strict=True,
            ):
                said = _AMBIGUOUS if outcome == unlisted or label < 0 else label
                app_of[block] = said if app_of[block] in (_NO_LABEL, said) else _AMBIGUOUS
        app_of[app_of == _AMBIGUOUS] = _NO_LABEL
        nothing = OUTCOMES.index(NO_EVIDENCE)
        for each in self.known.values():
            is_open = (each.outcome == nothing) & (each.block != _NO_BLOCK)
            is_open[is_open] = app_of[each.block[is_open]] != _NO_LABEL
            each.label[is_open] = app_of[each.block[is_open]]
            each.kind[is_open] = LABEL_SOURCES.index(BLOCK)
            each.labels = list(self._labels)

    def _label(self, name: str | None) -> int:
        return _NO_LABEL if name is None else self._labels.setdefault(name, len(self._labels))

    def _block(self, address: str | None) -> int:
        """The number of an address's block; none of an address that is not the internet's."""
        if address is None:
            return _NO_BLOCK
        number = self._block_of.get(address)
        if number is None:
            parsed = ipaddress.ip_address(address)
            number = _NO_BLOCK
            if parsed.is_global and not parsed.is_multicast:
                block = ipaddress.ip_network((parsed, BLOCK_BITS[parsed.version]), strict=False)
                number = self._blocks.setdefault(str(block), len(self._blocks))
            self._block_of[address] = number
        return number


@lru_cache(maxsize=4)
def _catalogue(files: tuple[str, ...]) -> Catalogue:
    return Catalogue.load(files)


def _label_names(batch: pa.RecordBatch) -> list[str | None]:
    """The app of each verdict; OTHER for a shared service."""
    shared = pc.is_in(batch.column("service_kind"), pa.array(SHARED_KINDS)).to_pylist()
    return [
        name if name is not None else OTHER if is_shared else None
        for name, is_shared in zip(batch.column("app").to_pylist(), shared, strict=True)
    ]


def _keys(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """A number for each part of a connection, shape (n,)."""
    connection = np.asarray(batch.column("connection_id"), dtype=np.uint64)
    return connection ^ (np.asarray(batch.column("part")).astype(np.uint64) * _PART)


def _places(values: pa.Array, words: tuple[str, ...]) -> NDArray[np.int8]:
    return np.asarray(pc.index_in(values, pa.array(words)).fill_null(-1), dtype=np.int8)
