"""A phone's live stream enters, a dataset leaves when the recording is stopped."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apptell.capture import open_capture
from apptell.dataset import BuildReport, build
from apptell.errors import CaptureError
from apptell.flows import FlowOptions, FlowReader
from apptell.flows.schema import GROUPS
from apptell.labels import OwnerLabeller, Source
from apptell.labels.pcapdroid import TrailerReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from apptell.capture import PacketBatch
    from apptell.flows import FlowBatch


@dataclass(slots=True)
class _Live:
    """Reads a live source until it is told to stop; the flows then still open are handed out."""

    address: str
    options: FlowOptions
    is_stopped: bool = False

    def stop(self, *_: object) -> None:
        """Ends the recording, from a signal's handler."""
        self.is_stopped = True

    def __call__(
        self, path: Path, annotate: Callable[[PacketBatch], PacketBatch] | None
    ) -> Iterator[FlowBatch]:
        del path  # a live source has none

        def check(batch: PacketBatch) -> PacketBatch:
            # The reader asks only while nothing arrives; a busy phone is cut off here.
            if self.is_stopped:
                raise CaptureError(f"{self.address}: stopped")
            return annotate(batch) if annotate is not None else batch

        packets = open_capture(self.address, stop=lambda: self.is_stopped)
        with FlowReader(packets, self.options, check) as flows:
            try:
                yield from flows
            except CaptureError:
                if not self.is_stopped:
                    raise


@dataclass(slots=True)
class _LiveSource(Source):
    """A source without a file."""

    @property
    def files(self) -> list[Path]:
        """None: what a phone says is said once."""
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
