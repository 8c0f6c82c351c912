"""Scans the blocks of a pcapng section into packet columns; compiled code.

It stops at every block that changes the state of the reader, which Python handles, and goes on
behind it. Specification: draft-ietf-opsawg-pcapng, sections 3.1 and 4; Darwin's options: libpcap's
pcapng.h of Apple's xnu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.capture.columns import (
    CAPTURED_BYTES,
    CUT_PACKETS,
    FIRST_NS,
    INT64_MAX,
    LAST_NS,
    PREVIOUS_NS,
    WIRE_BYTES,
)
from apptell.kernels.compiled import inlined, kernel, subroutine

if TYPE_CHECKING:
    from numpy.typing import NDArray

INTERFACE: Final = np.dtype(
    [
        ("unit", np.uint64),  # see ``unit_kind``
        ("offset_ns", np.int64),  # added to every time
        ("snap_length", np.int64),
        ("largest", np.int64),  # captured length above which a packet is damage
        ("packets", np.int64),  # found so far
        ("link_type", np.uint16),
        ("unit_kind", np.uint8),
    ]
)
"""One interface of the section, as the kernel sees it."""
TIMES, OVER, BINARY = 0, 1, 2
"""Unit kinds: ns = ticks * unit, ns = ticks // unit, ns = ticks * 10**9 >> unit."""

(
    MORE,
    FULL,
    OTHER,
    NEW_UID,
    BAD_MULTIPLE,
    TOO_SHORT,
    TOO_LONG,
    BAD_TRAILER,
    BAD_INTERFACE,
    BAD_CAPTURED,
    TOO_LARGE,
) = range(11)
"""Why the kernel stopped: bytes are missing; columns are full; a block for Python; an unknown uid;
and the kinds of damage."""
WHOLE: Final = -1
"""A block that can be read."""

_SECTION, _PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 2, 3, 6
_COMMENT, _FLAGS, _PROCESS, _EFFECTIVE_PROCESS = 1, 2, 0x8001, 0x8003
_INT32_MAX = 2**31 - 1
_MAX_UID_DIGITS = 10
_BILLION = 1_000_000_000


@inlined
def _u16(buffer, at, big_endian):  # type: ignore[no-untyped-def]
    a, b = np.int64(buffer[at]), np.int64(buffer[at + 1])
    if big_endian:
        return (a << 8) | b
    return a | (b << 8)


@inlined
def _u32(buffer, at, big_endian):  # type: ignore[no-untyped-def]
    a, b = np.int64(buffer[at]), np.int64(buffer[at + 1])
    c, d = np.int64(buffer[at + 2]), np.int64(buffer[at + 3])
    if big_endian:
        return (a << 24) | (b << 16) | (c << 8) | d
    return a | (b << 8) | (c << 16) | (d << 24)


class UidTable(NamedTuple):
    """Owners of a section by uid: open addressing with linear probing, at most half full."""

    uids: NDArray[np.int64]
    """Shape (2^k,)."""
    owners: NDArray[np.int32]
    """Index of each uid's owner, -1 where there is no uid; shape (2^k,)."""
    multiplier: np.uint64
    """Odd and secret: which uids collide cannot be chosen."""

    @classmethod
    def empty(cls, size: int, multiplier: int) -> UidTable:
        """A table of ``size`` places, a power of two, without uids."""
        owners = np.full(size, -1, dtype=np.int32)
        return cls(np.zeros(size, dtype=np.int64), owners, np.uint64(multiplier))

    def doubled(self) -> UidTable:
        """The same uids in twice the places."""
        table = UidTable.empty(2 * len(self.uids), int(self.multiplier))
        for slot in np.flatnonzero(self.owners >= 0):
            free, _ = find_uid(int(self.uids[slot]), table)
            table.uids[free], table.owners[free] = self.uids[slot], self.owners[slot]
        return table


@kernel
def find_uid(uid, table):  # type: ignore[no-untyped-def]
    """The place of a uid in a ``UidTable``, or a free one for it; and whether it is in the table."""
    mask = len(table.uids) - 1
    mixed = np.uint64(uid) * table.multiplier
    slot = np.int64(mixed >> np.uint64(32)) & mask
    while table.owners[slot] >= 0:
        if table.uids[slot] == uid:
            return slot, True
        slot = (slot + 1) & mask
    return slot, False


