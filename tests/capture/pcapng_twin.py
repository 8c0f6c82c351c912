"""pcapng as the specification reads, in plain Python: what the compiled reader is compared with."""

from __future__ import annotations

import struct
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 16 << 20
MOST = 2**63 - 1


def options(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        code, length = struct.unpack_from(order + "HH", data, at)
        at += 4
        if code == 0 or at + length > len(data):
            return
        yield code, data[at : at + length]
        at += length + -length % 4


def packets(data: bytes) -> list[tuple[bytes, int, int, int, int]]:
    """(frame, wire, time_ns, link type, direction) of each packet up to the end or damage."""
    found: list[tuple[bytes, int, int, int, int]] = []
    interfaces: list[tuple[int, int, int, int]] = []
    order, at, previous = "<", 0, 0
    while at + 12 <= len(data):
        if data[at : at + 4] == b"\n\r\r\n":
            magic = data[at + 8 : at + 12]
            if magic not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
                return found
            order = ">" if magic[:1] == b"\x1a" else "<"
            interfaces = []
        kind, total = struct.unpack_from(order + "II", data, at)
        if total % 4 or not 12 <= total <= LIMIT or at + total > len(data):
            return found
        if data[at + total - 4 : at + total] != data[at + 4 : at + 8]:
            return found
        body = data[at + 8 : at + total - 4]
        at += total
        if kind == 0x0A0D0D0A:
            if len(body) < 16 or struct.unpack_from(order + "H", body, 4) != (1,):
                return found
        elif kind == 1:
            if len(body) < 8:
                return found
            link_type, _, snap = struct.unpack_from(order + "HHI", body)
            given = dict(options(body[8:], order))
            value = given.get(9, b"\6")[0] if len(given.get(9, b"\6")) == 1 else 6
            unit = 2 ** (value & 127) if value & 128 else 10**value
            offset = struct.unpack(order + "q", given[14])[0] if len(given.get(14, b"")) == 8 else 0
            interfaces.append(({12: 101, 14: 101}.get(link_type, link_type), snap, unit, offset))
        elif kind in (2, 6):
            if len(body) < 20:
                return found
            number, high, low, length, wire = struct.unpack_from(order + "IIIII", body)
            if kind == 2:
                (number,) = struct.unpack_from(order + "H", body)
            if number >= len(interfaces) or length > len(body) - 20:
                return found
            link_type, snap, unit, offset = interfaces[number]
            if length > max(262_144, snap):
                return found
            ticks = min(floor(Fraction((high << 32 | low) * 10**9, unit)), MOST)
            previous = min(ticks + offset * 10**9, MOST)
            direction = 0
            for code, word in options(body[20 + length + -length % 4 :], order):
                if code == 2 and len(word) == 4:
                    direction = (0, 1, 2, 0)[struct.unpack(order + "I", word)[0] & 3]
            found.append(
                (body[20 : 20 + length], min(wire, 2**31 - 1), previous, link_type, direction)
            )
        elif kind == 3:
            if len(body) < 4 or not interfaces:
                return found
            (wire,) = struct.unpack_from(order + "I", body)
            link_type, snap, _, _ = interfaces[0]
            length = min(wire, len(body) - 4, snap or MOST)
            found.append((body[4 : 4 + length], min(wire, 2**31 - 1), previous, link_type, 0))
    return found
