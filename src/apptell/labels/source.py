"""A capture and its ground truth enter; labelled flows leave, with what was dropped and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pyarrow as pa

from apptell.errors import CaptureError, LabelError
from apptell.flows.schema import LABELS, FlowBatch
from apptell.labels.formats.pcapdroid import TrailerReader
from apptell.labels.formats.pcapdroid_csv import packages_of
from apptell.labels.join import (
    AMBIGUOUS,
    DEFAULT_TOLERANCE_S,
    JOINABLE_S,
    MAX_OFFSET_S,
    NONE,
    UNZONED_MAX_OFFSET_S,
    Offset,
)
from apptell.labels.naming import label_of
from apptell.names import read_flows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from apptell.capture.batch import PacketBatch
    from apptell.flows import FlowOptions
    from apptell.labels.join import LogIndex
    from apptell.labels.logfile import LogFile

UNKNOWN_OWNER: Final = "no app known"
TWO_OWNERS: Final = "two apps in one flow"
_SAMPLE_FLOWS: Final = 20_000
"""Flows that the clock offset is estimated on; held in memory until it is known."""


class Labeller(Protocol):
    """Puts labels on the flows of one capture."""

    @property
    def kind(self) -> str:
        """The ground truth's name."""

    def label(self, batches: Iterable[FlowBatch], source: Source) -> Iterator[FlowBatch]:
        """The flows that have a label, with it; what is dropped is counted in ``source``."""


class Reader(Protocol):
    """Reads the flows of a capture; ``annotate`` fills owners between packets and flows."""

    def __call__(
        self, path: Path, annotate: Callable[[PacketBatch], PacketBatch] | None
    ) -> Iterable[FlowBatch]:
        """The flows; a CaptureError comes after what precedes the damage."""


@dataclass(frozen=True, slots=True)
class CaptureFlows:
    """Reads captures; makes flows by these options."""

    options: FlowOptions

    def __call__(
        self, path: Path, annotate: Callable[[PacketBatch], PacketBatch] | None
    ) -> Iterator[FlowBatch]:
        """The flows; a CaptureError comes after what precedes the damage."""
        with read_flows(path, self.options, annotate=annotate) as flows:
            yield from flows


def flow_reader(options: FlowOptions) -> Reader:
    """A reader of captures that makes flows by these options."""
    return CaptureFlows(options)


@dataclass(slots=True)
class Source:
    """One capture with its ground truth, as a dataset's build takes it."""

    name: str
    capture: Path
    labeller: Labeller
    reader: Reader
    groups: Mapping[str, str] = field(default_factory=dict)
    """Groups of all its flows, such as source and version."""
    logs: Sequence[Path] = ()
    """Files beside the capture that the labels come from."""
    annotate: Callable[[PacketBatch], PacketBatch] | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The ground truth's kind."""
        return self.labeller.kind

    @property
    def files(self) -> list[Path]:
        """The capture: the same one with another log is still the same flows."""
        return [self.capture]

    def flows(self) -> Iterator[FlowBatch]:
        """The labelled flows; a CaptureError comes after what precedes the damage."""
        if self.logs:
            self.facts["logs"] = [log.name for log in self.logs]
        for batch in self.labeller.label(self.reader(self.capture, self.annotate), self):
            yield with_groups(batch, self.groups)
        if isinstance(self.annotate, TrailerReader):
            self.facts["trailers"] = self.annotate.n_trailers
            self.facts["bad_fcs"] = self.annotate.n_bad_fcs


@dataclass(frozen=True, slots=True)
class ConstantLabeller:
    """Every flow of the capture is one app's."""

    app: str
    kind: str = "folders"

    def label(self, batches: Iterable[FlowBatch], source: Source) -> Iterator[FlowBatch]:  # noqa: ARG002
        """All flows, labelled."""
        for batch in batches:
            yield labelled(batch, np.full(len(batch), self.app, dtype=object), self.kind)


@dataclass(frozen=True, slots=True)
class OwnerLabeller:
    """The capture itself names the owner of each packet."""

    kind: str
    has_uids: bool = True
    """The numbers are Android's uids, not process ids."""
    lists: tuple[Path, ...] = ()
    """PCAPdroid's lists of connections beside the capture: they have the packages."""
    rename: Mapping[str, str] = field(default_factory=dict)

    def label(self, batches: Iterable[FlowBatch], source: Source) -> Iterator[FlowBatch]:
        """The flows with one known owner."""
        packages = packages_of(self.lists) if self.lists else {}
        for batch in batches:
            uid, package, name = (
                batch.column(f"owner_{part}").to_pylist() for part in ("uid", "package", "name")
            )
            table: dict[tuple[int | None, str | None, str | None], str | None] = {}
            labels = np.full(len(batch), None, dtype=object)
            for row, owner in enumerate(zip(uid, package, name, strict=True)):
                if owner not in table:
                    table[owner] = self._label(*owner, packages)
                labels[row] = table[owner]
            conflict = np.asarray(batch.column("owner_conflict").fill_null(False), dtype=bool)
            missing = np.array([label is None for label in labels], dtype=bool) & ~conflict
            _drop(source, TWO_OWNERS, conflict)
            _drop(source, UNKNOWN_OWNER, missing)
            yield labelled(batch, labels, self.kind).filter(~(conflict | missing))

    def _label(
        self,
        uid: int | None,
        package: str | None,
        name: str | None,
        packages: Mapping[int, tuple[str, str]],
    ) -> str | None:
        if not self.has_uids:
            return label_of(uid=None, package=package, name=name, rename=self.rename)
        if package is None and uid is not None and uid in packages:
            title, listed = packages[uid]
            # A trailer's name is the title cut to 19 bytes; another one is another phone's uid.
            if name is None or name == title.encode()[:19].decode("utf-8", errors="ignore"):
                package = listed
        return label_of(uid=uid, package=package, name=name, rename=self.rename)


