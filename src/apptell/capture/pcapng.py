"""Reads pcapng files into packet columns, with their sections, interfaces and owners.

Format: draft-ietf-opsawg-pcapng. The compiled pass (``pcapng_scan``) goes from packet to packet;
blocks that change the state of the reader (section headers, interfaces, owners) are handled here.
"""

from __future__ import annotations

import secrets
import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.capture import pcapng_scan as kernel
from apptell.capture.batch import Owner
from apptell.capture.link_types import canonical_link_type, largest_packet
from apptell.capture.window import RECORD_LIMIT
from apptell.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from apptell.capture.columns import Columns
    from apptell.capture.window import Window

SECTION_MAGIC: Final = b"\x0a\x0d\x0d\x0a"
_ORDERS: Final = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_SECTION, _INTERFACE, _CUSTOM, _DARWIN_PROCESS = 0x0A0D0D0A, 1, 0x00000BAD, 0x80000001
_PCAPDROID_PEN, _PCAPDROID_OWNER = 62652, (1, 1)
_MAX_PER_SECTION: Final = 65_536
"""Interfaces, and owners, that a section may name."""
_MAX_OWNERS: Final = 1 << 20
"""Owners that all sections of all files together may name."""
_MAX_NAME_BYTES: Final = 256
"""Bytes of a process' name that are kept."""
_MAX_KINDS: Final = 256
"""Kinds of blocks that are counted apart."""
_OTHER_KINDS: Final = -2
_FIRST_UIDS: Final = 64
_RESOLUTION, _TIME_OFFSET = 9, 14
_PROCESS_NAME: Final = 2
_MOST_OFFSET_S: Final = (2**63 - 1) // 10**9
_QUIET_SLOTS: Final = 64

BLOCK_NAMES: Final = {
    4: "name resolution",
    5: "interface statistics",
    9: "systemd journal",
    10: "decryption secrets",
    0x00000BAD: "custom",
    0x40000BAD: "custom",
    _OTHER_KINDS: "other",
}
"""Names of blocks that hold no packets."""


