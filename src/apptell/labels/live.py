"""Reads flows from a phone's exporter, labelled by the owners of their packets, until it is stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from apptell.capture import open_capture
from apptell.errors import CaptureError, LabelError
from apptell.flows import FlowReader
from apptell.labels.formats.pcapdroid import AndroidOwners, TrailerReader
from apptell.labels.labelled_capture import LabelledCapture
from apptell.labels.labellers import OwnerLabeller
from apptell.names import add_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from apptell.capture import PacketBatch
    from apptell.flows import FlowBatch, FlowOptions
    from apptell.flows.flow_reader import Observer


@dataclass(slots=True)
class LiveReader:
    """Reads a live source until it is stopped; the flows that are still open are then returned."""

    address: str
    options: FlowOptions
    opened: Callable[[], None] = field(default=lambda: None)
    """Called once, when the source is connected or waits for its sender."""
    n_packets: int = 0
    is_stopped: bool = False
    late_views: bool = False
    """What a phone sends is read once: always false."""
    _is_open: bool = False
    _is_last: bool = False

    def stop(self, *_: object) -> None:
        """Ends the recording; may be a signal's handler."""
        self.is_stopped = True

    def __call__(
        self,
        path: Path,
        annotate: Callable[[PacketBatch], PacketBatch] | None,
        observer: Observer | None = None,
    ) -> Iterator[FlowBatch]:
        """The flows; ``path`` and ``observer`` are ignored.

        Raises:
            LabelError: there is no sender.
            CaptureError: the stream is damaged; the flows before the damage were yielded.
        """
        del path, observer

        def take(batch: PacketBatch) -> PacketBatch:
            # The reader asks whether to stop only while nothing arrives; a busy phone is cut off here,
            # behind the packets that had arrived by then.
            if self._is_last:
                raise CaptureError(f"{self.address}: stopped")
            self._is_last = self.is_stopped
            self.n_packets += len(batch)
            return annotate(batch) if annotate is not None else batch

        packets = open_capture(self.address, stop=self._shall_stop)
        with FlowReader(packets, self.options, take, add_names=add_names) as flows:
            try:
                yield from flows
            except CaptureError as error:
                if self.is_stopped:
                    return
                if not self.n_packets:  # no damage to a recording: there is none
                    raise LabelError(str(error)) from error
                raise

    def parts(self, path: Path) -> Iterator[FlowBatch]:
        """None: what a phone sends is read once."""
        del path
        yield from ()

    def _shall_stop(self) -> bool:
        """Called while the source waits, which means that it is open."""
        if not self._is_open:
            self._is_open = True
            self.opened()
        return self.is_stopped


@dataclass(slots=True)
class PhoneRecording(LabelledCapture):
    """A source without a file."""

    @property
    def files(self) -> list[Path]:
        """Empty: a live stream cannot be read again."""
        return []

    @classmethod
    def of(
        cls, reader: LiveReader, groups: Mapping[str, str], rename: Mapping[str, str]
    ) -> PhoneRecording:
        """A phone that names the owner of each packet; the recording is a separate session."""
        session = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return cls(
            f"{reader.address} {session}",
            Path(),
            OwnerLabeller("pcapdroid", AndroidOwners(rename=rename)),
            reader,
            {"session": session, **groups},
            annotate=TrailerReader(),
        )