@dataclass(frozen=True, slots=True)
class JoinLabeller:
    """A log beside the capture says which app used which connection, and when."""

    log: LogFile
    tolerance_s: float = DEFAULT_TOLERANCE_S
    offset_s: float | None = None
    """Clock of the log minus clock of the capture, where it is known; else it is estimated."""

    @property
    def kind(self) -> str:
        """The log's kind."""
        return self.log.kind

    def label(self, batches: Iterable[FlowBatch], source: Source) -> Iterator[FlowBatch]:
        """The flows that one app used.

        Raises:
            LabelError: the log cannot be read, or no flow's tuple occurs in it: it was made elsewhere.
        """
        index = self.log.index()
        waiting: list[FlowBatch] = []
        offset: Offset | None = None
        damage: CaptureError | None = None
        counts = Counter[str]()
        stream = iter(batches)
        while True:
            try:
                batch = next(stream, None)
            except CaptureError as error:
                damage, batch = error, None
            if batch is not None:
                waiting.append(batch)
            if offset is None and (batch is None or sum(map(len, waiting)) >= _SAMPLE_FLOWS):
                offset = self._offset(waiting, source, index)
            if offset is not None:
                for ready in waiting:
                    yield self._label_batch(ready, offset, source, index, counts)
                waiting.clear()
            if batch is None:
                break
        source.facts["joinable_share"] = round(counts["joinable"] / max(counts["flows"], 1), 6)
        if index.log.n_bad:
            source.facts["bad_log_lines"] = index.log.n_bad
        if damage is not None:
            raise damage

    def _offset(self, sample: list[FlowBatch], source: Source, index: LogIndex) -> Offset:
        core = FlowBatch.concat([_core(batch) for batch in sample]) if sample else None
        if self.offset_s is not None:
            offset = Offset(round(self.offset_s * 1000), 0, 0)
        elif core is None:
            offset = Offset(0, 0, 0)
        else:
            reach = MAX_OFFSET_S if self.log.is_zone_known else UNZONED_MAX_OFFSET_S
            offset = index.estimate(core, reach)
        if core is not None and len(core) and not (index.keys_of(core)[0] >= 0).any():
            raise LabelError(
                f"{source.name}: no connection of the capture is in its {self.kind} log; "
                "was the log made on another day, or the capture behind a translation of addresses?"
            )
        source.facts["clock_offset_s"] = offset.offset_ms / 1000
        source.facts["clock_pairs"] = offset.n_pairs
        source.facts["tolerance_s"] = self.tolerance_s
        return offset

    def _label_batch(
        self,
        batch: FlowBatch,
        offset: Offset,
        source: Source,
        index: LogIndex,
        counts: Counter[str],
    ) -> FlowBatch:
        app = index.label(batch, offset, self.tolerance_s)
        wide = index.label(batch, offset, max(JOINABLE_S, self.tolerance_s))
        counts["flows"] += len(batch)
        counts["joinable"] += int(((app >= 0) & (wide >= 0)).sum())
        _drop(source, TWO_OWNERS, app == AMBIGUOUS)
        _drop(source, UNKNOWN_OWNER, app == NONE)
        keep = app >= 0
        names = np.array([*index.log.apps, None], dtype=object)
        return labelled(batch.filter(keep), names[app[keep]], self.kind)


def labelled(flows: FlowBatch, labels: np.ndarray[Any, Any], kind: str) -> FlowBatch:
    """The flows with their labels, shape (n,), and where these came from."""
    return flows.with_columns(
        label=pa.array(labels, pa.string()), label_from=pa.array([kind] * len(flows), pa.string())
    )


def with_groups(flows: FlowBatch, groups: Mapping[str, str]) -> FlowBatch:
    """The flows with these groups on each; those they have already stay."""
    old = flows.column("groups") if "groups" in flows.columns else pa.nulls(len(flows))
    n, names = len(flows), list(groups)
    if old.null_count < n:
        rows = [list({**groups, **dict(row or ())}.items()) for row in old.to_pylist()]
        return flows.with_columns(groups=pa.array(rows, LABELS["groups"]))
    keys = pa.array(names * n, pa.string())
    items = pa.array([groups[name] for name in names] * n, pa.string())
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * len(names))
    return flows.with_columns(groups=pa.MapArray.from_arrays(offsets, keys, items))


def _core(flows: FlowBatch) -> FlowBatch:
    names = ["protocol", "start_ns", "end_ns"]
    names += [f"{side}_{part}" for side in ("client", "server") for part in ("address", "port")]
    return FlowBatch(flows.to_arrow().select(names))


def _drop(source: Source, reason: str, rows: np.ndarray[Any, Any]) -> None:
    if n := int(rows.sum()):
        source.dropped[reason] += n
