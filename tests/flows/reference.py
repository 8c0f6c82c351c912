"""The flow rules once more, written plainly from their sources: the twin that the kernel is held against."""

from __future__ import annotations

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

    def new_bytes(self, sequence: int, payload: bytes) -> tuple[bytes, bool]:
        length = len(payload)
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
                return payload[skip:stop], True
        return b"", False


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
    segments: list[tuple[int, tuple[str, int], bytes]] = field(default_factory=list)
    packets: int = 0
    retransmissions: int = 0
    out_of_order: int = 0


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
        if clean and payload:
            new, filled = stream.new_bytes(sequence, payload)
            flow.retransmissions += not new
            flow.out_of_order += filled
            payload = new
        if payload:
            flow.segments.append((packet.time_ns, packet.source, payload))
    return done
