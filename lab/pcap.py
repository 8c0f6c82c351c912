"""Reads the TCP packets of classic pcap files, and writes flows of them."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ETHERNET, RAW = 1, 101
FIN, SYN, RST, ACK = 1, 2, 4, 16
Key = tuple[str, int, str, int]


@dataclass(frozen=True)
class TcpPacket:
    """One captured TCP packet.

    ``data`` is the frame as captured, ``wire`` its length on the wire.
    """

    time_ns: int
    data: bytes
    wire: int
    source: str
    source_port: int
    target: str
    target_port: int
    flags: int
    payload_bytes: int
    """By the IP header, not by what was captured."""
    payload_at: int
    """Where in ``data`` the payload begins."""
    sequence: int

    @property
    def key(self) -> Key:
        """As seen from the sender."""
        return self.source, self.source_port, self.target, self.target_port

    @property
    def back(self) -> Key:
        """As seen from the receiver."""
        return self.target, self.target_port, self.source, self.source_port


def decode(time_ns: int, data: bytes, wire: int, link: int) -> TcpPacket | None:
    """The TCP packet of a frame, or None when it is something else or cut too early."""
    start = 0
    if link == ETHERNET:
        if len(data) < 14 or data[12:14] not in (b"\x08\x00", b"\x86\xdd"):
            return None
        start = 14
    if len(data) < start + 20:
        return None
    if data[start] >> 4 == 4:
        family, address, at = socket.AF_INET, start + 12, start + (data[start] & 15) * 4
        total, protocol, size = struct.unpack_from(">H", data, start + 2)[0], data[start + 9], 4
        total = total or wire - start  # a segment larger than 64 kB, as offload hands it to the tap
    else:
        if len(data) < start + 40:
            return None
        family, address, at = socket.AF_INET6, start + 8, start + 40
        total, protocol, size = (
            40 + struct.unpack_from(">H", data, start + 4)[0],
            data[start + 6],
            16,
        )
    if protocol != 6 or len(data) < at + 20:
        return None
    source = socket.inet_ntop(family, data[address : address + size])
    target = socket.inet_ntop(family, data[address + size : address + 2 * size])
    source_port, target_port, sequence = struct.unpack_from(">HHI", data, at)
    payload_at = at + (data[at + 12] >> 4) * 4
    payload_bytes = start + total - payload_at
    return TcpPacket(
        time_ns,
        data,
        wire,
        source,
        source_port,
        target,
        target_port,
        data[at + 13],
        payload_bytes,
        payload_at,
        sequence,
    )


def read(path: Path) -> tuple[int, Iterator[TcpPacket]]:
    """Link type and TCP packets of a little-endian pcap.

    A record cut at the end of the file is left out.
    """
    with path.open("rb") as file:
        header = file.read(24)
    if header[:4] not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
        raise ValueError(f"{path}: not a little-endian classic pcap")
    unit = 1000 if header[0] == 0xD4 else 1
    link = struct.unpack_from("<I", header, 20)[0] & 0xFFFF
    link = RAW if link == 12 else link

    def packets() -> Iterator[TcpPacket]:
        with path.open("rb") as file:
            file.seek(24)
            while len(head := file.read(16)) == 16:
                seconds, fraction, captured, wire = struct.unpack("<IIII", head)
                data = file.read(captured)
                if len(data) < captured:
                    return
                packet = decode(seconds * 1_000_000_000 + fraction * unit, data, wire, link)
                if packet is not None:
                    yield packet

    return link, packets()


def write(
    sink: BinaryIO, link: int, packets: Iterable[TcpPacket], payload_limit: int = 1_500
) -> int:
    """Packets as a classic pcap with microseconds, payload cut to ``payload_limit``.

    Returns how many.
    """
    sink.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, link))
    number = 0
    for p in packets:
        data = p.data[: p.payload_at + payload_limit]
        sink.write(
            struct.pack(
                "<IIII",
                p.time_ns // 1_000_000_000,
                p.time_ns // 1000 % 1_000_000,
                len(data),
                p.wire,
            )
            + data
        )
        number += 1
    return number


def totals(packets: Iterable[TcpPacket]) -> dict[Key, tuple[int, int, int, int]]:
    """Client's key → bytes sent, bytes received, packets sent, packets received.

    Of all uses of the ports together.
    """
    sums: dict[Key, list[int]] = {}
    for p in packets:
        if p.flags & (SYN | ACK) == SYN:
            sums.setdefault(p.key, [0, 0, 0, 0])
        for key, side in ((p.key, 0), (p.back, 1)):
            if key in sums:
                sums[key][side] += p.wire
                sums[key][side + 2] += 1
    return {key: (s[0], s[1], s[2], s[3]) for key, s in sums.items()}


def flow_heads(
    packets: Iterable[TcpPacket], n_payload: int
) -> dict[tuple[Key, int], list[TcpPacket]]:
    """Client's key and number of use → handshake, the first ``n_payload`` packets with payload.

    And the first FIN.

    Only connections whose SYN was captured. A SYN with another sequence number on the same ports
    starts a new one.
    """
    heads: dict[tuple[Key, int], list[TcpPacket]] = {}
    uses: dict[Key, int] = {}
    first: dict[Key, int] = {}
    counts: dict[tuple[Key, int], int] = {}
    done: set[tuple[Key, int]] = set()
    for p in packets:
        if p.flags & (SYN | ACK) == SYN:
            if p.key not in uses or first[p.key] != p.sequence:
                uses[p.key] = uses.get(p.key, -1) + 1
                first[p.key] = p.sequence
                heads[p.key, uses[p.key]], counts[p.key, uses[p.key]] = [], 0
        key = p.key if p.key in uses else p.back
        if key not in uses:
            continue
        flow = (key, uses[key])
        head = heads[flow]
        if p.payload_bytes > 0:
            if counts[flow] < n_payload:
                counts[flow] += 1
                head.append(p)
        elif p.flags & SYN or (len(head) == 2 and key == p.key and not counts[flow]):
            head.append(p)
        elif p.flags & FIN and flow not in done:
            done.add(flow)
            head.append(p)
    return heads
