"""A capture with its ground truth: reads its labelled flows, and counts what was dropped and why."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pyarrow as pa

from apptell.errors import CaptureError
from apptell.flows.schema import LABELS, FlowBatch
from apptell.labels.late_views import VIEW_PACKETS, LateViewLabeller
from apptell.names import read_flows
from apptell.packets.headers import TCP, UDP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from apptell.capture.batch import PacketBatch
    from apptell.flows import FlowOptions
    from apptell.flows.flow_reader import Observer

OBSERVED: Final = ("core", "segments", "names")
"""Column groups of the flows that evidence needs."""


class Labeller(Protocol):
    """Puts labels on the flows of one capture."""

    @property
    def kind(self) -> str:
        """The ground truth's name."""

    def label(self, batches: Iterable[FlowBatch], source: LabelledCapture) -> Iterator[FlowBatch]:
        """The flows that have a label, with it; what is dropped is counted in ``source``."""


class LabelledFlowReader(Protocol):
    """Reads the flows of a capture; ``annotate`` fills owners between packets and flows.

    An ``observer`` receives DNS answers and open flows. It sees the flows of both TCP and UDP, whatever
    transports were selected.
    """

    def __call__(
        self,
        path: Path,
        annotate: Callable[[PacketBatch], PacketBatch] | None,
        observer: Observer | None = None,
    ) -> Iterable[FlowBatch]:
        """The flows; a CaptureError comes after what precedes the damage."""

    @property
    def late_views(self) -> bool:
        """Whether connections are also kept from later packets (``labels.late_views``)."""

    def parts(self, path: Path) -> Iterator[FlowBatch]:
        """The flows once more, cut for late views of their connections."""


@dataclass(frozen=True, slots=True)
class CaptureFlows:
    """Reads captures; makes flows by these options."""

    options: FlowOptions
    late_views: bool = False
    """Whether connections are also kept from later packets (``labels.late_views``)."""

    def __call__(
        self,
        path: Path,
        annotate: Callable[[PacketBatch], PacketBatch] | None,
        observer: Observer | None = None,
    ) -> Iterator[FlowBatch]:
        """The flows; a CaptureError comes after what precedes the damage."""
        options = self.options
        if observer is not None:
            options = replace(options, transports=(TCP, UDP), groups=OBSERVED)
        with read_flows(path, options, annotate=annotate, observer=observer) as flows:
            yield from flows

    def parts(self, path: Path) -> Iterator[FlowBatch]:
        """The flows once more, cut for late views of their connections."""
        with read_flows(path, replace(self.options, late_view_packets=VIEW_PACKETS)) as flows:
            yield from flows


@dataclass(slots=True)
class LabelledCapture:
    """One capture with its ground truth, as a dataset's build takes it."""

    name: str
    capture: Path
    labeller: Labeller
    reader: LabelledFlowReader
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
        """The labelled flows, then late views of them; a CaptureError comes after what precedes the damage."""
        if self.logs:
            self.facts["logs"] = [log.name for log in self.logs]
        views = LateViewLabeller()
        damage: CaptureError | None = None
        try:
            for batch in self.labeller.label(self.reader(self.capture, self.annotate), self):
                if self.reader.late_views:
                    views.remember(batch)
                yield with_groups(batch, self.groups)
        except CaptureError as error:
            damage = error
        self.facts.update(getattr(self.annotate, "facts", {}))
        with suppress(CaptureError):  # it is the same damage
            for batch in views.of(self.reader.parts(self.capture)):
                yield with_groups(batch, self.groups)
        if damage is not None:
            raise damage


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
