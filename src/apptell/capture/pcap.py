"""Reads classic pcap files into packet columns.

Format: draft-ietf-opsawg-pcap. Variants: A. Kuznetzov's modified records of 24 bytes, with their
own magic or, from patched Android and Red Hat builds, with the standard one; SuSE's of 28 bytes;
Nokia's of 20; versions before 2.4, which may have the two lengths in the other order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from apptell.capture.columns import (
    CAPTURED_BYTES,
    CUT_PACKETS,
    FIRST_NS,
    LAST_NS,
    PREVIOUS_NS,
    WIRE_BYTES,
)
from apptell.capture.link_types import canonical_link_type, largest_packet
from apptell.capture.window import RECORD_LIMIT
from apptell.errors import CaptureError
from apptell.kernels.compiled import inlined, kernel

if TYPE_CHECKING:
    from apptell.capture.columns import Columns
    from apptell.capture.window import Window

FILE_HEADER_BYTES: Final = 24
INT32_MAX: Final = 2**31 - 1
_MICROSECONDS, _NANOSECONDS, _MODIFIED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
_IXIA_SOFTWARE, _IXIA_HARDWARE = 0x1C0001AB, 0x1C0001AC
_NAMES: Final = {
    _MICROSECONDS: "pcap",
    _NANOSECONDS: "pcap (nanoseconds)",
    _MODIFIED: "pcap (modified)",
    _IXIA_SOFTWARE: "pcap (Ixia)",
    _IXIA_HARDWARE: "pcap (Ixia, nanoseconds)",
}
_LITTLE: Final = "little"
_BIG: Final = "big"
MAGICS: Final[dict[bytes, tuple[int, Literal["little", "big"]]]] = {
    **{magic.to_bytes(4, _LITTLE): (magic, _LITTLE) for magic in _NAMES},
    **{magic.to_bytes(4, _BIG): (magic, _BIG) for magic in _NAMES},
}
"""First four bytes of a file -> its magic and byte order."""
_RECORD_HEADERS: Final = {
    _MICROSECONDS: (16, 24, 20),  # standard; patched Android and Red Hat 6.1; Nokia
    _MODIFIED: (24, 28),  # Kuznetzov; SuSE 6.3
}
"""Sizes of record headers that files with a magic are known to have, the likeliest first."""
_RECORDS_WALKED: Final = 16
_SANE_WIRE_BYTES: Final = 1 << 27

MORE, FULL, TOO_LONG = 0, 1, 2


@inlined
def _u32(buffer, at, big_endian):  # type: ignore[no-untyped-def]
    a, b = np.int64(buffer[at]), np.int64(buffer[at + 1])
    c, d = np.int64(buffer[at + 2]), np.int64(buffer[at + 3])
    if big_endian:
        return (a << 24) | (b << 16) | (c << 8) | d
    return a | (b << 8) | (c << 16) | (d << 24)


@kernel
def scan_records(  # type: ignore[no-untyped-def]
    buffer,
    start,
    end,
    big_endian,
    header_bytes,
    unit_ns,
    lengths_may_swap,
    limit,
    rows,
):
    """Whole records of ``buffer[start:end]`` into columns.

    Args:
        buffer: uint8 (size,).
        start: first byte of a record.
        end: first byte that does not count.
        big_endian: byte order of the record headers.
        header_bytes: 16, 20, 24 or 28.
        unit_ns: ns in one unit of the fraction of a second.
        lengths_may_swap: whether a captured length above the wire length means that they changed
        places.
        limit: largest captured length.
        rows: the columns, out; those that never change are not written.

    Returns:
        Packets found; the byte after the last of them; MORE, FULL (columns) or TOO_LONG (next
        record); the next record's captured length when that is known, else 0.
    """
    end = min(end, len(buffer))
    offset, captured, wire, time_ns, totals = (
        rows.offset,
        rows.captured,
        rows.wire,
        rows.time_ns,
        rows.totals,
    )
    capacity = len(offset)
    n = 0
    at = start
    total_captured, total_wire, total_cut = 0, 0, 0
    first, last = totals[FIRST_NS], totals[LAST_NS]
    now = totals[PREVIOUS_NS]
    status = MORE
    length = np.int64(0)
    while True:
        length = np.int64(0)
        if n == capacity:
            status = FULL
            break
        if at < 0 or end - at < header_bytes:
            break
        seconds = _u32(buffer, at, big_endian)
        fraction = _u32(buffer, at + 4, big_endian)
        length = _u32(buffer, at + 8, big_endian)
        on_wire = _u32(buffer, at + 12, big_endian)
        if lengths_may_swap and length > on_wire:
            length, on_wire = on_wire, length
        if length > limit:
            status = TOO_LONG
            break
        if end - at < header_bytes + length:
            break
        now = seconds * 1_000_000_000 + fraction * unit_ns
        first = min(first, now)
        last = max(last, now)
        on_wire = min(on_wire, INT32_MAX)
        offset[n] = at + header_bytes
        captured[n] = length
        wire[n] = on_wire
        time_ns[n] = now
        total_captured += length
        total_wire += on_wire
        total_cut += length < on_wire
        at += header_bytes + length
        n += 1
    totals[CAPTURED_BYTES] += total_captured
    totals[WIRE_BYTES] += total_wire
    totals[CUT_PACKETS] += total_cut
    totals[FIRST_NS], totals[LAST_NS] = first, last
    totals[PREVIOUS_NS] = now
    return n, at, status, length


class PcapParser:
    """The records of one classic pcap stream."""

    def __init__(self, window: Window) -> None:
        """Read the file header.

        Raises:
            CaptureError: the header is cut short.
        """
        self._window = window
        if not window.fill_to(FILE_HEADER_BYTES):
            if window.damage is not None:
                raise window.damage
            raise CaptureError(f"{window.name}: file header is cut short {window.at(window.end)}")
        header = window.peek(FILE_HEADER_BYTES)
        magic, order = MAGICS[header[:4]]
        self._order: Literal["little", "big"] = order
        self.big_endian = order == "big"
        major, minor = (int.from_bytes(header[at : at + 2], order) for at in (4, 6))
        snap_length = int.from_bytes(header[16:20], order)
        # The upper half holds the length of the frame check sequence and the class of address
        # family.
        self.link_type = canonical_link_type(int.from_bytes(header[20:24], order) & 0xFFFF)
        self.limit = min(max(largest_packet(self.link_type), snap_length), RECORD_LIMIT)
        self.unit_ns = 1 if magic in (_NANOSECONDS, _IXIA_HARDWARE) else 1000
        self.lengths_may_swap = (major, minor) in ((2, 0), (2, 1), (2, 2), (2, 3), (543, 0))
        self.format = _NAMES[magic]
        self._packets = 0
        window.start += FILE_HEADER_BYTES
        if magic in (_IXIA_SOFTWARE, _IXIA_HARDWARE):
            window.fill_to(4)  # the size of all records together
            window.start += min(4, len(window))
        sizes = _RECORD_HEADERS.get(magic, (16,))
        self.header_bytes = sizes[0] if len(sizes) == 1 else self._find_record_header(sizes)
        if self.header_bytes != sizes[0]:
            self.format += f" ({self.header_bytes}-byte records)"

    @property
    def interfaces(self) -> int:
        """Interfaces described: a pcap file has one."""
        return 1

    @property
    def link_types(self) -> dict[int, int]:
        """Packets so far by LINKTYPE_ value."""
        return {self.link_type: self._packets} if self._packets else {}

    @property
    def skipped_blocks(self) -> dict[str, int]:
        """Blocks passed over: a pcap file has none."""
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
        n, at, status, length = scan_records(
            window.buffer,
            window.start,
            window.end,
            self.big_endian,
            self.header_bytes,
            self.unit_ns,
            self.lengths_may_swap,
            self.limit,
            columns.rows(),
        )
        window.start = at
        self._packets += n
        if n == 0 and status == TOO_LONG:
            raise CaptureError(
                f"{window.name}: captured length {length} exceeds {self.limit} {window.at(at)}"
            )
        return int(n)

    def _find_record_header(self, sizes: tuple[int, ...]) -> int:
        """The size of the record headers: the one with which the first records can be parsed."""
        window = self._window
        window.fill_to(24)
        # In a 24-byte header these are the packet's type, 0 to 4, and a byte of padding. If they
        # look so, the second record must decide; otherwise a pipe's first packet does not wait for
        # its second.
        marks = window.peek(24)[22:]
        if sizes[0] != 16 or (len(marks) == 2 and marks[0] <= 4 and marks[1] == 0):
            length = int.from_bytes(window.peek(12)[8:], self._order)
            window.fill_to(min(length, self.limit) + 2 * sizes[-1] + 16)
        sane, records = self._walk(sizes[0])
        if sane:
            return sizes[0]
        for size in sizes[1:]:
            other_sane, other_records = self._walk(size)
            if other_sane and other_records > records:
                return size
        return sizes[0]

    def _walk(self, header_bytes: int) -> tuple[bool, int]:
        """Whether the first records make sense with headers of this size, and how many do."""
        buffer, at, end = self._window.buffer, self._window.start, self._window.end
        for record in range(_RECORDS_WALKED):
            if end - at < 16:
                return True, record
            header = buffer[at : at + 16].tobytes()
            fraction, length, wire = (
                int.from_bytes(header[i : i + 4], self._order) for i in (4, 8, 12)
            )
            if length > self.limit or wire > _SANE_WIRE_BYTES or fraction >= 1_000_000:
                return False, record
            if length > wire and not self.lengths_may_swap:
                return False, record
            at += header_bytes + length
        return True, _RECORDS_WALKED
