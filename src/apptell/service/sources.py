"""Sources of the live pipeline: an interface, a stream or a replayed file.

A source also gives the time: the clock for an interface; for a stream, the last packet's time plus the time
    since its arrival; for a file, only the packets' time.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from apptell.capture import open_capture
from apptell.errors import ApptellError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from apptell.capture.batch import PacketBatch
    from apptell.capture.live import LiveCapture

IDLE_S: Final = 0.1
"""Longest silence of a source, after which it yields None so that timers run."""
MAX_GAP_S: Final = 60.0
"""Longest wait of a replay for its next packet; a longer gap in a capture is skipped."""
_SECOND: Final = 1_000_000_000


class PacketSource(Protocol):
    """A source of packets."""

    name: str
    is_lossless: bool
    """Whether the sender waits for the pipeline; otherwise packets are dropped if the pipeline is slow."""
    is_live: bool
    """Whether packets carry this machine's time."""
    interval_s: float
    """How long to let packets gather between the beginnings of two batches, s. The source decides whether it
    can."""

    def batches(self) -> Iterator[PacketBatch | None]:
        """Packets, or None if none arrived for ``IDLE_S``; a batch is valid until the next is requested."""

    def now_ns(self) -> int | None:
        """The time for timers, ns since 1970 UTC; None if only packets give the time."""

    def dropped(self) -> int:
        """Packets lost before they were read."""

    def close(self) -> None:
        """Ends the source."""


class InterfaceSource:
    """An interface of this machine."""

    is_lossless = False
    is_live = True

    def __init__(self, capture: LiveCapture) -> None:
        self.interval_s = 0.0
        self.name = capture.name
        self._capture = capture

    def batches(self) -> Iterator[PacketBatch | None]:
        """Packets as they arrive, without end; at intervals, unless more are there than one batch takes."""
        while True:
            batch = self._capture.read(IDLE_S)
            begin_s = time.monotonic()
            yield batch
            if batch is not None and not self._capture.is_behind:
                time.sleep(max(begin_s + self.interval_s - time.monotonic(), 0.0))

    def now_ns(self) -> int | None:
        """The machine's time."""
        return time.time_ns()

    def dropped(self) -> int:
        """Packets that the kernel dropped because the ring was full."""
        return self._capture.dropped

    def close(self) -> None:
        """Gives the ring back."""
        self._capture.close()


class StreamSource:
    """A pipe or a sender on the network, as ``open_capture`` names them.

    Reading blocks, so it is done in a separate thread, which continues only when a batch is finished, because
    the batch lies in the reader's buffer.
    """

    is_live = False

    def __init__(self, address: str) -> None:
        self.name = address
        self.interval_s = 0.0
        # UDP senders do not wait for the reader; pipes and connections do
        self.is_lossless = not address.startswith("pcapdroid+udp:")
        self._stop = threading.Event()
        # a separate descriptor: a thread that waits in sys.stdin would keep the interpreter from ending
        self._input = os.fdopen(os.dup(0), "rb", buffering=0) if address == "-" else None
        self._reader = open_capture(self._input or address, stop=self._stop)
        self._turn = threading.Condition()
        self._batch: PacketBatch | None = None
        self._is_done = False
        self._fault: Exception | None = None
        self._last_ns: int | None = None
        self._last_s = 0.0

    def batches(self) -> Iterator[PacketBatch | None]:
        """Packets until the sender ends.

        Raises:
            CaptureError: the stream is damaged; after everything before the damage.
        """
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        while True:
            with self._turn:
                if self._batch is None and not self._is_done:
                    self._turn.wait(IDLE_S)
                batch = self._batch
                if batch is None and self._is_done:
                    break
            if batch is not None and len(batch):
                self._last_ns, self._last_s = int(batch.time_ns.max()), time.monotonic()
            yield batch
            if batch is not None:
                with self._turn:
                    self._batch = None
                    self._turn.notify_all()
        if self._fault is not None:
            raise self._fault

    def _read(self) -> None:
        try:
            for batch in self._reader:
                with self._turn:
                    self._batch = batch
                    self._turn.notify_all()
                    while self._batch is not None and not self._stop.is_set():
                        self._turn.wait(IDLE_S)
                if self._stop.is_set():
                    break
        except (ApptellError, OSError) as error:  # raised again in ``batches``
            self._fault = error
        finally:
            self._reader.close()
            if self._input is not None:
                self._input.close()
            with self._turn:
                self._is_done = True
                self._turn.notify_all()

    def now_ns(self) -> int | None:
        """The last packet's time plus the time since its arrival."""
        if self._last_ns is None:
            return None
        return self._last_ns + int((time.monotonic() - self._last_s) * _SECOND)

    def dropped(self) -> int:
        """Returns 0: the losses of the sender are not known."""
        return 0

    def close(self) -> None:
        """Stops the reading thread, which may still wait for bytes of a pipe."""
        self._stop.set()


class ReplaySource:
    """A capture as if it were live.

    Args:
        path: a file or folder.
        speed: factor of the original speed; None for as fast as possible.
        say: called with one line for each skipped gap. A gap with a wait longer than ``MAX_GAP_S`` is usually
            a clock error and not a quiet period.
    """

    is_lossless = True
    is_live = False

    def __init__(
        self,
        path: str | Path,
        speed: float | None = None,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.interval_s = 0.0
        self._say = say
        self._skipped_ns = 0
        self._reader = open_capture(path)
        self.name = self._reader.name
        self._speed = speed
        self._now_ns: int | None = None

    def batches(self) -> Iterator[PacketBatch | None]:
        """Packets when they are due, until the capture ends.

        Raises:
            CaptureError: the capture is damaged; after everything before the damage.
        """
        with self._reader:
            if self._speed is None:
                yield from self._reader
                return
            begin_s = time.monotonic()
            first_ns: int | None = None
            for batch in self._reader:
                if first_ns is None and len(batch):
                    first_ns = int(batch.time_ns[0])
                yield from self._paced(batch, first_ns or 0, begin_s, self._speed)

    def _paced(
        self, batch: PacketBatch, first_ns: int, begin_s: float, speed: float
    ) -> Iterator[PacketBatch | None]:
        """Slices of a batch as they become due; times that step back are due at once."""
        due_ns = np.maximum.accumulate(batch.time_ns) - first_ns
        done = 0
        while done < len(batch):
            passed_ns = int((time.monotonic() - begin_s) * speed * _SECOND) + self._skipped_ns
            self._now_ns = first_ns + passed_ns
            ready = int(np.searchsorted(due_ns, passed_ns, side="right"))
            if ready > done:
                yield batch.slice(done, ready)
                done = ready
                continue
            ahead_ns = int(due_ns[done]) - passed_ns
            wait_s = ahead_ns / speed / _SECOND
            if wait_s > MAX_GAP_S:
                self._skipped_ns += ahead_ns
                self._say(
                    f"{self.name}: no packet for {ahead_ns / _SECOND:,.0f} s of the capture; skipped"
                )
                continue
            time.sleep(min(wait_s, IDLE_S))
            yield None

    def now_ns(self) -> int | None:
        """The time in the capture; None at full speed, where only packets give the time."""
        return self._now_ns

    def dropped(self) -> int:
        """Returns 0: a file loses nothing."""
        return 0

    def close(self) -> None:
        """Closes the capture."""
        self._reader.close()


def parse_speed(text: str) -> float | None:
    """``1x``, ``10x`` or ``max`` (None).

    Raises:
        UsageError: it is none of these.
    """
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise UsageError(f"speed {text!r} is neither a factor such as 10x nor max")
    return speed
