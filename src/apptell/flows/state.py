"""The memory of the flow table: one record for each flow, and an arena for kept payload.

A record holds what every packet touches. Payload lives in blocks of a few sizes that are handed back when
a flow is handed out, so that warm memory is used again; nothing is reserved for bytes that never come.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.errors import UsageError
from apptell.flows.hashing import HashKey, new_key
from apptell.flows.schema import MAX_SEGMENTS, MAX_SEQUENCE
from apptell.flows.service_ports import SERVICE_PORTS
from apptell.kernels.machine_code import Held

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    from numpy.typing import NDArray

FREE, ACTIVE, ENDED, DORMANT = 0, 1, 2, 3
"""States of a record: unused; in the table; waiting to be handed out; handed out, but its connection is
remembered so that later parts carry its id."""

UNDECIDED, CANDIDATE, DECIDED, HANDED_OUT, REPORTED = 0, 1, 2, 3, 4
"""Whether a verdict is due on a flow: not yet; not yet, but it is listed for an early one; its totals are
frozen; it was handed out for one while open; so it was, and its names cannot change (``reports_once``)."""

REORDERING_NS: Final = 10 * 10**9
"""A silent flow ends this much later by the clock than by its own next packet: times may step back."""
FORGET_NS: Final = 3600 * 10**9
"""A silent connection is remembered for so long, for the id and number of its later parts."""

MAX_HOLES: Final = 4
"""Gaps in a direction's sequence space that are remembered; the oldest is forgotten first."""

NEVER_NS: Final = (1 << 63) - 1
LINGER_NS: Final = 10**9
"""How long the flow of a closed connection waits for packets that were under way."""

FIN_A, FIN_B, RST_A, RST_B = 1, 2, 4, 8
"""Bits of a flow's ``finished``."""

FLOW: Final = np.dtype(
    [
        # the first three cache lines of 64 bytes are what every packet touches
        ("low_high", np.uint64),  # the endpoint with the smaller (address, port): A
        ("low_low", np.uint64),
        ("high_high", np.uint64),  # the other endpoint: B
        ("high_low", np.uint64),
        ("low_port", np.uint16),
        ("high_port", np.uint16),
        ("protocol", np.uint8),
        ("ip_version", np.uint8),
        ("state", np.uint8),
        ("decided", np.uint8),  # UNDECIDED, CANDIDATE, DECIDED, HANDED_OUT or REPORTED
        ("n_sequence", np.uint8),
        ("only_handshake", np.uint8),  # nothing but SYN and SYN-ACK so far
        ("finished", np.uint8),  # FIN_A, FIN_B, RST_A, RST_B
        ("has_next", np.uint8, (2,)),
        ("has_initial", np.uint8, (2,)),  # 1: a SYN was seen; 2: only the peer's SYN-ACK
        ("has_acknowledged", np.uint8, (2,)),
        ("flags", np.uint8, (2,)),  # TCP flags of all packets
        ("n_holes", np.uint8, (2,)),
        ("client", np.uint8),  # 0 unknown, 1 A, 2 B
        ("client_rule", np.uint8),  # how that is known, a place in schema.CLIENT_RULES
        ("has_syn", np.uint8),
        ("is_closed", np.uint8),  # by FIN both ways or RST: it ends LINGER_NS later
        ("n_segments", np.uint16),
        ("owner", np.int32),
        ("last_ns", np.int64),
        ("clock_ns", np.int64),  # newest time of any packet when the flow's last one came
        ("next", np.uint32, (2,)),  # sequence number after the highest byte seen
        ("acknowledged", np.uint32, (2,)),  # highest acknowledgement number that the side sent
        (
            "initial",
            np.uint32,
            (2,),
        ),  # of its SYN; if only a SYN-ACK was seen, what it acknowledged
        ("start_ns", np.int64),
        ("more_sequence", np.int32),  # block of lengths and times beyond the kept segments, -1 none
        ("bucket", np.int32),  # its place in the hash table
        ("capture", np.int32),
        ("part", np.int32),
        ("packets", np.int64, (2,)),
        ("bytes", np.int64, (2,)),
        ("payload_packets", np.int64, (2,)),
        ("payload_bytes", np.int64, (2,)),
        ("segment", np.int32, (MAX_SEGMENTS,)),  # arena block of each of the first kept segments
        ("retransmissions", np.int64),
        ("out_of_order", np.int64),
        ("hole_start", np.uint32, (2, MAX_HOLES)),
        ("hole_end", np.uint32, (2, MAX_HOLES)),
        ("decided_ns", np.int64),
        ("start_place", np.int64),  # of its first packet, as in ``packets.order``
        ("decided_place", np.int64),  # of the packet at which a verdict was due; 0 before
        ("decided_packets", np.int64, (2,)),
        ("decided_bytes", np.int64, (2,)),
        ("connection_id", np.uint64),
        ("end_sequence", np.uint32, (2,)),  # number of the side's RST, or behind its FIN
        ("closed_ns", np.int64),  # newest time of any packet when the connection was closed
        ("closed_before", np.int32),  # records in the order in which they were closed, -1 none
        ("closed_after", np.int32),
        ("first_sequence", np.uint32, (2,)),
        ("checksum", np.uint16, (2,)),
        ("ttl", np.uint8, (2,)),
        ("first_from", np.uint8),  # direction of the first packet: 0 from A, 1 from B
        ("end_reason", np.uint8),
        ("owner_conflict", np.uint8),
        # blocks of the first kept segment beyond those of ``segment``, each names the next, and of the last one
        ("first_more", np.int32),
        ("last_more", np.int32),
        ("link", np.int32),  # of the first packet, as ``packets.links`` numbers it; -1 unknown
        ("padding", np.uint8, (8,)),  # to seven cache lines
    ],
    align=True,
)
"""A flow while it is open. Index 0 of a pair is the direction from A to B."""

