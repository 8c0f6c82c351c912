"""Reads the streams of a source in order, as one iterator of batches with counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from apptell.capture.columns import (
    CAPTURED_BYTES,
    CUT_PACKETS,
    FIRST_NS,
    LAST_NS,
    WIRE_BYTES,
    Columns,
)
from apptell.capture.link_types import link_type_name
from apptell.capture.network import DatagramStream
from apptell.capture.stats import CaptureStats
from apptell.capture.stream_reader import NotACaptureError, StreamReader
from apptell.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import TracebackType

    from apptell.capture.batch import Owner, PacketBatch
    from apptell.capture.window import ByteStream


@dataclass(frozen=True, slots=True)
class Part:
    """One stream of a source."""

    name: str
    """The name used in messages and in flows."""
    open: Callable[[], ByteStream]
    """Opens it; raises CaptureError or OSError."""


class CaptureReader:
    """An iterator of PacketBatch over everything a source names; a context manager.

    Each batch is valid until the next one is requested, or as ``keep`` says. If one of several files is
    damaged, the others are still read, and the error is raised at the end.
    """

    def __init__(
        self, parts: Sequence[Part], name: str, *, batch_packets: int, files_skipped: int = 0
    ) -> None:
        self.name = name
        """What the source is called: a file's or folder's name, ``-`` or an address."""
        self.current_name = parts[0].name if parts else name
        """The file or stream that the last batch came from."""
        self._parts = parts
        self._stats = CaptureStats(files_skipped=files_skipped)
        self._columns = Columns(batch_packets)
        self._n_kept = 1
        self._owners: list[Owner] = []
        self._current: StreamReader | None = None
        self._link_types: dict[str, int] = {}
        self._skipped: dict[str, int] = {}
        self._interfaces = 0
        self._batches = self._read()

    @property
    def stats(self) -> CaptureStats:
        """Counters of the packets so far. The same object is returned each time, with updated values."""
        stats, totals = self._stats, self._columns.totals
        stats.captured_bytes = int(totals[CAPTURED_BYTES])
        stats.wire_bytes = int(totals[WIRE_BYTES])
        stats.cut_packets = int(totals[CUT_PACKETS])
        if stats.packets:
            stats.first_ns, stats.last_ns = int(totals[FIRST_NS]), int(totals[LAST_NS])
        stats.link_types = dict(self._link_types)
        stats.skipped_blocks = dict(self._skipped)
        stats.interfaces = self._interfaces
        if self._current is not None:
            parser = self._current.parser
            stats.interfaces += parser.interfaces
            _add(stats.skipped_blocks, parser.skipped_blocks)
            _add(stats.link_types, _named(parser.link_types))
        return stats

    def keep(self, n: int) -> None:
        """Makes each batch valid until ``n`` further ones are requested; called before the first."""
        self._columns, self._n_kept = Columns(self._columns.capacity, n), n

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> PacketBatch:
        return next(self._batches)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops reading and closes everything. May be called repeatedly."""
        self._batches.close()

    def _read(self) -> Generator[PacketBatch, None, None]:
        damages: list[str] = []
        for part in self._parts:
            self.current_name = part.name
            self._stats.names.append(part.name)
            self._stats.files_read += 1
            try:
                yield from self._read_part(part)
            except CaptureError as error:
                damages.append(str(error))
                self._stats.files_skipped += isinstance(error, NotACaptureError)
            except OSError as error:
                damages.append(f"{part.name}: {error.strerror or error}")
            if damages:
                more = f" (and {len(damages) - 1} more damaged)" if len(damages) > 1 else ""
                self._stats.damage = damages[0] + more
        if self._stats.damage is not None:
            raise CaptureError(self._stats.damage)

    def _read_part(self, part: Part) -> Generator[PacketBatch, None, None]:
        stream = part.open()
        reader = None
        try:
            reader = StreamReader(stream, part.name, self._owners, n_buffers=self._n_kept)
            self._stats.formats[reader.format] = self._stats.formats.get(reader.format, 0) + 1
            self._current = reader
            for batch in reader.batches(self._columns):
                self._stats.packets += len(batch)
                yield batch
        finally:
            stream.close()
            if reader is not None:
                reader.close()
            if isinstance(stream, DatagramStream) and stream.dropped:
                _add(self._skipped, {"datagram": stream.dropped})
            if self._current is not None:
                parser = self._current.parser
                self._interfaces += parser.interfaces
                _add(self._skipped, parser.skipped_blocks)
                _add(self._link_types, _named(parser.link_types))
                self._current = None


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for key, count in more.items():
        counts[key] = counts.get(key, 0) + count


def _named(link_types: dict[int, int]) -> dict[str, int]:
    return {link_type_name(value): count for value, count in link_types.items()}
