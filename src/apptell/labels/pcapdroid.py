"""Packets of a PCAPdroid capture enter; the same packets leave with their owners filled in.

With "dump extensions" a record is: 14-byte Ethernet header (12 zero bytes, EtherType), IP packet, zeros up
to a multiple of four, and a 32-byte trailer (magic, uid, app name, FCS). Whoever cuts payload by the IP
total length never sees the trailer; this module is the only one that reads it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numba import njit

from apptell.capture.batch import Owner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.capture.batch import PacketBatch

MAGIC: Final = 0x01072021
TRAILER_BYTES: Final = 32
_FCS_BYTES: Final = 4
_LINKTYPE_ETHERNET: Final = 1
_LINKTYPE_RAW: Final = 101
_NONE, _WHOLE, _NO_FCS, _BARE_IP = 0, 1, 2, 3


@dataclass(slots=True)
class TrailerReader:
    """Fills ``owner`` and ``owners`` from trailers, batch by batch; counts what it met.

    Use one per capture: it keeps the side table of owners. A frame without its trailer, because the
    snap length left no room, is a bare IP packet in a file that says Ethernet: its link type is put
    right.
    """

    owners: list[Owner] = field(default_factory=list)
    n_trailers: int = 0
    """Packets with a trailer."""
    n_bad_fcs: int = 0
    """Of these, packets whose checksum is wrong; they are kept, with their owner."""
    n_bare: int = 0
    """Packets without Ethernet header and trailer."""
    _known: dict[bytes, int] = field(default_factory=dict)

    def __call__(self, batch: PacketBatch) -> PacketBatch:
        """The same packets, with owners; buffer and other columns are shared with ``batch``."""
        found = np.zeros(len(batch), dtype=np.uint8)
        at = np.zeros(len(batch), dtype=np.int64)
        _find_trailers(batch.buffer, batch.offset, batch.captured, batch.link_type, found, at)
        has = (found == _WHOLE) | (found == _NO_FCS)
        self.n_trailers += int(has.sum())
        self.n_bad_fcs += _count_bad(batch, np.flatnonzero(found == _WHOLE))
        bare = found == _BARE_IP
        self.n_bare += int(bare.sum())
        link_type = np.where(bare, np.uint16(_LINKTYPE_RAW), batch.link_type)
        rows = np.flatnonzero(has)
        if not len(rows):
            # pcapng names owners in its own way; flows that are still open need those of before
            return replace(batch, link_type=link_type, owners=self.owners or batch.owners)
        # uid and name, 24 bytes each: (rows, 24)
        fields = np.ascontiguousarray(batch.buffer[at[rows, None] + np.arange(4, 28)])
        raw = [None, pa.py_buffer(fields)]
        keys = pa.FixedSizeBinaryArray.from_buffers(pa.binary(24), len(rows), raw)
        coded = keys.dictionary_encode()
        numbers = [self._number(key) for key in coded.dictionary.to_pylist()]
        owner = np.full(len(batch), -1, dtype=np.int32)
        owner[rows] = np.array(numbers, dtype=np.int32)[np.asarray(coded.indices)]
        return replace(batch, owner=owner, owners=self.owners, link_type=link_type)

    def _number(self, key: bytes) -> int:
        if key not in self._known:
            self._known[key] = len(self.owners)
            self.owners.append(_owner(key))
        return self._known[key]


def has_trailers(batch: PacketBatch) -> bool:
    """Whether any packet of a batch carries a trailer."""
    reader = TrailerReader()
    reader(batch)
    return reader.n_trailers > 0


def _count_bad(batch: PacketBatch, rows: NDArray[np.int64]) -> int:
    """How many of these frames end in another checksum than theirs (IEEE CRC-32, little-endian)."""
    data = batch.buffer.data
    stop = batch.offset[rows] + batch.captured[rows] - _FCS_BYTES
    stored = np.ascontiguousarray(batch.buffer[stop[:, None] + np.arange(_FCS_BYTES)]).view("<u4")
    frames = zip(batch.offset[rows].tolist(), stop.tolist(), stored.ravel().tolist(), strict=True)
    return sum(zlib.crc32(data[start:end]) != crc for start, end, crc in frames)


def _owner(key: bytes) -> Owner:
    """Uid (big-endian, signed) and name (NUL-padded UTF-8, perhaps cut in mid-character)."""
    uid = int.from_bytes(key[:4], "big", signed=True)
    name = key[4:].split(b"\0", 1)[0].decode("utf-8", errors="ignore")
    return Owner(uid=uid, name=name or None)


@njit(cache=True, nogil=True)
def _find_trailers(
    data: Any, offset: Any, captured: Any, link_type: Any, found: Any, at: Any
) -> None:
    """For each frame: what was found (out), and where its trailer begins (out)."""
    for row in range(len(offset)):
        start, size = offset[row], captured[row]
        if link_type[row] != _LINKTYPE_ETHERNET or start < 0 or size < 20:
            continue
        if start + size > len(data):
            continue
        end = start + size
        if size >= 14 + 20 + TRAILER_BYTES and _is_magic(data, end - TRAILER_BYTES):
            at[row] = end - TRAILER_BYTES
            found[row] = _WHOLE
        elif size >= 14 + 20 + TRAILER_BYTES - _FCS_BYTES and _is_magic(
            data, end - TRAILER_BYTES + _FCS_BYTES
        ):
            at[row] = end - TRAILER_BYTES + _FCS_BYTES
            found[row] = _NO_FCS
        elif data[start] >> 4 == 4 or data[start] >> 4 == 6:
            found[row] = _BARE_IP


@njit(cache=True, nogil=True)
def _is_magic(data: Any, at: Any) -> bool:
    """Whether the trailer's magic, big-endian, stands there; the caller checked the length."""
    if at < 0 or at + 4 > len(data):
        return False
    return bool(
        data[at] == 0x01 and data[at + 1] == 0x07 and data[at + 2] == 0x20 and data[at + 3] == 0x21
    )