UNIT: Final = 64
"""Arena blocks are multiples of this many bytes; an arena index counts units."""
BLOCK_HEADER: Final = 24
"""At the start of a segment's block: time (int64), wire length (int32, + from A, - from B), stored bytes with
the block's size class above ``KIND_SHIFT`` (int32), TCP sequence number of the first byte (uint32), and for a
segment beyond ``segment`` the block of the next one (int32)."""
KIND_SHIFT: Final = 16
STORED_MASK: Final = (1 << KIND_SHIFT) - 1
"""The stored bytes in that word."""
SEQUENCE_BLOCK: Final = (MAX_SEQUENCE - MAX_SEGMENTS) * 12
"""Bytes of the block behind ``more_sequence``: 20 times (int64), then 20 signed lengths (int32)."""
CLASS_UNITS: Final = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 65], dtype=np.int64)
"""Block sizes in units."""
CLASS_OF_UNITS: Final = np.array(
    [int(np.searchsorted(CLASS_UNITS, units)) for units in range(CLASS_UNITS[-1] + 1)],
    dtype=np.int64,
)
"""The class that holds so many units."""
SEQUENCE_KIND: Final = int(CLASS_OF_UNITS[(SEQUENCE_BLOCK + UNIT - 1) // UNIT])


COUNTERS: Final = np.dtype(
    [
        ("clock_ns", np.int64),  # time of the newest packet
        ("swept_ns", np.int64),  # clock at the last sweep
        ("n_records", np.int64),  # records ever used
        ("n_free_records", np.int64),
        ("n_occupied", np.int64),  # buckets in use: active and dormant
        ("n_dormant", np.int64),
        ("n_ready", np.int64),
        ("n_young", np.int64),
        ("n_early", np.int64),
        ("n_units", np.int64),  # arena units ever used
        ("n_evicted", np.int64),
        ("n_flow_packets", np.int64),  # packets that became part of a flow
        ("n_not_asked", np.int64),  # TCP or UDP, but of a transport that was not selected
        ("n_parts", np.int64),  # later parts of connections that have begun
        ("n_after_close", np.int64),  # packets without anything new of a closed connection
        ("closed_first", np.int64),  # the records of closed connections that wait, -1 none
        ("closed_last", np.int64),
        ("close_due_ns", np.int64),  # the clock after which the first of them ends
        # first free block of each size, as a unit; each names the next one in its first word; -1 none
        ("free_blocks", np.int64, (len(CLASS_UNITS),)),
    ],
    align=True,
)
"""What a flow table counts."""


class Arrays(NamedTuple):
    """The memory of one flow table as the kernels take it; the columns of ``FlowMemory``."""

    records: NDArray[Any]
    """Shape (max_flows,), dtype ``FLOW``."""
    buckets: NDArray[np.int32]
    """Record of each place of the hash table, -1 where it is free; a power of two of them."""
    secret: HashKey
    """The key of the hash table."""
    arena: NDArray[np.uint8]
    """Kept payload, in blocks of ``CLASS_UNITS`` sizes."""
    arena32: NDArray[np.int32]
    """The same memory."""
    arena64: NDArray[np.int64]
    """The same memory."""
    free_records: NDArray[np.int32]
    """A stack of records that are free again."""
    service_ports: NDArray[np.bool_]
    """Whether servers listen on a port, shape (65536,)."""
    ready: NDArray[np.int32]
    """Records of ended flows, in the order in which they ended."""
    young: NDArray[np.int32]
    """Records that were decided recently, in that order; empty if not requested."""
    early: NDArray[np.int32]
    """Undecided records that recently had payload, each once; empty if not requested."""
    counters: np.void
    """A row of ``COUNTERS``."""


class FlowMemory:
    """Records, hash table and arena of one flow table.

    Args:
        max_flows: records; address space only, memory is touched as it is used.
        segment_bytes: size of the arena.
        lists_decided: whether open flows are listed as they are decided.
        lists_early: whether they are listed too at each payload packet before that.
    """

    def __init__(
        self,
        max_flows: int,
        segment_bytes: int,
        *,
        lists_decided: bool = False,
        lists_early: bool = False,
    ) -> None:
        units = max(segment_bytes // UNIT, 1024)
        self.records: NDArray[Any] = _reserve(max_flows * FLOW.itemsize).view(FLOW)
        buckets = 1 << (max(max_flows, 2) * 2 - 1).bit_length()
        self.buckets: NDArray[np.int32] = np.full(min(buckets, 1 << 13), -1, dtype=np.int32)
        self.arena = _reserve(units * UNIT)
        self.arena32: NDArray[np.int32] = self.arena.view(np.int32)
        self.arena64: NDArray[np.int64] = self.arena.view(np.int64)
        self.free_records: NDArray[np.int32] = _reserve(max_flows * 4).view(np.int32)
        self.ready: NDArray[np.int32] = np.zeros(max_flows, dtype=np.int32)
        self.young: NDArray[np.int32] = np.zeros(1 if lists_decided else 0, dtype=np.int32)
        self.early: NDArray[np.int32] = np.zeros(1 if lists_early else 0, dtype=np.int32)
        self.counters: np.void = np.zeros(1, dtype=COUNTERS)[0]
        self.counters["free_blocks"] = -1
        self.counters["closed_first"] = self.counters["closed_last"] = -1
        self.counters["close_due_ns"] = NEVER_NS
        self._secret = new_key()
        self._arrays: Held | None = None
        self.local: tuple[IPv4Network | IPv6Network, ...] = ()
        """Networks of clients."""

    def release(self) -> None:
        """Gives everything back but the counters."""
        self.records, self.ready = self.records[:0].copy(), self.ready[:0].copy()
        self.buckets, self.free_records = self.buckets[:0].copy(), self.free_records[:0].copy()
        self.arena = self.arena[:0].copy()
        self.arena32, self.arena64 = self.arena.view(np.int32), self.arena.view(np.int64)
        self.young, self.early = self.young[:0].copy(), self.early[:0].copy()
        self._arrays = None

    def arrays(self) -> Held:
        """``Arrays`` for the kernels; until ``list_more`` or ``grow_buckets`` is called."""
        if self._arrays is None:
            self._arrays = Held(
                Arrays(
                    self.records,
                    self.buckets,
                    self._secret,
                    self.arena,
                    self.arena32,
                    self.arena64,
                    self.free_records,
                    SERVICE_PORTS,
                    self.ready,
                    self.young,
                    self.early,
                    self.counters,
                )
            )
        return self._arrays

    def grow_buckets(self) -> None:
        """A hash table four times as large, empty."""
        self.buckets = np.full(len(self.buckets) * 4, -1, dtype=np.int32)
        self._arrays = None

    def list_more(self, n: int) -> None:
        """Room for ``n`` more entries in ``young`` and ``early``, if they are requested."""
        young = _longer(self.young, int(self.counters["n_young"]) + n)
        early = _longer(self.early, int(self.counters["n_early"]) + n)
        if young is not self.young or early is not self.early:
            self.young, self.early, self._arrays = young, early, None


def _longer(listed: NDArray[np.int32], wanted: int) -> NDArray[np.int32]:
    if not len(listed) or wanted <= len(listed):
        return listed
    longer = np.zeros(max(wanted, 2 * len(listed)), dtype=np.int32)
    longer[: len(listed)] = listed
    return longer


def _reserve(size: int) -> NDArray[np.uint8]:
    """Zeroed address space that costs memory only where it is touched, in large pages where they are."""
    try:
        space = mmap.mmap(-1, size)
    except OSError as error:
        raise UsageError(f"a flow table of this size: {error.strerror}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without large pages
            space.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(space, dtype=np.uint8)
