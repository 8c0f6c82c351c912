"""Frames of each kind that kernels read, with which they are compiled or loaded before there are others."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUIC: Final = b"\xc0\0\0\0\1\0\0\0\x20" + bytes(32)
"""An Initial packet of QUIC, which no keys open."""


def trial_frames() -> Iterator[bytes]:
    """Ethernet frames: a connection with payload both ways, datagrams both ways, and one with a tag."""
    yield b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x81\0\0\x01\x08\x06"
    for i in range(6):
        yield tcp_frame(0x0A000002, 1 + i, i, b"x", reverse=i % 2 == 1)
        yield _udp(0x0A000002, _QUIC, reverse=i % 2 == 1)


def _ethernet(protocol: int, client: int, body: bytes, *, reverse: bool) -> bytes:
    ends = (client, 0xC0000207)  # 192.0.2.7
    addresses = struct.pack("!II", *(ends[::-1] if reverse else ends))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    return b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0" + head + addresses + body


def _ports(*, reverse: bool) -> tuple[int, int]:
    return (443, 40_000) if reverse else (40_000, 443)


def tcp_frame(
    client: int, number: int, i: int, data: bytes = b"", *, reverse: bool = False
) -> bytes:
    """A segment of a connection of a client to port 443; a SYN if it has no payload."""
    ports = _ports(reverse=reverse)
    flags = 0x18 if data else 0x02
    head = struct.pack("!HHIIBBHHH", *ports, number, i, 0x50, flags, 8192, 0, 0)
    return _ethernet(6, client, head + data, reverse=reverse)


def _udp(client: int, data: bytes, *, reverse: bool) -> bytes:
    head = struct.pack("!HHHH", *_ports(reverse=reverse), 8 + len(data), 0)
    return _ethernet(17, client, head + data, reverse=reverse)
