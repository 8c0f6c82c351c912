"""A phone's live stream enters, a dataset leaves when the recording is stopped."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apptell.dataset import BuildReport, build
from apptell.errors import CaptureError
from apptell.flows import FlowOptions, read_flows
from apptell.flows.schema import GROUPS
from apptell.labels import OwnerLabeller, Source
from apptell.labels.pcapdroid import TrailerReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from apptell.capture import PacketBatch
    from apptell.flows import FlowBatch


class _StoppedError(CaptureError):
    """The user, or the clock, ended the recording; all that came before counts."""


@dataclass(slots=True)
class _Live:
    """Reads a live source until it is told to stop; the flows then still open are handed out."""

    address: str
    options: FlowOptions
    is_stopped: bool = False
    _is_waiting: bool = field(default=False)

    def stop(self, *_: object) -> None:
        """Ends the recording, from a signal's handler."""
        self.is_stopped = True
        if self._is_waiting:
            raise _StoppedError(f"{self.address}: stopped")

    def __call__(
        self, path: Path, annotate: Callable[[PacketBatch], PacketBatch] | None
    ) -> Iterator[FlowBatch]:
        del path  # a live source has none

        def check(batch: PacketBatch) -> PacketBatch:
            if self.is_stopped:
                raise _StoppedError(f"{self.address}: stopped")
            return annotate(batch) if annotate is not None else batch

        with read_flows(self.address, self.options, annotate=check) as reader:
            flows = iter(reader)
            while True:
                # Only while packets are awaited may a signal cut in; never while flows are written.
                self._is_waiting = not self.is_stopped
                try:
                    batch = next(flows, None)
                except _StoppedError:
                    return
                finally:
                    self._is_waiting = False
                if batch is None:
                    return
                yield batch


@dataclass(slots=True)
class _LiveSource(Source):
    """A source without a file."""

    @property
    def files(self) -> list[Path]:
        return []


def record(
    address: str, output: Path, groups: Mapping[str, str], *, udp: bool, seconds: float | None
) -> BuildReport:
    """Records a phone that names its packets' owners, until SIGINT, SIGTERM or the time is over.

    Args:
        address: a live source, such as ``pcapdroid+udp://:1234``.
        output: the dataset's folder; what is there is kept.
        groups: of everything recorded.
        udp: flows of UDP too.
        seconds: how long; None until it is stopped.

    Raises:
        CaptureError: the source cannot be opened.
    """
    began = datetime.now(UTC)
    options = FlowOptions(protocols=(6, 17) if udp else (6,), groups=tuple(GROUPS))
    live = _Live(address, options)
    session = began.strftime("%Y-%m-%dT%H:%M:%SZ")
    source = _LiveSource(
        f"{address} {session}",
        Path(),
        OwnerLabeller("pcapdroid"),
        live,
        {"session": session, **groups},
        annotate=TrailerReader(),
    )
    with _signals(live, seconds):
        return build([source], output)


@contextmanager
def _signals(live: _Live, seconds: float | None) -> Iterator[None]:
    kinds = [signal.SIGINT, signal.SIGTERM, *([signal.SIGALRM] if seconds else [])]
    old: dict[int, Any] = {kind: signal.signal(kind, live.stop) for kind in kinds}
    try:
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind, handler in old.items():
            signal.signal(kind, handler)
