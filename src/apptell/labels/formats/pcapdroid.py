"""Captures of PCAPdroid that name the owner of each packet: in a trailer, or in a pcapng's options and blocks.

With "dump extensions" a record is: 14-byte Ethernet header (12 zero bytes, EtherType), IP packet, zeros up
to a multiple of four, and a 32-byte trailer (magic, uid, app name, FCS). Code that cuts payload by the IP
total length never sees the trailer; only this module reads it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from apptell.capture.batch import Owner
from apptell.kernels.compiled import inlined, kernel, subroutine
from apptell.labels.format import Candidate, LabelFormat
from apptell.labels.formats.pcapdroid_csv import PcapdroidCsv, packages_of
from apptell.labels.labelled_capture import LabelledCapture
from apptell.labels.labellers import OwnerLabeller
from apptell.labels.naming import app_id, label_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.capture.batch import PacketBatch

MAGIC: Final = 0x01072021
TRAILER_BYTES: Final = 32
_FCS_BYTES: Final = 4
_LINKTYPE_ETHERNET: Final = 1
_LINKTYPE_RAW: Final = 101
_KEY_BYTES: Final = 24
"""Uid and name: what tells one owner from another."""
_N_TRAILERS, _N_BAD_FCS, _N_BARE, _N_KEYS, _SECRET = range(5)
_MAX_TITLE_BYTES: Final = 19
"""Bytes of an app's title that a trailer has room for."""


def _crc_tables() -> NDArray[np.uint32]:
    """Tables of the IEEE CRC-32, reflected, to take 16 bytes at a step; shape (16, 256)."""
    tables = np.zeros((16, 256), dtype=np.uint32)
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
        tables[0, value] = crc
    for i in range(1, 16):
        tables[i] = tables[i - 1] >> 8 ^ tables[0, tables[i - 1] & 0xFF]
    return tables


_CRC: Final = _crc_tables()


class Pcapdroid(LabelFormat):
    """A capture whose packets have trailers, or a pcapng that names uids and packages."""

    name: ClassVar[str] = "pcapdroid"
    files: ClassVar[str] = (
        "captures of PCAPdroid with the app of each packet (dump extensions, or pcapng)"
    )

    def detect(self, candidate: Candidate) -> bool:
        """Whether the first packets have such owners; a process without a package is Apple's."""
        if not candidate.is_capture or candidate.first_packets is None:
            return False
        owners = candidate.first_owners
        if any(owner.name and not owner.package for owner in owners):
            return False
        return bool(owners) or has_trailers(candidate.first_packets)

    def read(self, candidate: Candidate) -> Iterator[LabelledCapture]:
        """The capture; lists of connections beside it give the packages of uids."""
        if candidate.is_capture:
            lists = PcapdroidCsv().logs_of(candidate)
            owners = AndroidOwners(lists, candidate.options.rename)
            yield LabelledCapture(
                candidate.name,
                candidate.path,
                OwnerLabeller(self.name, owners),
                candidate.reader,
                candidate.recorded_groups,
                lists,
                annotate=TrailerReader(),
            )


@dataclass(frozen=True, slots=True)
class AndroidOwners:
    """Labels owners by package, else by title, else by uid."""

    lists: tuple[Path, ...] = ()
    """PCAPdroid's lists of connections: they have the package of each uid."""
    rename: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, owner: Owner) -> str | None:
        """The label; None where the owner is unknown."""
        package = owner.package or self._listed(owner)
        return label_of(uid=owner.uid, package=package, name=owner.name, rename=self.rename)

    def _listed(self, owner: Owner) -> str | None:
        """The package that a list has for a uid, or for the same app of another user of the phone."""
        if owner.uid is None or owner.uid < 0 or not self.lists:
            return None
        packages = packages_of(self.lists)
        found = packages.get(owner.uid) or packages.get(app_id(owner.uid))
        if found is None:
            return None
        title, package = found
        # Under another title the number is another phone's. A work profile's apps have no title but the uid.
        cut = title.encode()[:_MAX_TITLE_BYTES].decode("utf-8", errors="ignore")
        return package if owner.name in (None, str(owner.uid), title, cut) else None


