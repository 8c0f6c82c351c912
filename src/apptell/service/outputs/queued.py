"""Puts an output behind a bounded queue and a thread, so that a slow output does not block the others."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import pyarrow as pa

from apptell.errors import OutputError

if TYPE_CHECKING:
    from apptell.records.schema import Records

CAPACITY: Final = 65_536
"""Records that may wait for one output."""
_TICK_S: Final = 0.5
_RETRY_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits between attempts at an output that fails; the last one is repeated."""


class Output(Protocol):
    """Takes batches of live records, in one thread.

    One with the attribute ``reads_plain`` also takes ``Records`` as they are, others get record batches.
    ``write`` that raises OutputError or OSError is called again with the same batch later.
    """

    extra: dict[str, int]
    """Its own counters, by state."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes some records and makes them available to readers."""

    def tick(self) -> None:
        """Called at least once a second while nothing is written."""

    def close(self) -> None:
        """Ends the output."""


class QueuedOutput:
    """The queue of an output; if it is full or the output fails, other outputs are not affected.

    Args:
        name: as requested, for counters and messages.
        output: the output, which one thread writes to.
        is_lossless: whether ``put`` waits for room while the output works, instead of dropping records.
        capacity: records that may wait.
    """

    def __init__(
        self, name: str, output: Output, *, is_lossless: bool = False, capacity: int = CAPACITY
    ) -> None:
        self.name = name
        self.is_gone = False
        """Whether its reader has gone permanently."""
        self._fault = ""
        self._output = output
        self._is_lossless = is_lossless
        self._capacity = capacity
        self._reads_plain = bool(getattr(output, "reads_plain", False))
        self._waiting: deque[pa.RecordBatch | Records] = deque()
        self._n = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._deadline_s: float | None = None
        self._written = self._dropped = self._errors = 0
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name=f"output {name}", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """The last error."""
        return self._fault or str(getattr(self._output, "fault", ""))

    @property
    def is_busy(self) -> bool:
        """Whether it has records to write and time to do so."""
        return self._thread.is_alive() and self._left_s() > 0

    def counts(self) -> dict[str, int]:
        """Records written, dropped and queued, failed attempts, and what the output itself counts."""
        return {
            "written": self._written,
            "dropped": self._dropped,
            "errors": self._errors,
            "queued": self._n + int(getattr(self._output, "waiting", 0)),
            **self._output.extra,
        }

    def put(self, batch: pa.RecordBatch | Records) -> None:
        """Adds records; drops and counts them if there is no room."""
        n = batch.num_rows
        if not n:  # an empty batch would never leave the queue
            return
        with self._changed:
            while (
                self._is_lossless
                and self._n
                and self._n + n > self._capacity
                and not (self._is_failing or self.is_gone or self._is_closing)
                and (left := self._left_s()) > 0
            ):
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            if self.is_gone or (self._n and self._n + n > self._capacity):
                self._dropped += n
                return
            self._waiting.append(batch)
            self._n += n
            self._changed.notify_all()

    def end_by(self, deadline_s: float) -> None:
        """Sets the deadline of all waits, by the monotonic clock."""
        with self._changed:
            self._deadline_s = deadline_s
            self._changed.notify_all()

    def end(self) -> None:
        """Ends the output after it has written the waiting records; does not wait for it."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def close(self, deadline_s: float | None = None) -> None:
        """Writes the waiting records and ends the output.

        Args:
            deadline_s: by the monotonic clock; what is not written by then is dropped and counted. Without
                one, an output that works is waited for, and one that fails gets one more attempt.
        """
        if deadline_s is not None:
            self.end_by(deadline_s)
        self.end()
        self._thread.join(None if deadline_s is None else max(deadline_s - time.monotonic(), 0.0))
        with self._changed:
            self._dropped += self._n
            self._waiting.clear()
            self._n = 0

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            if batch.num_rows:
                self._write(batch)
            else:
                self._attempt_tick()
        try:
            self._output.close()
        except (OutputError, OSError) as error:
            self._note(error)

    def _next(self) -> pa.RecordBatch | Records | None:
        """The next records; an empty batch if ``tick`` is due; None at the end."""
        with self._changed:
            if not self._waiting and not self._is_closing:
                self._changed.wait(_TICK_S)
            if self._waiting:
                return self._waiting[0]
            return None if self._is_closing else _NOTHING

    def _write(self, batch: pa.RecordBatch | Records) -> None:
        """Writes a batch with repeated attempts; it stays in the queue until it is written or dropped."""
        attempt = 0
        given = (
            batch if self._reads_plain or isinstance(batch, pa.RecordBatch) else batch.to_arrow()
        )
        while True:
            try:
                self._output.write(given)
            except (OutputError, OSError) as error:
                self._note(error)
                self.is_gone = isinstance(error, BrokenPipeError)
                if self.is_gone or (self._is_closing and attempt) or not self._pause(attempt):
                    self._take(batch, written=False)
                    return
                attempt += 1
            else:
                self._is_failing = False
                self._take(batch, written=True)
                return

    def _take(self, batch: pa.RecordBatch | Records, *, written: bool) -> None:
        with self._changed:
            if self._waiting and self._waiting[0] is batch:
                self._waiting.popleft()
                self._n -= batch.num_rows
                if written:
                    self._written += batch.num_rows
                else:
                    self._dropped += batch.num_rows
            if self.is_gone:
                self._dropped += self._n
                self._waiting.clear()
                self._n = 0
            self._changed.notify_all()

    def _pause(self, attempt: int) -> bool:
        """Waits before the next attempt; returns whether there is one."""
        until = time.monotonic() + _RETRY_S[min(attempt, len(_RETRY_S) - 1)]
        with self._changed:
            while not self._is_closing and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
        return self._left_s() > 0

    def _left_s(self) -> float:
        """The remaining time."""
        return float("inf") if self._deadline_s is None else self._deadline_s - time.monotonic()

    def _attempt_tick(self) -> None:
        try:
            self._output.tick()
        except (OutputError, OSError) as error:
            self._note(error)

    def _note(self, error: Exception) -> None:
        with self._changed:
            self._errors += 1
            self._is_failing = True
            self._fault = str(error)
            self._changed.notify_all()


_NOTHING: Final = pa.RecordBatch.from_arrays([], schema=pa.schema([]))
