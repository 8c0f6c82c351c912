"""Labellers put labels on the flows of a capture, and count the flows that they drop.

The counts are in the capture's ``dropped``, by reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.capture.batch import Owner
from apptell.errors import CaptureError, LabelError
from apptell.flows.schema import FlowBatch
from apptell.labels.join import (
    AMBIGUOUS,
    DEFAULT_TOLERANCE_S,
    JOINABLE_S,
    MAX_OFFSET_S,
    NONE,
    UNZONED_MAX_OFFSET_S,
    Offset,
)
from apptell.labels.labelled_capture import labelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from apptell.labels.join import LogIndex
    from apptell.labels.labelled_capture import LabelledCapture
    from apptell.labels.log_files import LogFiles

UNKNOWN_OWNER: Final = "no app known"
TWO_OWNERS: Final = "two apps in one flow"
_SAMPLE_FLOWS: Final = 20_000
"""Flows that the clock offset is estimated on; held in memory until it is known."""


@dataclass(frozen=True, slots=True)
class ConstantLabeller:
    """Gives every flow of a capture the same label."""

    app: str
    kind: str = "folders"

    def label(self, batches: Iterable[FlowBatch], source: LabelledCapture) -> Iterator[FlowBatch]:  # noqa: ARG002
        """All flows, labelled."""
        for batch in batches:
            yield labelled(batch, np.full(len(batch), self.app, dtype=object), self.kind)


@dataclass(frozen=True, slots=True)
class OwnerLabeller:
    """Labels flows by the owners that the capture itself names."""

    kind: str
    label_of_owner: Callable[[Owner], str | None]
    """The label of an owner; None where it is unknown. Pickled with the source."""

    def label(self, batches: Iterable[FlowBatch], source: LabelledCapture) -> Iterator[FlowBatch]:
        """The flows with one known owner."""
        for batch in batches:
            uid, package, name = (
                batch.column(f"owner_{part}").to_pylist() for part in ("uid", "package", "name")
            )
            owners = list(zip(uid, package, name, strict=True))
            found = {owner: self.label_of_owner(Owner(*owner)) for owner in set(owners)}
            labels = np.array([found[owner] for owner in owners], dtype=object)
            conflict = np.asarray(batch.column("owner_conflict").fill_null(False), dtype=bool)
            missing = np.array([label is None for label in labels], dtype=bool) & ~conflict
            _drop(source, TWO_OWNERS, conflict)
            _drop(source, UNKNOWN_OWNER, missing)
            yield labelled(batch, labels, self.kind).filter(~(conflict | missing))


@dataclass(frozen=True, slots=True)
class JoinLabeller:
    """Labels flows by a log that says which app used which connection, and when."""

    log: LogFiles
    tolerance_s: float = DEFAULT_TOLERANCE_S
    offset_s: float | None = None
    """Clock of the log minus clock of the capture, where it is known; else it is estimated."""

    @property
    def kind(self) -> str:
        """The log's kind."""
        return self.log.kind

    def label(self, batches: Iterable[FlowBatch], source: LabelledCapture) -> Iterator[FlowBatch]:
        """The flows that one app used.

        Raises:
            LabelError: the log cannot be read, or has none of the flows' tuples and so belongs to another
                capture.
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
            source.facts["first_bad_log_line"] = index.log.first_bad
        if damage is not None:
            raise damage

    def _offset(self, sample: list[FlowBatch], source: LabelledCapture, index: LogIndex) -> Offset:
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
                f"{source.name}: its {self.kind} log has no connection of the capture; "
                "was the log made on another day, or the capture behind a NAT?"
            )
        source.facts["clock_offset_s"] = offset.offset_ms / 1000
        source.facts["clock_pairs"] = offset.n_pairs
        source.facts["tolerance_s"] = self.tolerance_s
        return offset

    def _label_batch(
        self,
        batch: FlowBatch,
        offset: Offset,
        source: LabelledCapture,
        index: LogIndex,
        counts: Counter[str],
    ) -> FlowBatch:
        wider_s = max(JOINABLE_S, self.tolerance_s)
        app, wide = index.label(batch, offset, self.tolerance_s, wider_s)
        counts["flows"] += len(batch)
        counts["joinable"] += int(((app >= 0) & (wide >= 0)).sum())
        _drop(source, TWO_OWNERS, app == AMBIGUOUS)
        _drop(source, UNKNOWN_OWNER, app == NONE)
        keep = app >= 0
        names = np.array([*index.log.apps, None], dtype=object)
        return labelled(batch.filter(keep), names[app[keep]], self.kind)


def _core(flows: FlowBatch) -> FlowBatch:
    names = ["protocol", "start_ns", "end_ns"]
    names += [f"{side}_{part}" for side in ("client", "server") for part in ("address", "port")]
    return FlowBatch(flows.to_arrow().select(names))


def _drop(source: LabelledCapture, reason: str, rows: np.ndarray[Any, Any]) -> None:
    if n := int(rows.sum()):
        source.dropped[reason] += n