@dataclass(slots=True)
class TrailerReader:
    """Fills ``owner`` and ``owners`` from trailers, batch by batch; counts what it met.

    Use one per capture: it keeps the side table of owners. A frame without its trailer, because the
    snap length left no room, is a bare IP packet in a file of the link type Ethernet; its link type is
    corrected.
    """

    owners: list[Owner] = field(default_factory=list)
    n_trailers: int = 0
    """Packets with a trailer."""
    n_bad_fcs: int = 0
    """Of these, packets whose checksum is wrong; they are kept, with their owner."""
    n_bare: int = 0
    """Packets without Ethernet header and trailer."""
    _keys: NDArray[np.uint8] = field(
        default_factory=lambda: np.zeros((64, _KEY_BYTES), dtype=np.uint8)
    )
    _secret: int = field(default_factory=lambda: secrets.randbits(63))
    """Where the hash of an owner begins: whoever makes a capture chooses uids and names, but no collisions."""
    _slots: NDArray[np.int32] = field(default_factory=lambda: np.full(256, -1, dtype=np.int32))

    def __call__(self, batch: PacketBatch) -> PacketBatch:
        """The same packets, with owners; buffer and other columns are shared with ``batch``."""
        owner = np.full(len(batch), -1, dtype=np.int32)
        link_type = batch.link_type.copy()
        counts = np.array([0, 0, 0, len(self.owners), self._secret], dtype=np.int64)
        row = 0
        while row < len(batch):
            row = _read_trailers(
                batch.buffer,
                batch.offset,
                batch.captured,
                link_type,
                row,
                _CRC,
                self._keys,
                self._slots,
                owner,
                counts,
            )
            self.owners += [
                _owner(key.tobytes()) for key in self._keys[len(self.owners) : counts[3]]
            ]
            if row < len(batch):
                self._grow()
        self.n_trailers += int(counts[_N_TRAILERS])
        self.n_bad_fcs += int(counts[_N_BAD_FCS])
        self.n_bare += int(counts[_N_BARE])
        if not counts[_N_TRAILERS]:
            # pcapng names owners in its own way; flows that are still open need those of before
            return replace(batch, link_type=link_type, owners=self.owners or batch.owners)
        return replace(batch, owner=owner, owners=self.owners, link_type=link_type)

    @property
    def facts(self) -> dict[str, int]:
        """What ``dataset.json`` keeps of it."""
        return {"trailers": self.n_trailers, "bad_fcs": self.n_bad_fcs}

    def _grow(self) -> None:
        n = len(self.owners)
        self._keys = np.concatenate([self._keys, np.zeros((3 * n, _KEY_BYTES), dtype=np.uint8)])
        self._slots = np.full(4 * len(self._slots), -1, dtype=np.int32)
        _number_again(self._keys, n, self._slots, self._secret)


def has_trailers(batch: PacketBatch) -> bool:
    """Whether any packet of a batch carries a trailer."""
    reader = TrailerReader()
    reader(batch)
    return reader.n_trailers > 0


def _owner(key: bytes) -> Owner:
    """Uid (big-endian, signed) and name (NUL-padded UTF-8, perhaps cut in mid-character)."""
    uid = int.from_bytes(key[:4], "big", signed=True)
    name = key[4:].split(b"\0", 1)[0].decode("utf-8", errors="ignore")
    return Owner(uid=uid, name=name or None)


@kernel
def _read_trailers(
    data: Any,
    offset: Any,
    captured: Any,
    link_type: Any,
    row: int,
    tables: Any,
    keys: Any,
    slots: Any,
    owner: Any,
    counts: Any,
) -> int:
    """Reads trailers from ``row`` on; the number of rows when done, else the row that found no room.

    Out: ``owner``, the number of each frame's owner; ``link_type`` of bare IP packets; ``keys`` and
    ``slots`` with new owners; ``counts``.
    """
    n = len(offset)
    for at in range(row, n):
        start, size = offset[at], captured[at]
        if link_type[at] != _LINKTYPE_ETHERNET or start < 0 or size < 20:
            continue
        end = start + size
        if end > len(data):
            continue
        if size >= 14 + 20 + TRAILER_BYTES and _is_magic(data, end - TRAILER_BYTES):
            trailer = end - TRAILER_BYTES
        elif size >= 14 + 20 + TRAILER_BYTES - _FCS_BYTES and _is_magic(
            data, end - TRAILER_BYTES + _FCS_BYTES
        ):
            trailer = end - TRAILER_BYTES + _FCS_BYTES
        else:
            if data[start] >> 4 == 4 or data[start] >> 4 == 6:
                link_type[at] = _LINKTYPE_RAW
                counts[_N_BARE] += 1
            continue
        number = _number(data, trailer + 4, keys, slots, counts)
        if number < 0:
            return at
        owner[at] = number
        counts[_N_TRAILERS] += 1
        if trailer + TRAILER_BYTES == end:
            stored = np.uint32(0)
            for i in range(_FCS_BYTES):
                stored |= np.uint32(data[end - _FCS_BYTES + i]) << np.uint32(8 * i)
            if _crc32(data, start, end - _FCS_BYTES, tables) != stored:
                counts[_N_BAD_FCS] += 1
    return n


