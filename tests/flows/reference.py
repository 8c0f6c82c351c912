"""The flow rules once more, written plainly from their sources: the twin that the kernel is held against.

RFC 9293 (TCP), RFC 7413 (TCP Fast Open), and ``docs/explanation/flows.md``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

FIN, SYN, RST, ACK = 1, 2, 4, 16
FAR = 1 << 26
SECOND = 10**9
SLACK_NS = 10 * SECOND
LINGER_NS = SECOND
FORGET_NS = 3600 * SECOND


def ahead(number: int, other: int) -> int:
    """How far one sequence number lies ahead of another, modulo 2**32."""
    return (number - other + 2**31) % 2**32 - 2**31


@dataclass
class Packet:
    time_ns: int
    source: tuple[str, int]
    target: tuple[str, int]
    sequence: int = 0
    acknowledgement: int = 0
    flags: int = ACK
    payload: bytes = b""

    @property
    def data(self) -> int:
        """Sequence number of the first payload byte: SYN takes one number."""
        return (self.sequence + bool(self.flags & SYN)) % 2**32


@dataclass
class Side:
    """What one side of a connection has shown of its sequence space."""

    initial: int | None = None
    next: int | None = None
    holes: list[list[int]] = field(default_factory=list)
    skipped: int = 0
    """Bytes of the last segment before those that ``new_bytes`` gave."""
    acknowledged: int | None = None
    end: int | None = None
    """The number behind its FIN, or of its RST; the latest of them."""

    def is_near(self, sequence: int) -> bool:
        """Whether a number may be of this stream; one from far away is forged or damaged."""
        return self.next is None or abs(ahead(sequence, self.next)) < FAR

    def reaches_beyond(self, sequence: int, payload: bytes) -> bool:
        """Whether a segment has bytes beyond the highest one that was seen."""
        if not payload:
            return False
        if self.next is None:
            return True
        return ahead(sequence + len(payload), self.next) > 0 or ahead(sequence, self.next) < -FAR

    def new_bytes(self, sequence: int, payload: bytes) -> tuple[bytes, bool]:
        """The part of a segment that is new, and whether it filled a gap."""
        length = len(payload)
        self.skipped = 0
        end = (sequence + length) % 2**32
        if self.next is None:
            self.next = end
            return payload, False
        place = ahead(sequence, self.next)
        is_before_syn = (
            place < 0 and self.initial is not None and ahead(end, (self.initial + 1) % 2**32) < 0
        )
        if not -FAR <= place < FAR or is_before_syn:
            if is_before_syn:
                self.initial = None  # it was no SYN of this stream
            self.holes = []
            self.next = end
            return payload, False
        if place >= 0:
            if place:
                self.holes = [*self.holes, [self.next, sequence]][-4:]
            self.next = end
            return payload, False
        if place + length > 0:
            self.next = end
            self.skipped = -place
            return payload[-place:], False
        for index, (first, last) in enumerate(self.holes):
            start, stop = ahead(first, sequence), min(ahead(last, sequence), length)
            skip = max(start, 0)
            if skip < stop:
                left = [[first, (sequence + skip) % 2**32]] if skip > start else []
                right = [[(sequence + stop) % 2**32, last]] if stop < ahead(last, sequence) else []
                if left and right:
                    self.holes[index] = left[0]
                    self.holes = [*self.holes, *right][:4]
                else:
                    self.holes[index : index + 1] = left or right
                self.skipped = skip
                return payload[skip:stop], True
        return b"", False


@dataclass
class Segment:
    """What a payload packet brought."""

    time_ns: int
    source: tuple[str, int]
    payload: bytes
    sequence: int
    kept: bytes | None
    """Its bytes as far as they are kept; None for a segment of which only time and length are."""

    def place(self, sequence: int) -> int:
        """Where it begins, seen from a sequence number."""
        return ahead(self.sequence, sequence)


@dataclass
class Connection:
    """What is known of a connection over all its parts."""

    number: int
    sides: dict[tuple[str, int], Side]
    parts: int = 0
    client: tuple[str, int] | None = None
    """By its handshake."""
    syn_ack: tuple[tuple[str, int], int] | None = None
    """Who sent a SYN-ACK, and what it acknowledged."""
    closed_ns: int | None = None
    """The clock when it was closed."""


@dataclass
class Flow:
    start_ns: int
    last_ns: int
    clock_ns: int
    connection: Connection
    part: int
    client: tuple[str, int] | None = None
    is_open: bool = True
    end_reason: str = ""
    only_handshake: bool = True
    has_syn: bool = False
    segments: list[Segment] = field(default_factory=list)
    packets: int = 0
    retransmissions: int = 0
    out_of_order: int = 0
    resets: set[tuple[str, int]] = field(default_factory=set)
    fins: set[tuple[str, int]] = field(default_factory=set)

    def end(self, reason: str) -> None:
        self.is_open = False
        self.end_reason = "reset" if self.resets else "closed" if len(self.fins) == 2 else reason

    def keeps_next(self, source: tuple[str, int]) -> bool:
        """Whether the next payload packet is kept with its bytes, if it comes from there."""
        if any(segment.kept is None for segment in self.segments):
            return False
        n, n_bytes = len(self.segments), sum(len(segment.payload) for segment in self.segments)
        if n < 12:
            return True
        last = self.segments[-1]
        if n >= 1024 or n_bytes >= 2**14 or last.source != source:
            return False
        assert last.kept is not None
        if len(last.kept) < len(last.payload) or n > 12:
            return len(last.kept) == len(last.payload)
        turn = list(itertools.takewhile(lambda each: each.source == source, self.segments[::-1]))
        first = min(reversed(turn), key=lambda each: each.place(last.sequence))
        before = sum(len(each.payload) for each in self.segments if each.source == source)
        before -= sum(len(each.payload) for each in turn)
        initial = self.connection.sides[source].initial
        if initial is not None and first.place(initial + 1 + before) > 0:
            return True
        data = first.kept or b""
        if data[:1] == b"\x16":
            return data[1:2] in (b"", b"\3") and data[5:6] in (b"", b"\1")
        return data[:1] == b"\r" or (data[:1].isupper() and data[:4] != b"HTTP")

    def new_in_head(self, packet: Packet, sequence: int) -> tuple[int, int, bool]:
        """First new byte of a segment and what follows the last; whether later ones were seen before."""
        mine = [each for each in self.segments if each.source == packet.source]
        following = self.connection.sides[packet.source].next
        assert following is not None
        is_probe = len(packet.payload) == 1 and (following - sequence) % 2**32 == 1
        is_compared = not is_probe and len(self.segments) < 5  # then a verdict is due
        missing = set(range(len(packet.payload)))
        reach = 0
        for segment in mine:
            at = segment.place(sequence)
            reach = max(reach, at + len(segment.payload))
            missing -= set(range(at, at + len(segment.payload)))
            kept = segment.kept or b""
            for place in range(max(at, 0), min(at + len(kept), len(packet.payload))):
                if is_compared and kept[place - at] != packet.payload[place]:
                    segment.kept = kept[: place - at]
                    break
        if not missing:
            return 0, 0, False
        return min(missing), max(missing) + 1, min(missing) < reach


class Twin:
    """Flows of packets, one after the other."""

    def __init__(
        self,
        *,
        clean: bool,
        idle_ns: int = 90 * SECOND,
        active_ns: int | None = None,
        view_packets: int = 0,
    ):
        self.clean, self.idle_ns, self.active_ns = clean, idle_ns, active_ns
        self.view_packets = view_packets
        self.flows: list[Flow] = []
        """In order of their first packet."""
        self.strays = 0
        """Packets that came after a closed connection's end and brought nothing new."""
        self._latest: dict[frozenset[tuple[str, int]], Flow] = {}
        self._n_connections = 0
        self._clock_ns = 0

    def add(self, packet: Packet) -> None:
        self._clock_ns = max(self._clock_ns, packet.time_ns)
        self._end_closed()
        key = frozenset((packet.source, packet.target))
        flow = self._latest.get(key)
        fate = "connection" if flow is None else self._fate(flow, packet)
        if fate == "stray":
            self.strays += 1
            return
        if flow is None or fate != "stays":
            flow = self._begin(flow if fate == "part" else None, packet)
            self._latest[key] = flow
        flow.last_ns = max(flow.last_ns, packet.time_ns)
        flow.clock_ns = self._clock_ns
        flow.packets += 1
        keeps = flow.keeps_next(packet.source)
        payload, skip = self._tcp(flow, packet)
        if payload:
            sequence = (packet.data + skip) % 2**32
            kept = payload if keeps else None
            flow.segments.append(Segment(packet.time_ns, packet.source, payload, sequence, kept))

    def finish(self) -> list[Flow]:
        for flow in self.flows:
            if flow.is_open:
                silence_ns = self._clock_ns - flow.clock_ns
                flow.end("idle" if silence_ns > self.idle_ns + SLACK_NS else "capture")
        return self.flows

    def _end_closed(self) -> None:
        """A closed connection's flow ends a second later by the clock."""
        for flow in self._latest.values():
            closed_ns = flow.connection.closed_ns
            if flow.is_open and closed_ns is not None and self._clock_ns - closed_ns > LINGER_NS:
                flow.end("idle")

    def _fate(self, flow: Flow, packet: Packet) -> str:
        silence_ns = self._clock_ns - flow.clock_ns
        is_over = (
            not flow.is_open
            or packet.time_ns - flow.last_ns > self.idle_ns
            or silence_ns > self.idle_ns + SLACK_NS
        )
        if self._begins_connection(flow, packet, is_over=is_over):
            if flow.is_open:
                flow.end("idle" if is_over else "handshake")
            return "connection"
        is_closed = flow.connection.closed_ns is not None
        if is_over:
            if silence_ns > max(FORGET_NS, self.idle_ns + SLACK_NS) or (
                is_closed and packet.flags & (SYN | ACK | RST) == SYN
            ):
                fate = "connection"
            elif is_closed and (
                packet.flags & RST
                or not flow.connection.sides[packet.source].reaches_beyond(
                    packet.data, packet.payload
                )
            ):
                return "stray"
            else:
                fate = "part"
            if flow.is_open:
                flow.end("idle")
            return fate
        if self.active_ns and packet.time_ns - flow.start_ns > self.active_ns and not is_closed:
            flow.end("active")
            return "part"
        wanted = self.view_packets * 2**flow.part
        if 0 < wanted <= len(flow.segments) and flow.part < 5 and packet.payload and not is_closed:
            flow.end("active")
            return "part"
        return "stays"

    def _begins_connection(self, flow: Flow, packet: Packet, *, is_over: bool) -> bool:
        """Whether a SYN is another connection's than the flow's."""
        if not self.clean or packet.flags & (SYN | RST) != SYN:
            return False
        connection = flow.connection
        mine, other = connection.sides[packet.source], connection.sides[packet.target]
        if mine.initial is not None:
            return mine.initial != packet.sequence
        if packet.flags & ACK:
            if other.initial is None:
                return True
            # it acknowledges the SYN, and all, a part or nothing of the data that was sent with it
            first, last = other.initial + 1, other.next
            assert last is not None
            return not 0 <= ahead(packet.acknowledgement, first) <= ahead(last, first)
        if connection.syn_ack is not None and connection.syn_ack[0] == packet.target:
            acknowledged = connection.syn_ack[1]
            return not 0 <= ahead(acknowledged, packet.data) <= len(packet.payload)
        # both sides open at once
        return other.initial is None or is_over or not flow.only_handshake

    def _begin(self, earlier: Flow | None, packet: Packet) -> Flow:
        now = packet.time_ns
        if earlier is None:
            sides = {packet.source: Side(), packet.target: Side()}
            connection = Connection(self._n_connections, sides)
            self._n_connections += 1
        else:
            connection = earlier.connection
            connection.parts += 1
        flow = Flow(now, now, self._clock_ns, connection, connection.parts, connection.client)
        if earlier is not None:
            flow.only_handshake = earlier.only_handshake
            if connection.closed_ns is None:  # a side that has ended stays so
                flow.fins = set(earlier.fins) if self.clean else set()
            else:
                connection.closed_ns = None
        self.flows.append(flow)
        return flow

    def _tcp(self, flow: Flow, packet: Packet) -> tuple[bytes, int]:
        """Takes a packet's flags and numbers; gives its new payload and the bytes before that."""
        connection, flags, payload = flow.connection, packet.flags, packet.payload
        mine, other = connection.sides[packet.source], connection.sides[packet.target]
        if flags & SYN:
            if mine.initial is None:
                mine.initial = packet.sequence
                if mine.next is None:
                    mine.next = packet.data
            if self.clean:
                flow.resets.clear()  # another attempt
            if flags & ACK and other.initial is None and connection.syn_ack is None:
                connection.syn_ack = (packet.source, packet.acknowledgement)
            if not flow.has_syn:
                connection.client = packet.target if flags & ACK else packet.source
                flow.client = connection.client
            flow.has_syn = True
        else:
            flow.only_handshake = False
        if flags & ACK and (
            mine.acknowledged is None or ahead(packet.acknowledgement, mine.acknowledged) > 0
        ):
            mine.acknowledged = packet.acknowledgement
        if not self.clean:
            if flags & RST:
                flow.resets.add(packet.source)
            elif flags & FIN:
                flow.fins.add(packet.source)
            return payload, 0
        if flags & RST:
            if mine.is_near(packet.sequence):
                flow.resets.add(packet.source)
                mine.end = packet.sequence
            payload = b""
        elif flags & FIN and mine.is_near(packet.data):
            flow.fins.add(packet.source)
            mine.end = (packet.data + len(payload) + 1) % 2**32
        skip = 0
        if payload:
            new, is_late = mine.new_bytes(packet.data, payload)
            skip = mine.skipped
            if len(new) < len(payload):
                n_again = flow.retransmissions + flow.out_of_order
                kept = [segment.kept for segment in flow.segments]
                if kept and None not in kept and not flow.part and n_again < 256:
                    skip, stop, is_late = flow.new_in_head(packet, packet.data)
                    new = payload[skip:stop]
            flow.retransmissions += not new
            flow.out_of_order += bool(new) and is_late
            end = packet.data + len(payload)
            if new and packet.source in flow.resets and ahead(end, mine.end or 0) > 0:
                flow.resets.discard(packet.source)  # it goes on: the RST was not its own
            payload = new
        self._close(flow)
        return payload, skip

    def _close(self, flow: Flow) -> None:
        """Closed is a connection with a RST, or with a FIN of each side that the other has acknowledged."""
        a, b = flow.connection.sides.values()
        is_closed = bool(flow.resets) or (
            len(flow.fins) == 2
            and all(
                peer.acknowledged is not None
                and side.end is not None
                and 0 <= ahead(peer.acknowledged, side.end) < FAR
                for side, peer in ((a, b), (b, a))
            )
        )
        if not is_closed:
            flow.connection.closed_ns = None
        elif flow.connection.closed_ns is None:
            flow.connection.closed_ns = self._clock_ns
