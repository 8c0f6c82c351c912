"""Reads Solaris snoop files (RFC 1761) into packet columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apptell.capture.columns import (
    CAPTURED_BYTES,
    CUT_PACKETS,
    FIRST_NS,
    LAST_NS,
    PREVIOUS_NS,
    WIRE_BYTES,
)
from apptell.capture.link_types import MAX_PACKET_BYTES
from apptell.errors import CaptureError
from apptell.kernels.compiled import inlined, kernel

if TYPE_CHECKING:
    from apptell.capture.columns import Columns
    from apptell.capture.window import Window

MAGIC: Final = b"snoop\0\0\0"
FILE_HEADER_BYTES: Final = 16
RECORD_HEADER_BYTES: Final = 24
_LINK_TYPES: Final = {0: 1, 2: 6, 4: 1, 8: 10}
"""Data link -> LINKTYPE_ value: IEEE 802.3, token ring, Ethernet, FDDI."""
_UNKNOWN_LINK: Final = 0xFFFF
_MOST_PADDING: Final = 4096
MORE, FULL, BAD = 0, 1, 2


@inlined
def _u32(buffer, at):  # type: ignore[no-untyped-def]
    high = (int(buffer[at]) << 24) | (int(buffer[at + 1]) << 16)
    return high | (int(buffer[at + 2]) << 8) | int(buffer[at + 3])


@kernel
def scan_records(buffer, start, end, rows):  # type: ignore[no-untyped-def]
    """Whole records of ``buffer[start:end]`` into columns.

    Args:
        buffer: uint8 (size,).
        start: first byte of a record.
        end: first byte that does not count.
        rows: the columns, out; those that never change are not written.

    Returns:
        Packets found; the byte after the last of them; MORE, FULL or BAD (the next record's lengths).
    """
    end = min(end, len(buffer))
    totals = rows.totals
    n, at = 0, start
    while n < len(rows.offset):
        if at < 0 or end - at < RECORD_HEADER_BYTES:
            return n, at, MORE
        on_wire, length, total = _u32(buffer, at), _u32(buffer, at + 4), _u32(buffer, at + 8)
        padding = total - RECORD_HEADER_BYTES - length
        if length > MAX_PACKET_BYTES or padding < 0 or padding > _MOST_PADDING:
            return n, at, BAD
        if end - at < total:
            return n, at, MORE
        now = _u32(buffer, at + 16) * 1_000_000_000 + _u32(buffer, at + 20) * 1000
        on_wire = min(on_wire, 2**31 - 1)
        rows.offset[n] = at + RECORD_HEADER_BYTES
        rows.captured[n], rows.wire[n], rows.time_ns[n] = length, on_wire, now
        totals[CAPTURED_BYTES] += length
        totals[WIRE_BYTES] += on_wire
        totals[CUT_PACKETS] += length < on_wire
        totals[FIRST_NS] = min(totals[FIRST_NS], now)
        totals[LAST_NS] = max(totals[LAST_NS], now)
        totals[PREVIOUS_NS] = now
        at += total
        n += 1
    return n, at, FULL


class SnoopParser:
    """The records of one snoop stream."""

    format: Final = "snoop"
    interfaces: Final = 1
    """A snoop file has one interface."""

    def __init__(self, window: Window) -> None:
        """Read the file header.

        Raises:
            CaptureError: the header is cut short or of another version.
        """
        self._window = window
        if not window.fill_to(FILE_HEADER_BYTES):
            if window.damage is not None:
                raise window.damage
            raise CaptureError(f"{window.name}: file header is cut short {window.at(window.end)}")
        header = window.peek(FILE_HEADER_BYTES)
        version, link = (int.from_bytes(header[at : at + 4], "big") for at in (8, 12))
        if header[:8] != MAGIC or version != 2:
            raise CaptureError(f"{window.name}: snoop version {version} is not known at byte 0")
        self.link_type = _LINK_TYPES.get(link, _UNKNOWN_LINK)
        self._packets = 0
        window.start += FILE_HEADER_BYTES

    @property
    def link_types(self) -> dict[int, int]:
        """Packets so far by LINKTYPE_ value."""
        return {self.link_type: self._packets} if self._packets else {}

    @property
    def skipped_blocks(self) -> dict[str, int]:
        """Blocks passed over: a snoop file has none."""
        return {}

    def begin(self, columns: Columns) -> None:
        """Fill the columns that never change."""
        columns.set_constants(self.link_type)

    def scan(self, columns: Columns) -> int:
        """Whole records that the window holds into ``columns``; 0 when it must be filled first.

        Raises:
            CaptureError: the next record cannot be one.
        """
        window = self._window
        n, at, status = scan_records(window.buffer, window.start, window.end, columns.rows())
        window.start = at
        self._packets += n
        if n == 0 and status == BAD:
            raise CaptureError(f"{window.name}: lengths of a record disagree {window.at(at)}")
        return int(n)