class PcapngParser:
    """The blocks of one pcapng stream."""

    format: Final = "pcapng"

    def __init__(self, window: Window, owners: list[Owner]) -> None:
        """Owners that the file names are appended to ``owners``."""
        self._window = window
        self._owners = owners
        self._owner_index = {owner: index for index, owner in enumerate(owners)}
        self._order = "<"
        self._multiplier = secrets.randbits(63) | 1  # files cannot choose uids that collide
        self._interface_base = 0
        self._n_interfaces = 0
        self._interfaces = np.zeros(4, dtype=kernel.INTERFACE)
        self._uids = kernel.UidTable.empty(_FIRST_UIDS, self._multiplier)
        self._n_uids = 0
        self._process_owners: NDArray[np.int32] = np.zeros(4, dtype=np.int32)
        self._n_processes = 0
        self._quiet_types: NDArray[np.int64] = np.full(_QUIET_SLOTS, -1, dtype=np.int64)
        self._quiet_counts: NDArray[np.int64] = np.zeros(_QUIET_SLOTS, dtype=np.int64)
        self._skipped: dict[int, int] = {}
        self._packets: dict[int, int] = {}

    @property
    def interfaces(self) -> int:
        """Interfaces described so far, over all sections."""
        return self._interface_base + self._n_interfaces

    @property
    def link_types(self) -> dict[int, int]:
        """Packets so far by LINKTYPE_ value."""
        packets = dict(self._packets)
        for row in self._interfaces[: self._n_interfaces]:
            if row["packets"]:
                key = int(row["link_type"])
                packets[key] = packets.get(key, 0) + int(row["packets"])
        return packets

    @property
    def skipped_blocks(self) -> dict[str, int]:
        """Blocks passed over so far, by name."""
        skipped: dict[str, int] = {}
        quiet = zip(self._quiet_types.tolist(), self._quiet_counts.tolist(), strict=True)
        for kind, count in (*self._skipped.items(), *quiet):
            if count:
                name = BLOCK_NAMES.get(kind, f"0x{kind:08x}")
                skipped[name] = skipped.get(name, 0) + count
        return skipped

    def begin(self, columns: Columns) -> None:
        """Does nothing, because every column is written for every packet."""

    def scan(self, columns: Columns) -> int:
        """Packets of the whole blocks that the window holds; 0 when it must be filled first.

        Raises:
            CaptureError: the next block cannot be one, and no packet precedes it in this call.
        """
        window = self._window
        rows = columns.rows()
        n = 0
        while True:
            section = kernel.PcapngSection(
                self._order == ">",
                self._interfaces[: self._n_interfaces],
                self._interface_base,
                self._quiet_types,
                self._quiet_counts,
                self._uids,
                self._process_owners[: self._n_processes],
            )
            n, at, status, detail = kernel.scan_blocks(
                window.buffer, window.start, window.end, n, section, RECORD_LIMIT, rows
            )
            window.start = at
            if status in (kernel.MORE, kernel.FULL):
                return int(n)
            if status == kernel.NEW_UID:
                self._name_uid(int(detail), Owner(uid=int(detail)))
            elif status != kernel.OTHER:
                if n:
                    return int(n)  # what precedes the damage goes out first
                raise CaptureError(f"{window.name}: {_damage(status, int(detail))} {window.at(at)}")
            else:
                try:
                    if not self._state_block():
                        return int(n)
                except CaptureError:
                    if n:
                        return int(n)
                    raise

    def _state_block(self) -> bool:
        """Handle the block at the window's start; False when it is not all there yet."""
        window = self._window
        if window.peek(4) == SECTION_MAGIC:
            return self._section()
        kind, total = struct.unpack(self._order + "II", window.peek(8))
        body = window.peek(total)[8:-4]
        if kind == _INTERFACE:
            self._add_interface(body)
        elif kind == _DARWIN_PROCESS:
            self._add_process(body)
        elif not (kind == _CUSTOM and self._pcapdroid_owner(body)):
            self._skip(kind)
        window.start += total
        return True

    def _section(self) -> bool:
        """A section header: new byte order, no interfaces, no owners yet."""
        window = self._window
        head = window.peek(16)
        if len(head) < 16:
            return False
        order = _ORDERS.get(head[8:12])
        place = window.at(window.start)
        if order is None:
            raise CaptureError(f"{window.name}: no byte-order magic in the section header {place}")
        total, _, major = struct.unpack(order + "IIH", head[4:14])
        if total % 4:
            raise CaptureError(
                f"{window.name}: block length {total} is not a multiple of 4 {place}"
            )
        if total < 28:
            raise CaptureError(f"{window.name}: block length {total} is too short {place}")
        if total > RECORD_LIMIT:
            raise CaptureError(f"{window.name}: block length {total} is too long {place}")
        if major != 1:
            raise CaptureError(f"{window.name}: pcapng version {major} is not known {place}")
        if len(window) < total:
            return False
        if window.peek(total)[-4:] != head[4:8]:
            raise CaptureError(f"{window.name}: the two lengths of a block differ {place}")
        self._packets = self.link_types
        self._interface_base += self._n_interfaces
        self._n_interfaces = 0
        self._order = order
        self._uids = kernel.UidTable.empty(_FIRST_UIDS, self._multiplier)
        self._n_uids = self._n_processes = 0
        window.start += total
        return True

    def _add_interface(self, body: bytes) -> None:
        window = self._window
        if len(body) < 8:
            place = window.at(window.start)
            raise CaptureError(f"{window.name}: block length {len(body) + 12} is too short {place}")
        if self._n_interfaces == _MAX_PER_SECTION:
            place = window.at(window.start)
            raise CaptureError(f"{window.name}: more than {_MAX_PER_SECTION} interfaces {place}")
        if self._n_interfaces == len(self._interfaces):
            self._interfaces = np.concatenate([self._interfaces, np.zeros_like(self._interfaces)])
        link_type, _, snap_length = struct.unpack(self._order + "HHI", body[:8])
        link_type = canonical_link_type(link_type)
        resolution, offset_s = 6, 0
        for code, value in self._options(body[8:]):
            if code == _RESOLUTION and len(value) == 1:
                resolution = value[0]
            elif code == _TIME_OFFSET and len(value) == 8:
                (offset_s,) = struct.unpack(self._order + "q", value)
        row = self._interfaces[self._n_interfaces]
        row["unit_kind"], row["unit"] = _unit(resolution)
        row["offset_ns"] = max(-_MOST_OFFSET_S, min(offset_s, _MOST_OFFSET_S)) * 10**9
        row["snap_length"] = snap_length
        row["largest"] = min(max(largest_packet(link_type), snap_length), RECORD_LIMIT)
        row["packets"] = 0
        row["link_type"] = link_type
        self._n_interfaces += 1

    def _add_process(self, body: bytes) -> None:
        """Darwin's process block: a process id and options; packets name it by its number."""
        if self._n_processes == _MAX_PER_SECTION:
            self._skip(_DARWIN_PROCESS)
            return
        if self._n_processes == len(self._process_owners):
            self._process_owners = np.concatenate([self._process_owners] * 2)
        owner = Owner()
        if len(body) >= 4:
            (process,) = struct.unpack(self._order + "i", body[:4])  # pid_t has a sign
            names = [value for code, value in self._options(body[4:]) if code == _PROCESS_NAME]
            name = (
                names[0][:_MAX_NAME_BYTES].rstrip(b"\0").decode("utf-8", "replace")
                if names
                else None
            )
            owner = Owner(uid=process, name=name)
        self._process_owners[self._n_processes] = self._index_of(owner)
        self._n_processes += 1

    def _pcapdroid_owner(self, body: bytes) -> bool:
        """PCAPdroid's custom block: package and app of a uid; False when it is another's."""
        if len(body) < 14:
            return False
        pen, version, kind = struct.unpack(self._order + "IHB", body[:7])
        if pen != _PCAPDROID_PEN or (version, kind) != _PCAPDROID_OWNER:
            return False
        uid, n_package, n_name = struct.unpack(self._order + "iBB", body[8:14])
        if 14 + n_package + n_name > len(body):
            return False
        package = body[14 : 14 + n_package].rstrip(b"\0").decode("utf-8", "replace")
        name = (
            body[14 + n_package : 14 + n_package + n_name].rstrip(b"\0").decode("utf-8", "replace")
        )
        self._name_uid(uid, Owner(uid=uid, package=package or None, name=name or None))
        return True

    def _name_uid(self, uid: int, owner: Owner) -> None:
        """Packets of ``uid`` belong to ``owner`` from here on."""
        index = self._index_of(owner)
        slot, is_there = kernel.find_uid(uid, self._uids)
        if is_there:
            self._uids.owners[slot] = index
            return
        if self._n_uids == _MAX_PER_SECTION:
            window = self._window
            place = window.at(window.start)
            raise CaptureError(f"{window.name}: more than {_MAX_PER_SECTION} owners {place}")
        if 2 * (self._n_uids + 1) > len(self._uids.uids):
            self._uids = self._uids.doubled()
            slot, _ = kernel.find_uid(uid, self._uids)
        self._uids.uids[slot], self._uids.owners[slot] = uid, index
        self._n_uids += 1

    def _index_of(self, owner: Owner) -> int:
        """The owner's place in the side table.

        Raises:
            CaptureError: the file names more owners than there are processes and apps anywhere.
        """
        if len(self._owners) == _MAX_OWNERS and owner not in self._owner_index:
            window = self._window
            place = window.at(window.start)
            raise CaptureError(f"{window.name}: more than {_MAX_OWNERS} owners in all {place}")
        index = self._owner_index.setdefault(owner, len(self._owners))
        if index == len(self._owners):
            self._owners.append(owner)
        return index

    def _skip(self, kind: int) -> None:
        """Count a block that is passed over; the kernel itself passes over the next of its kind."""
        free = np.flatnonzero(self._quiet_types == -1)
        if len(free) and kind != _CUSTOM and kind != _DARWIN_PROCESS:
            self._quiet_types[free[0]] = kind
            self._quiet_counts[free[0]] = 1
        else:
            if kind not in self._skipped and len(self._skipped) >= _MAX_KINDS:
                kind = _OTHER_KINDS
            self._skipped[kind] = self._skipped.get(kind, 0) + 1

    def _options(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Code and value of each option up to the end mark or the first that does not fit."""
        at = 0
        while len(data) - at >= 4:
            code, length = struct.unpack_from(self._order + "HH", data, at)
            at += 4
            if code == 0 or at + length > len(data):
                return
            yield code, data[at : at + length]
            at += (length + 3) & ~3


def _unit(resolution: int) -> tuple[int, int]:
    """The kernel's unit kind and unit for an ``if_tsresol`` byte."""
    power = resolution & 0x7F
    if resolution & 0x80:
        return kernel.BINARY, power
    if power <= 9:
        return kernel.TIMES, int(10 ** (9 - power))
    if power > 28:
        return kernel.BINARY, 127  # 2**64 ticks are less than 1 ns
    return kernel.OVER, int(10 ** (power - 9))


def _damage(status: int, detail: int) -> str:
    """The error message for a status of the kernel."""
    return {
        kernel.BAD_MULTIPLE: f"block length {detail} is not a multiple of 4",
        kernel.TOO_SHORT: f"block length {detail} is too short",
        kernel.TOO_LONG: f"block length {detail} is too long",
        kernel.BAD_TRAILER: "the two lengths of a block differ",
        kernel.BAD_INTERFACE: f"packet of interface {detail}, which is not described",
        kernel.BAD_CAPTURED: f"captured length {detail} does not fit its block",
        kernel.TOO_LARGE: f"captured length {detail} is too large",
    }[status]