@subroutine
def nanoseconds(ticks, unit_kind, unit, offset_ns):  # type: ignore[no-untyped-def]
    """Ticks of an interface's clock as ns since 1970, rounded down, held within int64.

    Args:
        ticks: uint64.
        unit_kind: TIMES, OVER or BINARY.
        unit: uint64, see ``INTERFACE``; for BINARY at most 127.
        offset_ns: int64.
    """
    most = np.uint64(INT64_MAX)
    billion = np.uint64(_BILLION)
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    if unit_kind == TIMES:
        time = most if ticks > most // unit else ticks * unit
    elif unit_kind == OVER:
        time = ticks // unit
    elif unit >= np.uint64(64 + 30):  # 2**64 ticks are less than 1 ns
        time = np.uint64(0)
    else:
        # ticks * 10**9 as a high and a low part of 32 bits, so that nothing is lost before the
        # shift.
        bottom = (ticks & low) * billion
        top = (ticks >> half) * billion + (bottom >> half)
        if unit >= half:
            shift = unit - half
            time = top >> shift if shift < np.uint64(64) else np.uint64(0)
        elif top >> (unit + np.uint64(31)):
            time = most
        else:
            time = (top << (half - unit)) | ((bottom & low) >> unit)
    signed = np.int64(min(time, most))
    if offset_ns > 0 and signed > INT64_MAX - offset_ns:
        return np.int64(INT64_MAX)
    return signed + offset_ns


@subroutine
def packet_options(buffer, start, end, big_endian):  # type: ignore[no-untyped-def]
    """Options of a packet block in ``buffer[start:end]``.

    Returns:
        Direction (0 unknown, 1 inbound, 2 outbound); whether there is a comment ``u-<uid>``; that uid; index
        of the Darwin process on whose behalf the packet went, else of the process, else -1.
    """
    end = min(end, len(buffer))
    at = max(start, 0)
    direction, has_uid, uid, process, effective = 0, False, np.int64(0), np.int64(-1), np.int64(-1)
    while end - at >= 4:
        code = _u16(buffer, at, big_endian)
        length = _u16(buffer, at + 2, big_endian)
        at += 4
        if code == 0 or length > end - at:
            break
        if code == _FLAGS and length == 4:
            direction = _u32(buffer, at, big_endian) & 3
            if direction == 3:
                direction = 0
        elif code == _PROCESS and length == 4:
            process = _u32(buffer, at, big_endian)
        elif code == _EFFECTIVE_PROCESS and length == 4:
            effective = _u32(buffer, at, big_endian)
        elif code == _COMMENT and length >= 3 and buffer[at] == 117 and buffer[at + 1] == 45:
            stop = at + length
            while (
                stop > at and buffer[stop - 1] == 0
            ):  # some writers end a comment like a string of C
                stop -= 1
            negative = buffer[at + 2] == 45
            first = at + 3 if negative else at + 2
            value = np.int64(0)
            is_number = first < stop <= first + _MAX_UID_DIGITS
            for i in range(first, min(stop, first + _MAX_UID_DIGITS)):
                digit = np.int64(buffer[i]) - 48
                if digit < 0 or digit > 9:
                    is_number = False
                    break
                value = value * 10 + digit
            if is_number and value <= _INT32_MAX:
                has_uid = True
                uid = -value if negative else value
        at += (length + 3) & ~3
    return direction, has_uid, uid, effective if effective >= 0 else process


class PcapngSection(NamedTuple):
    """The state of a section so far."""

    big_endian: bool
    """Its byte order."""
    interfaces: NDArray[Any]
    """Shape (k,), dtype ``INTERFACE``; ``packets`` is added to."""
    interface_base: int
    """Interfaces of the sections before."""
    quiet_types: NDArray[np.int64]
    """Types of blocks that are only counted; shape (q,)."""
    quiet_counts: NDArray[np.int64]
    """How many of each there were; shape (q,)."""
    uids: UidTable
    """The uids that have an owner."""
    process_owners: NDArray[np.int32]
    """Owner of each Darwin process; shape (p,)."""


@inlined
def _check_block(buffer, at, end, big_endian, largest_block):  # type: ignore[no-untyped-def]
    """Type and total length of the block at a place, and WHOLE or why it cannot be read on its own."""
    if at < 0 or end - at < 12:
        return np.int64(0), np.int64(0), MORE
    kind = _u32(buffer, at, big_endian)
    if kind == _SECTION:
        return kind, np.int64(0), OTHER
    total = _u32(buffer, at + 4, big_endian)
    if total & 3:
        return kind, total, BAD_MULTIPLE
    if total < 12:
        return kind, total, TOO_SHORT
    if total > largest_block:
        return kind, total, TOO_LONG
    if end - at < total:
        return kind, total, MORE
    if _u32(buffer, at + total - 4, big_endian) != total:
        return kind, total, BAD_TRAILER
    return kind, total, WHOLE


