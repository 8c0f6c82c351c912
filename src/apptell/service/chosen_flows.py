"""Takes the packets of chosen flows out of pieces of a ring, and counts those that are missing.

It has no thread. A flow is chosen when its verdict comes, and followed until its end comes.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.packets.packet_keys import flow_rows, is_among, packet_keys
from apptell.records.extraction import verdict_comment
from apptell.records.schema import PROTOCOL_NAMES
from apptell.service.packet_ring import flow_hints

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apptell.service.extract_files import ExtractFiles
    from apptell.service.packet_ring import RingPiece

MAX_FOLLOWED: Final = 65_536
"""Flows that are followed at once; of more, the oldest are no longer followed."""
_NUMBERS: Final = {name: number for number, name in PROTOCOL_NAMES.items()}
_FOREVER: Final = (1 << 63) - 1
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16


class ChosenFlow:
    """A flow whose packets are taken.

    Args:
        key: of its packets.
        pair: their key without ports.
        hint: their hint.
        start_ns: time of its first packet.
        comment: what is said of it.
    """

    __slots__ = (
        "comment", "end_ns", "hint", "is_closing", "key", "last_ns", "n_bytes", "n_packets", "pair",
        "serial", "start_ns",
    )  # fmt: skip

    def __init__(self, key: bytes, pair: bytes, hint: int, start_ns: int, comment: str) -> None:
        self.key, self.pair, self.hint = key, pair, hint
        self.start_ns, self.end_ns, self.last_ns = start_ns, _FOREVER, start_ns
        self.comment = comment
        self.serial: int | None = None
        """The file in which its comment stands."""
        self.n_packets = self.n_bytes = 0
        """Packets that were found, and bytes of those that were taken."""
        self.is_closing = False
        """Whether a side has closed its TCP connection."""

    def has(self, time_ns: int, flags: int, idle_ns: int) -> bool:
        """Whether a packet of its 5-tuple is one of it, as far as is known before its end is reported."""
        if not self.start_ns <= time_ns <= self.end_ns:
            return False
        is_other = time_ns - self.last_ns > idle_ns or (
            self.is_closing and flags & (_SYN | _ACK | _RST) == _SYN
        )
        if is_other and self.end_ns == _FOREVER:
            self.end_ns = self.last_ns
            return False
        self.last_ns = max(self.last_ns, time_ns)
        self.is_closing = self.is_closing or flags & (_FIN | _RST) > 0
        return True


class ChosenFlows:
    """The flows whose packets are taken.

    Args:
        files: where they are written.
        max_flow_bytes: frames that are written of each flow.
        idle_ns: silence after which further packets of a 5-tuple are another flow.
    """

    def __init__(self, files: ExtractFiles, max_flow_bytes: int, idle_ns: int) -> None:
        self.files = files
        self.flows = 0
        """Flows that were chosen."""
        self.limited = 0
        """Packets that were left out because their flow has enough."""
        self.dropped = 0
        """Flows that were no longer followed, because others were chosen after them."""
        self.missed = 0
        """Packets of ended flows that were not found: they had left the ring, or never reached it."""
        self._max_flow_bytes, self._idle_ns = max_flow_bytes, idle_ns
        self._by_id: dict[tuple[int, int], ChosenFlow] = {}
        self._by_key: dict[bytes, list[ChosenFlow]] = defaultdict(list)
        self._by_pair: dict[bytes, list[ChosenFlow]] = defaultdict(list)
        self._hints = np.zeros(0, dtype=np.uint64)
        self._pairs = np.zeros(0, dtype=np.bytes_)
        self._is_sorted = True

    def choose(self, rows: Sequence[dict[str, Any]], ring: Iterable[RingPiece]) -> None:
        """Takes the packets of further flows out of a ring.

        Args:
            rows: live records. A verdict chooses its flow; an end, too, if no verdict did, and ends it.
            ring: the newest packets.
        """
        fresh: list[ChosenFlow] = []
        ended: list[tuple[tuple[int, int], int]] = []
        new_rows = [row for row in rows if row["is_chosen"]]
        places = flow_rows([_ends(row) for row in new_rows])
        keys, pairs = packet_keys(places).tolist(), packet_keys(places, has_ports=False).tolist()
        found = dict(
            zip(map(id, new_rows), zip(keys, pairs, flow_hints(places), strict=True), strict=True)
        )
        for row in rows:
            name = (row["connection_id"], row["part"])
            if row["is_chosen"] and name not in self._by_id:
                key, pair, hint = found[id(row)]
                fresh.append(
                    ChosenFlow(key, pair, int(hint), row["start_ns"], verdict_comment(row))
                )
                self._add(name, fresh[-1])
            flow = self._by_id.get(name)
            if flow is not None and row["event"] == "end":
                flow.end_ns = min(flow.end_ns, row["end_ns"]) if flow in fresh else flow.end_ns
                ended.append((name, row["packets_to_server"] + row["packets_to_client"]))
        if fresh:
            self.flows += len(fresh)
            hints = np.array(sorted({flow.hint for flow in fresh}), dtype=np.uint64)
            wanted = np.array(sorted({flow.pair for flow in fresh}), dtype=np.bytes_)
            for piece in ring:
                self._take(piece, hints, wanted)
        for name, total in ended:
            flow = self._by_id.get(name)
            if flow is not None:
                self.missed += max(total - flow.n_packets, 0)
                self._remove(name)

    def take(self, piece: RingPiece) -> None:
        """Takes the packets of followed flows out of a new piece."""
        if not self._is_sorted:
            flows = self._by_id.values()
            self._hints = np.array(sorted({flow.hint for flow in flows}), dtype=np.uint64)
            self._pairs = np.array(sorted(self._by_pair), dtype=np.bytes_)
            self._is_sorted = True
        if len(self._hints):
            self._take(piece, self._hints, self._pairs)

    def _take(self, piece: RingPiece, hints: Any, pairs: Any) -> None:
        """Takes packets with some hints, and fragments of some pairs of addresses, in their order."""
        at = np.minimum(np.searchsorted(hints, piece.hints), len(hints) - 1)
        rows = np.flatnonzero(hints[at] == piece.hints)
        steps = [(int(piece.frame_of[row]), int(row), False) for row in rows]
        if len(piece.fragments):
            cut = np.flatnonzero(is_among(piece.fragment_pairs, pairs))
            steps += [(int(piece.fragments[row]), int(row), True) for row in cut]
            steps.sort()
        for frame, row, is_fragment in steps:
            if piece.is_taken[frame]:
                continue
            time_ns = int(piece.packets.time_ns[frame])
            if is_fragment:
                flow = next(
                    (
                        each
                        for each in self._by_pair.get(bytes(piece.fragment_pairs[row]), ())
                        if each.start_ns <= time_ns <= each.end_ns
                    ),
                    None,
                )
            else:
                flow = next(
                    (
                        each
                        for each in self._by_key.get(bytes(piece.keys[row]), ())
                        if each.has(time_ns, int(piece.flags[row]), self._idle_ns)
                    ),
                    None,
                )
            if flow is not None:
                piece.is_taken[frame] = True
                self._write(flow, piece, frame, is_fragment=is_fragment)

    def _write(self, flow: ChosenFlow, piece: RingPiece, frame: int, *, is_fragment: bool) -> None:
        flow.n_packets += not is_fragment  # the counters of a flow count a datagram once
        size = int(piece.packets.captured[frame])
        if flow.n_bytes + size > self._max_flow_bytes:
            flow.n_bytes = self._max_flow_bytes  # no smaller packet behind a gap
            self.limited += 1
            return
        flow.n_bytes += size
        serial = self.files.write(piece.packets, frame, piece.capture, flow.comment, flow.serial)
        flow.serial = flow.serial if serial is None else serial

    def _add(self, name: tuple[int, int], flow: ChosenFlow) -> None:
        for other in self._by_key.get(flow.key, ()):
            first, second = (other, flow) if other.start_ns < flow.start_ns else (flow, other)
            first.end_ns = min(first.end_ns, second.start_ns - 1)
        self._by_id[name] = flow
        self._by_key[flow.key].append(flow)
        self._by_pair[flow.pair].append(flow)
        self._is_sorted = False
        if len(self._by_id) > MAX_FOLLOWED:
            self._remove(next(iter(self._by_id)))
            self.dropped += 1

    def _remove(self, name: tuple[int, int]) -> None:
        flow = self._by_id.pop(name)
        for table, key in ((self._by_key, flow.key), (self._by_pair, flow.pair)):
            table[key].remove(flow)
            if not table[key]:
                del table[key]
        self._is_sorted = False


def _ends(row: dict[str, Any]) -> tuple[tuple[str, int], tuple[str, int], int]:
    """The ends and the protocol number of a record's flow."""
    name = row["protocol"]
    return (
        (row["client_address"], row["client_port"]),
        (row["server_address"], row["server_port"]),
        _NUMBERS[name] if name in _NUMBERS else int(name),
    )