@subroutine
def _number(data: Any, at: int, keys: Any, slots: Any, counts: Any) -> int:
    """The number of the owner whose key stands there; -1 when it is new and there is no room."""
    mixed = np.uint64(counts[_SECRET])
    for i in range(_KEY_BYTES):
        mixed = (mixed ^ np.uint64(data[at + i])) * np.uint64(1099511628211)
    slot = np.int64(mixed >> np.uint64(32)) & (len(slots) - 1)
    while slots[slot] >= 0:
        known = slots[slot]
        same = True
        for i in range(_KEY_BYTES):
            if keys[known, i] != data[at + i]:
                same = False
                break
        if same:
            return int(known)
        slot = (slot + 1) & (len(slots) - 1)
    number = int(counts[_N_KEYS])
    if number == len(keys):
        return -1
    for i in range(_KEY_BYTES):
        keys[number, i] = data[at + i]
    slots[slot] = number
    counts[_N_KEYS] += 1
    return number


@kernel
def _number_again(keys: Any, n: int, slots: Any, secret: int) -> None:
    """Puts the first n keys into empty slots."""
    counts = np.zeros(5, dtype=np.int64)
    counts[_SECRET] = secret
    flat = keys.copy().reshape(-1)
    for number in range(n):
        _number(flat, number * _KEY_BYTES, keys, slots, counts)


@subroutine
def _crc32(data: Any, start: int, stop: int, tables: Any) -> np.uint32:
    """IEEE CRC-32 of ``data[start:stop]``, 16 bytes at a step; the caller checked the bounds."""
    crc = np.uint32(0xFFFFFFFF)
    byte, one = np.uint32(0xFF), np.uint64(1)
    at, end = np.uint64(start), np.uint64(stop)
    while at + np.uint64(16) <= end:
        word = crc ^ (
            np.uint32(data[at])
            | np.uint32(data[at + one]) << np.uint32(8)
            | np.uint32(data[at + np.uint64(2)]) << np.uint32(16)
            | np.uint32(data[at + np.uint64(3)]) << np.uint32(24)
        )
        crc = (
            tables[15, word & byte]
            ^ tables[14, (word >> np.uint32(8)) & byte]
            ^ tables[13, (word >> np.uint32(16)) & byte]
            ^ tables[12, word >> np.uint32(24)]
            ^ tables[11, data[at + np.uint64(4)]]
            ^ tables[10, data[at + np.uint64(5)]]
            ^ tables[9, data[at + np.uint64(6)]]
            ^ tables[8, data[at + np.uint64(7)]]
            ^ tables[7, data[at + np.uint64(8)]]
            ^ tables[6, data[at + np.uint64(9)]]
            ^ tables[5, data[at + np.uint64(10)]]
            ^ tables[4, data[at + np.uint64(11)]]
            ^ tables[3, data[at + np.uint64(12)]]
            ^ tables[2, data[at + np.uint64(13)]]
            ^ tables[1, data[at + np.uint64(14)]]
            ^ tables[0, data[at + np.uint64(15)]]
        )
        at += np.uint64(16)
    while at < end:
        crc = tables[0, (crc ^ np.uint32(data[at])) & byte] ^ (crc >> np.uint32(8))
        at += one
    return crc ^ np.uint32(0xFFFFFFFF)


@inlined
def _is_magic(data: Any, at: int) -> bool:
    """Whether the trailer's magic, big-endian, stands there; the caller checked the length."""
    if at < 0 or at + 4 > len(data):
        return False
    return bool(
        data[at] == 0x01 and data[at + 1] == 0x07 and data[at + 2] == 0x20 and data[at + 3] == 0x21
    )