@inlined
def _open_packet(buffer, at, kind, total, section, previous_ns):  # type: ignore[no-untyped-def]
    """A packet's block, whole: WHOLE or what is wrong and a number; else interface and the rest.

    Returns:
        WHOLE, TOO_SHORT, BAD_INTERFACE, BAD_CAPTURED or TOO_LARGE; the number of the interface, or what
        belongs to the damage; captured length; length on the wire; first byte of the frame; time in ns.
    """
    big_endian, interfaces = section.big_endian, section.interfaces
    body, stop = at + 8, at + total - 4
    none = np.int64(0)
    if kind == _SIMPLE:
        if total < 16:
            return TOO_SHORT, total, none, none, none, none
        if len(interfaces) == 0:
            return BAD_INTERFACE, none, none, none, none, none
        number = none
        on_wire = _u32(buffer, body, big_endian)
        data = body + 4
        length = min(on_wire, stop - data)
        if interfaces[0].snap_length > 0:
            length = min(length, interfaces[0].snap_length)
        now = previous_ns  # a simple packet block has no time of its own
    else:
        if total < 32:
            return TOO_SHORT, total, none, none, none, none
        number = _u32(buffer, body, big_endian)
        if kind == _PACKET:  # interface and drop count share the word
            number = _u16(buffer, body, big_endian)
        if number >= len(interfaces):
            return BAD_INTERFACE, number, none, none, none, none
        length = _u32(buffer, body + 12, big_endian)
        on_wire = _u32(buffer, body + 16, big_endian)
        data = body + 20
        if length > stop - data:
            return BAD_CAPTURED, length, none, none, none, none
        high, low = _u32(buffer, body + 4, big_endian), _u32(buffer, body + 8, big_endian)
        one = interfaces[number]
        now = nanoseconds(
            (np.uint64(high) << np.uint64(32)) | np.uint64(low),
            one.unit_kind,
            one.unit,
            one.offset_ns,
        )
    if length > interfaces[number].largest:
        return TOO_LARGE, length, none, none, none, none
    return WHOLE, number, length, min(on_wire, _INT32_MAX), data, now


@inlined
def _is_quiet(kind, section):  # type: ignore[no-untyped-def]
    """Whether a block of a kind is only counted, which is done."""
    for i in range(len(section.quiet_types)):
        if section.quiet_types[i] == kind:
            section.quiet_counts[i] += 1
            return True
    return False


@kernel
def scan_blocks(buffer, start, end, n, section, largest_block, rows):  # type: ignore[no-untyped-def]
    """Whole blocks of ``buffer[start:end]`` into columns, from row ``n`` on.

    Args:
        buffer: uint8 (size,).
        start: first byte of a block.
        end: first byte that does not count.
        n: rows that are filled already.
        section: the ``Section`` that the blocks belong to.
        largest_block: total length above which a block is damage.
        rows: the columns, out.

    Returns:
        Rows filled; first byte of the block where it stopped; why (MORE ... TOO_LARGE); a number
        that belongs to that: the block's total length, the uid, the interface or the captured
        length.
    """
    end = min(end, len(buffer))
    totals = rows.totals
    at = start
    last_uid, last_owner = np.int64(0), np.int32(-1)
    while True:
        if n >= len(rows.offset):
            return n, at, FULL, np.int64(0)
        kind, total, status = _check_block(buffer, at, end, section.big_endian, largest_block)
        if status != WHOLE:
            return n, at, status, total
        if kind != _ENHANCED and kind != _PACKET and kind != _SIMPLE:
            if not _is_quiet(kind, section):
                return n, at, OTHER, total
            at += total
            continue
        status, number, length, on_wire, data, now = _open_packet(
            buffer, at, kind, total, section, totals[PREVIOUS_NS]
        )
        if status != WHOLE:
            return n, at, status, number
        if kind != _SIMPLE:
            totals[FIRST_NS] = min(totals[FIRST_NS], now)
            totals[LAST_NS] = max(totals[LAST_NS], now)
        options, stop = data + ((length + 3) & ~3), at + total - 4
        towards = 0
        belongs = np.int32(-1)
        if kind != _SIMPLE and stop - options >= 4:
            towards, has_uid, uid, process = packet_options(
                buffer, options, stop, section.big_endian
            )
            if has_uid:
                if last_owner < 0 or uid != last_uid:
                    slot, is_there = find_uid(uid, section.uids)
                    if not is_there:
                        return n, at, NEW_UID, uid
                    last_uid, last_owner = uid, section.uids.owners[slot]
                belongs = last_owner
            elif 0 <= process < len(section.process_owners):
                belongs = section.process_owners[process]
        rows.offset[n] = data
        rows.captured[n] = length
        rows.wire[n] = on_wire
        rows.time_ns[n] = now
        rows.link_type[n] = section.interfaces[number].link_type
        rows.interface[n] = section.interface_base + number
        rows.direction[n] = towards
        rows.owner[n] = belongs
        section.interfaces[number].packets += 1
        totals[CAPTURED_BYTES] += length
        totals[WIRE_BYTES] += on_wire
        totals[CUT_PACKETS] += length < on_wire
        totals[PREVIOUS_NS] = now
        n += 1
        at += total
