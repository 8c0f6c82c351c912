"""Extracts the packets of chosen flows while they are live: copies of packets and live records in, files out.

The threads that read packets copy them, and one thread decodes the copies, keeps the ring and writes. A slow or
full disk therefore costs extracted packets, which are counted, and no verdict.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.errors import UsageError
from apptell.packets import Decoder
from apptell.records.extraction import SAID
from apptell.records.schema import END
from apptell.service.chosen_flows import ChosenFlows
from apptell.service.extract_files import ExtractFiles
from apptell.service.packet_ring import PacketRing, RingPiece, copied, cut_pieces, piece_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from apptell.capture import PacketBatch
    from apptell.flows import FlowOptions
    from apptell.records.record_filter import RecordFilter
    from apptell.records.schema import Records

LEAST_BYTES: Final = 64_000
"""Smallest ring and smallest file."""
MAX_WAITING_BYTES: Final = 16 << 20
"""Packets that may wait to become part of the ring."""
MAX_WAITING_RECORDS: Final = 65_536
_PAUSE_S: Final = 0.1
"""Packets and records of an interface gather for so long: looking through the ring costs time."""
_FLOW: Final = (
    "event", "connection_id", "part", "protocol", "client_address", "client_port", "server_address",
    "server_port", "packets_to_server", "packets_to_client",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Packets:
    """Packets and the name of their source."""

    packets: PacketBatch
    capture: str


@dataclass(frozen=True, slots=True)
class _Told:
    """Records and which of them are chosen."""

    records: Records
    kept: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ExtractionOptions:
    """What is extracted to where, and the bounds."""

    path: Path
    """Gives folder, beginning and suffix of the names of the files."""
    ring_bytes: int = 64_000_000
    """Newest packets that are kept in memory."""
    flow_bytes: int = 10_000_000
    """Frames that are written of each flow."""
    file_bytes: int = 100_000_000
    """Size at which the next file is begun."""
    files: int = 10
    """Files that are kept; older ones of the same run are deleted."""

    def __post_init__(self) -> None:
        for size in (self.ring_bytes, self.file_bytes):
            if size < LEAST_BYTES:
                raise UsageError(
                    f"{size:,} bytes for a ring or a file of packets: the least is {LEAST_BYTES:,}"
                )


class LiveExtraction:
    """The ring, the chosen flows and their files, behind a bounded queue and a thread.

    Args:
        options: what is extracted.
        flows: how packets become flows.
        waits: whether the source waits for a slow disk; true only where nobody waits for verdicts, as in a
            replay.
        say: called once, if packets are lost.

    Raises:
        UsageError: the path is a folder.
        OutputError: its folder is not there or cannot be written to.
    """

    def __init__(
        self,
        options: ExtractionOptions,
        flows: FlowOptions,
        say: Callable[[str], None],
        *,
        waits: bool,
    ) -> None:
        self.files = ExtractFiles(options.path, options.file_bytes, options.files, say)
        idle_ns = int(flows.idle_timeout_s * 1e9)
        self._chosen = ChosenFlows(self.files, options.flow_bytes, idle_ns)
        self._ring = PacketRing(options.ring_bytes)
        self._decoder = Decoder(flows.tunnels)
        self._ring_bytes = options.ring_bytes
        self._waits = waits
        self._say = say
        self._waiting: deque[_Packets | _Told] = deque()
        self._n_bytes = self._n_records = 0
        self._skipped = self._n_untold = 0
        self._is_working = self._is_ending = self._is_over = False
        self._deadline_s = float("inf")
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="extract", daemon=True)
        self._thread.start()

    def keep(self, packets: PacketBatch, capture: str) -> None:
        """Copies packets for the ring; those that find no room are skipped and counted.

        Args:
            packets: n packets, n > 0, of which nothing is kept.
            capture: name of their source.
        """
        for piece in cut_pieces(packets, self._ring_bytes):
            size = piece_bytes(piece)
            with self._changed:
                if not self._has_room(size):
                    self._skip(len(piece))
                    continue
                self._n_bytes += size
            own = copied(piece)
            with self._changed:
                self._waiting.append(_Packets(own, capture))
                self._changed.notify_all()

    def tell(self, records: Records, wanted: RecordFilter) -> None:
        """Tells of live records.

        Args:
            records: n records of flows, verdicts or ends, whether they are selected or not.
            wanted: selects the flows whose packets are extracted.
        """
        kept = wanted.keep(records)
        is_end = bool(records.num_rows) and records.column("event")[0].as_py() == END
        if not (is_end or kept.any()):
            return
        with self._changed:
            while self._waits and self._n_records > MAX_WAITING_RECORDS and self._may_wait():
                self._changed.wait(_PAUSE_S)
            if self._n_records > MAX_WAITING_RECORDS or self._is_over:
                self._n_untold += int(kept.sum())
                return
            self._n_records += records.num_rows
            self._waiting.append(_Told(records, kept))
            self._changed.notify_all()

    @property
    def is_busy(self) -> bool:
        """Whether it has something to do, and time to do so."""
        with self._changed:
            has_work = bool(self._waiting) or self._is_working
            return has_work and not self._is_over and time.monotonic() < self._deadline_s

    def counts(self) -> dict[str, int]:
        """Packets by what became of them; see ``docs/how-to/extract.md``."""
        return {
            "written": self.files.written,
            "missed": self._chosen.missed,
            "limited": self._chosen.limited,
            "failed": self.files.failed,
            "skipped": self._skipped,
        }

    @property
    def flows(self) -> int:
        """Flows that were chosen."""
        return self._chosen.flows

    @property
    def lost_flows(self) -> int:
        """Chosen flows for which there was no room: too many were followed at once, or waited.

        A flow whose verdict and end were both lost counts twice.
        """
        return self._chosen.dropped + self._n_untold

    @property
    def ring_bytes(self) -> int:
        """What the ring takes."""
        return self._ring.n_bytes

    def end_by(self, deadline_s: float) -> None:
        """Stops at a time of the monotonic clock, s, and no longer lets sources wait."""
        with self._changed:
            self._deadline_s = deadline_s
            self._waits = False
            self._changed.notify_all()

    def end(self) -> None:
        """Ends the files once everything so far is written; nothing more may come."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def close(self) -> None:
        """Waits for the end of the files until the deadline."""
        self.end()
        left_s = self._deadline_s - time.monotonic()
        self._thread.join(None if left_s == float("inf") else max(left_s, 0.0))

    def _may_wait(self) -> bool:
        return self._waits and not self._is_over

    def _has_room(self, size: int) -> bool:
        """Whether packets may wait, after waiting for room where that is allowed; the lock is held."""
        while self._n_bytes and self._n_bytes + size > MAX_WAITING_BYTES and self._may_wait():
            self._changed.wait(_PAUSE_S)
        return not self._is_over and (
            not self._n_bytes or self._n_bytes + size <= MAX_WAITING_BYTES
        )

    def _skip(self, n_packets: int) -> None:
        if not self._skipped:
            self._say(
                f"{self.files.names}: packets come faster than they are extracted; some are left out"
            )
        self._skipped += n_packets

    def _run(self) -> None:
        items: deque[_Packets | _Told] = deque()
        try:
            while items := self._take():
                self._work(items)
                self.files.flush()
                with self._changed:
                    self._is_working = False
                    self._changed.notify_all()
            self.files.close()
        finally:  # also of an error of ours: nobody waits for this thread then
            with self._changed:
                self._is_over, self._is_working = True, False
                left = (*items, *self._waiting)
                self._skipped += sum(
                    len(each.packets) for each in left if isinstance(each, _Packets)
                )
                self._waiting.clear()
                self._changed.notify_all()

    def _take(self) -> deque[_Packets | _Told]:
        """What has gathered; nothing at the end."""
        with self._changed:
            while not (self._waiting or self._is_ending):
                self._changed.wait()
            if not self._waits:  # an interface or a stream: let more gather
                self._changed.wait_for(self._is_pressing, _PAUSE_S)
            items: deque[_Packets | _Told] = deque()
            if time.monotonic() < self._deadline_s:
                items, self._waiting = self._waiting, items
                self._n_records = 0
            self._is_working = bool(items)
            return items

    def _is_pressing(self) -> bool:
        return self._is_ending or self._n_bytes > MAX_WAITING_BYTES // 2

    def _work(self, items: deque[_Packets | _Told]) -> None:
        """Takes the items up, until the deadline; the others stay."""
        rows: list[dict[str, Any]] = []
        while items and time.monotonic() < self._deadline_s:
            item = items.popleft()
            if isinstance(item, _Told):
                rows += _rows(item.records, item.kept)
                continue
            self._choose(rows)
            piece = RingPiece(item.packets, item.capture, self._decoder)
            self._ring.add(piece)
            self._chosen.take(piece)
            with self._changed:
                self._n_bytes -= piece.n_bytes
                self._changed.notify_all()
        self._choose(rows)

    def _choose(self, rows: list[dict[str, Any]]) -> None:
        """Chooses the flows of records that came without packets between them, at once."""
        if rows:
            self._chosen.choose(rows, self._ring)
            rows.clear()


def _rows(records: Records, kept: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Records as ``ChosenFlows.choose`` takes them."""
    columns = {name: records.column(name) for name in (*_FLOW, *SAID)}
    columns |= {
        name: records.column(column).cast(pa.int64())
        for name, column in (("start_ns", "time"), ("end_ns", "end_time"))
    }
    columns["is_chosen"] = pa.array(kept)
    rows: list[dict[str, Any]] = pa.RecordBatch.from_pydict(columns).to_pylist()
    return rows
