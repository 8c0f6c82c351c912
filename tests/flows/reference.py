"""The flow rules once more, written plainly from their sources: the twin that the kernel is held against."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

SYN, RST, ACK = 2, 4, 16
FAR = 1 << 26
SLACK_NS = 10 * 10**9
FORGET_NS = 3600 * 10**9


@dataclass
class Packet:
    time_ns: int
    source: tuple[str, int]
    target: tuple[str, int]
    sequence: int = 0
    acknowledgement: int = 0
    flags: int = ACK
    payload: bytes = b""


@dataclass
class Stream:
    """What one direction of a connection has shown of its sequence space."""

    initial: int | None = None
    next: int | None = None
    holes: list[list[int]] = field(default_factory=list)
    skipped: int = 0
    """Bytes of the last segment before those that ``new_bytes`` gave."""

    def new_bytes(self, sequence: int, payload: bytes) -> tuple[bytes, bool]:
        """The part of a segment that is new, and whether it filled a gap."""
        length = len(payload)
        self.skipped = 0
        if self.next is None:
            self.next = (sequence + length) % 2**32
            return payload, False
        ahead = (sequence - self.next + 2**31) % 2**32 - 2**31
        if ahead >= FAR or ahead < -FAR:
            self.holes = []
            self.next = (sequence + length) % 2**32
            return payload, False
        if ahead >= 0:
            if ahead:
                self.holes = [*self.holes, [self.next, sequence]][-4:]
            self.next = (sequence + length) % 2**32
            return payload, False
        if ahead + length > 0:
            self.next = (sequence + length) % 2**32
            self.skipped = -ahead
            return payload[-ahead:], False
        for index, (first, last) in enumerate(self.holes):
            start = (first - sequence + 2**31) % 2**32 - 2**31
            end = (last - sequence + 2**31) % 2**32 - 2**31
            skip, stop = max(start, 0), min(end, length)
            if skip < stop:
                left = [[first, (sequence + skip) % 2**32]] if skip > start else []
                right = [[(sequence + stop) % 2**32, last]] if stop < end else []
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
        return (self.sequence - sequence + 2**31) % 2**32 - 2**31


@dataclass
class Flow:
    start_ns: int
    last_ns: int
    clock_ns: int
    connection: int
    part: int
    first: tuple[str, int]
    streams: dict[tuple[str, int], Stream]
    only_handshake: bool = True
    segments: list[Segment] = field(default_factory=list)
    packets: int = 0
    retransmissions: int = 0
    out_of_order: int = 0

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
        if len(last.kept) < len(last.payload) or n > 12:
            return len(last.kept) == len(last.payload)
        turn = list(itertools.takewhile(lambda each: each.source == source, self.segments[::-1]))
        first = min(reversed(turn), key=lambda each: each.place(last.sequence))
        before = sum(len(each.payload) for each in self.segments if each.source == source)
        before -= sum(len(each.payload) for each in turn)
        initial = self.streams[source].initial
        if initial is not None and first.place(initial + 1 + before) > 0:
            return True
        data = first.kept
        if data[:1] == b"\x16":
            return data[1:2] in (b"", b"\3") and data[5:6] in (b"", b"\1")
        return data[:1] == b"\r" or (data[:1].isupper() and data[:4] != b"HTTP")

    def new_in_head(self, packet: Packet, sequence: int) -> tuple[int, int, bool]:
        """First new byte of a segment and what follows the last; whether later ones were seen before."""
        mine = [each for each in self.segments if each.source == packet.source]
        is_probe = len(packet.payload) == 1 and (
            (self.streams[packet.source].next - sequence) % 2**32 == 1
        )
        is_compared = not is_probe and len(self.segments) < 5  # then a verdict is due
        missing = set(range(len(packet.payload)))
        reach = 0
        for segment in mine:
            at = segment.place(sequence)
            reach = max(reach, at + len(segment.payload))
            missing -= set(range(at, at + len(segment.payload)))
            for place in range(max(at, 0), min(at + len(segment.kept), len(packet.payload))):
                if is_compared and segment.kept[place - at] != packet.payload[place]:
                    segment.kept = segment.kept[: place - at]
                    break
        if not missing:
            return 0, 0, False
        return min(missing), max(missing) + 1, min(missing) < reach


def flows_of(packets: list[Packet], *, clean: bool, timeout_ns: int = 90 * 10**9) -> list[Flow]:
    """Flows in order of their first packet."""
    done: list[Flow] = []
    open_flows: dict[frozenset[tuple[str, int]], Flow] = {}
    n_connections = 0
    clock_ns = 0
    for packet in packets:
        clock_ns = max(clock_ns, packet.time_ns)
        key = frozenset((packet.source, packet.target))
        flow = open_flows.get(key)
        begins = flow is None
        part = False
        if flow is not None:
            silence_ns = clock_ns - flow.clock_ns
            part = packet.time_ns - flow.last_ns > timeout_ns or silence_ns > timeout_ns + SLACK_NS
            begins = silence_ns > FORGET_NS
        if flow is not None and clean and packet.flags & (SYN | RST) == SYN:
            mine, other = flow.streams[packet.source], flow.streams[packet.target]
            if mine.initial is not None:
                begins |= mine.initial != packet.sequence
            elif other.initial is not None:
                if packet.flags & ACK:
                    begins |= (other.initial + 1) % 2**32 != packet.acknowledgement
                else:
                    begins |= not flow.only_handshake
            else:
                begins = True
        if begins or part:
            streams = {packet.source: Stream(), packet.target: Stream()}
            number, connection = 0, n_connections
            if begins:
                n_connections += 1
            else:
                streams, connection, number = flow.streams, flow.connection, flow.part + 1
            now = packet.time_ns
            flow = Flow(now, now, clock_ns, connection, number, packet.source, streams)
            open_flows[key] = flow
            done.append(flow)
        flow.last_ns = max(flow.last_ns, packet.time_ns)
        flow.clock_ns = clock_ns
        flow.packets += 1
        stream, sequence, payload = flow.streams[packet.source], packet.sequence, packet.payload
        if packet.flags & SYN:
            stream.initial = packet.sequence
            sequence = (sequence + 1) % 2**32
            stream.next, stream.holes = sequence, []
        else:
            flow.only_handshake = False
        if clean and packet.flags & RST:
            payload = b""
        keeps = flow.keeps_next(packet.source)
        if clean and payload:
            new, is_late = stream.new_bytes(sequence, payload)
            skip = stream.skipped
            if len(new) < len(payload):
                n_again = flow.retransmissions + flow.out_of_order
                kept = [segment.kept for segment in flow.segments]
                if kept and None not in kept and not flow.part and n_again < 256:
                    skip, stop, is_late = flow.new_in_head(packet, sequence)
                    new = payload[skip:stop]
            flow.retransmissions += not new
            flow.out_of_order += bool(new) and is_late
            payload, sequence = new, (sequence + skip) % 2**32
        if payload:
            flow.segments.append(
                Segment(
                    packet.time_ns, packet.source, payload, sequence, payload if keeps else None
                )
            )
    return done
