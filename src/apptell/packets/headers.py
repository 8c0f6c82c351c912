"""Defines ``HeaderBatch``, the decoded headers of packets; a row takes one and a half cache lines.

A row gives the place of the transport payload (``status`` is ``OK``) or the reason why there is none. The
flow table reads these rows and the byte buffer behind them; it does not know link types.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TCP, UDP = 6, 17


class Status(IntEnum):
    """What became of a packet in the decoder."""

    OK = 0
    """TCP or UDP; addresses, ports and payload are set."""
    UNKNOWN_LINK_TYPE = 1
    NOT_IP = 2
    """ARP, LLDP, spanning tree and other link-layer protocols."""
    NOT_DATA = 3
    """802.11 management, control or empty frames."""
    ENCRYPTED_LINK = 4
    """802.11 protected or other link-layer encryption."""
    CUT_IN_HEADERS = 5
    """The capture's snap length ends before the transport header does."""
    BAD_IP = 6
    """Version, header length or total length that no IP packet can have."""
    BAD_TRANSPORT = 7
    """TCP data offset or UDP length that cannot be."""
    FRAGMENT = 8
    """IP fragment other than the first."""
    OTHER_PROTOCOL = 9
    """IP, but neither TCP nor UDP (ICMP, ESP, SCTP, ...); ``protocol`` says which."""
    TOO_DEEP = 10
    """More tunnels within tunnels than are opened."""


HEADER = np.dtype(
    [
        ("time_ns", np.int64),
        ("source_high", np.uint64),  # addresses big-endian; IPv4 sits in the low 32 bits
        ("source_low", np.uint64),
        ("target_high", np.uint64),
        ("target_low", np.uint64),
        ("ip_at", np.int64),  # the innermost IP header, in the buffer
        ("payload_at", np.int64),  # first payload byte, in the buffer
        ("payload", np.int32),  # payload bytes on the wire, ended by the IP total length
        ("payload_captured", np.int32),  # how many of them are in the buffer
        ("ip_bytes", np.int32),  # IP bytes on the wire, header included
        ("owner", np.int32),  # as in PacketBatch
        ("sequence", np.uint32),
        ("acknowledgement", np.uint32),
        ("source_port", np.uint16),
        ("target_port", np.uint16),
        ("checksum", np.uint16),
        ("protocol", np.uint8),
        ("flags", np.uint8),  # TCP flags
        ("ttl", np.uint8),
        ("ip_version", np.uint8),  # 4, 6, or 0 where no IP was reached
        ("status", np.uint8),  # a Status
        ("is_fragment", np.uint8),  # 1: first or later fragment of a datagram
        ("tunnels", np.uint8),  # tunnels opened on the way
        ("direction", np.uint8),  # as in PacketBatch
        (
            "is_whole",
            np.uint8,
        ),  # 1: a datagram put together, its bytes are in ``HeaderBatch.whole``
        ("is_further", np.uint8),  # 1: from the same captured frame as the row before (A-MSDU)
    ],
    align=True,
)
"""Columns of a decoded packet, dtype of ``HeaderBatch.rows``."""


@dataclass(slots=True)
class HeaderBatch:
    """Decoded headers of a PacketBatch, in its order: a row for each packet of each frame."""

    rows: NDArray[Any]
    """Shape (n,), dtype ``HEADER``. Addresses and ports hold only where ``status`` is ``OK``."""
    buffer: NDArray[np.uint8]
    """The bytes that ``payload_at`` points into."""
    whole: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    """The bytes that it points into where ``is_whole`` is set."""

    def __len__(self) -> int:
        return len(self.rows)
