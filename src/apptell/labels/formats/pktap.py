"""Captures of Apple's systems that name the process of each packet: PKTAP, or pcapng with process blocks.

Each frame begins with ``struct pktap_header`` of Darwin (bsd/net/pktap.h), little-endian, 108 bytes: its
length at 0, the process' number and name (17 bytes, NUL-padded) at 52, and those of the effective
process at 84: the one on whose behalf a daemon such as nsurlsessiond speaks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import pyarrow as pa

from apptell.capture.batch import Owner
from apptell.labels.format import Candidate, LabelFormat
from apptell.labels.labelled_capture import LabelledCapture
from apptell.labels.labellers import OwnerLabeller
from apptell.labels.naming import label_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apptell.capture.batch import PacketBatch

LINK_TYPES: Final = (149, 258)
HEADER_BYTES: Final = 108
_PROCESS_AT: Final = (84, 52)
"""The effective process, then the process itself."""
_PROCESS_BYTES: Final = 21


class Pktap(LabelFormat):
    """A capture of link type PKTAP, or a pcapng with Darwin's process blocks."""

    name: ClassVar[str] = "pktap"
    files: ClassVar[str] = (
        "captures of Apple's systems with the process of each packet (PKTAP, or pcapng)"
    )

    def detect(self, candidate: Candidate) -> bool:
        """Whether the first packet has a PKTAP header, or one of the first a process without a package."""
        if not candidate.is_capture or candidate.first_packets is None:
            return False
        if int(candidate.first_packets.link_type[0]) in LINK_TYPES:
            return True
        return any(owner.name and not owner.package for owner in candidate.first_owners)

    def read(self, candidate: Candidate) -> Iterator[LabelledCapture]:
        """The capture, labelled by names of processes."""
        if candidate.is_capture:
            yield LabelledCapture(
                candidate.name,
                candidate.path,
                OwnerLabeller(self.name, ProcessOwners(candidate.options.rename)),
                candidate.reader,
                candidate.recorded_groups,
                annotate=PktapReader(),
            )


@dataclass(frozen=True, slots=True)
class ProcessOwners:
    """Labels owners by the name of their process; its number means nothing beyond the recording."""

    rename: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, owner: Owner) -> str | None:
        """The label; None where the process has no name."""
        return label_of(uid=None, package=owner.package, name=owner.name, rename=self.rename)


@dataclass(slots=True)
class PktapReader:
    """Fills ``owner`` and ``owners`` from PKTAP headers, batch by batch; one per capture."""

    owners: list[Owner] = field(default_factory=list)
    _known: dict[bytes, int] = field(default_factory=dict)

    def __call__(self, batch: PacketBatch) -> PacketBatch:
        """The same packets; those without a PKTAP header of full length have no owner."""
        inside = batch.offset + batch.captured <= len(batch.buffer)
        candidates = (
            np.isin(batch.link_type, LINK_TYPES) & (batch.captured >= HEADER_BYTES) & inside
        )
        rows = np.flatnonzero(candidates)
        if not len(rows):  # a pcapng's own owners, or those that open flows still need
            return replace(batch, owners=self.owners or batch.owners)
        # (rows, 108)
        heads = np.ascontiguousarray(
            batch.buffer[batch.offset[rows, None] + np.arange(HEADER_BYTES)]
        )
        whole = heads[:, :4].copy().view("<u4").ravel() >= HEADER_BYTES
        rows, heads = rows[whole], heads[whole]
        processes = np.concatenate(
            [heads[:, at : at + _PROCESS_BYTES] for at in _PROCESS_AT], axis=1
        )
        raw = [None, pa.py_buffer(np.ascontiguousarray(processes))]
        keys = pa.FixedSizeBinaryArray.from_buffers(pa.binary(2 * _PROCESS_BYTES), len(rows), raw)
        coded = keys.dictionary_encode()
        numbers = np.array(
            [self._number(key) for key in coded.dictionary.to_pylist()], dtype=np.int32
        )
        owner = np.full(len(batch), -1, dtype=np.int32)
        if len(rows):
            owner[rows] = numbers[np.asarray(coded.indices)]
        return replace(batch, owner=owner, owners=self.owners)

    def _number(self, key: bytes) -> int:
        if key not in self._known:
            owner = _process(key[:_PROCESS_BYTES]) or _process(key[_PROCESS_BYTES:])
            self._known[key] = -1 if owner is None else len(self.owners)
            if owner is not None:
                self.owners.append(owner)
        return self._known[key]


def _process(raw: bytes) -> Owner | None:
    """A process' number and name; None where the header names none."""
    name = raw[4:].split(b"\0", 1)[0].decode("utf-8", errors="ignore")
    number = int.from_bytes(raw[:4], "little", signed=True)
    return Owner(uid=number, name=name) if name and number >= 0 else None
