"""Writes packets of any captures as pcapng, with their times, link types and interfaces, and with comments.

Source: draft-ietf-opsawg-pcapng (section header, interface description, enhanced packet blocks).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, Final

from apptell._version import __version__

if TYPE_CHECKING:
    from apptell.capture.batch import PacketBatch

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_MAGIC: Final = 0x1A2B3C4D
_COMMENT, _FLAGS, _APPLICATION, _DESCRIPTION, _RESOLUTION = 1, 2, 4, 3, 9
_NANOSECONDS: Final = 9
_MAX_OPTION: Final = 0xFFFF
_UNKNOWN_LENGTH: Final = -1


class PcapngWriter:
    """Writes one section.

    Args:
        stream: where the bytes go.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._interfaces: dict[tuple[str, int, int], int] = {}
        self.packets = 0
        """Packets written."""
        options = _option(_APPLICATION, f"apptell {__version__}".encode()) + _option(0)
        body = struct.pack("<IHHq", _MAGIC, 1, 0, _UNKNOWN_LENGTH) + options
        self._write(_SECTION, body)

    def write(self, batch: PacketBatch, row: int, capture: str, comment: str | None = None) -> None:
        """Writes one packet.

        Args:
            batch: packets of a capture.
            row: the packet.
            capture: name of the capture; its interfaces are kept apart from those of others.
            comment: text about the packet.
        """
        key = (capture, int(batch.interface[row]), int(batch.link_type[row]))
        number = self._interfaces.get(key)
        if number is None:
            number = self._interfaces[key] = len(self._interfaces)
            self._describe(*key)
        time_ns = max(int(batch.time_ns[row]), 0)
        data = batch.frame(row)
        head = struct.pack(
            "<IIIII",
            number,
            time_ns >> 32,
            time_ns & 0xFFFFFFFF,
            len(data),
            max(int(batch.wire[row]), len(data)),
        )
        options = b""
        if comment is not None:
            options += _option(_COMMENT, comment.encode("utf-8", "backslashreplace")[:_MAX_OPTION])
        if batch.direction[row]:
            options += _option(_FLAGS, struct.pack("<I", int(batch.direction[row])))
        self._write(_PACKET, head + _padded(data) + (options + _option(0) if options else b""))
        self.packets += 1

    def _describe(self, capture: str, interface: int, link_type: int) -> None:
        """Describes an interface: all times are in ns."""
        described = f"interface {interface} of {capture}".encode("utf-8", "backslashreplace")
        options = _option(_DESCRIPTION, described) + _option(_RESOLUTION, bytes((_NANOSECONDS,)))
        self._write(_INTERFACE, struct.pack("<HHI", link_type, 0, 0) + options + _option(0))

    def _write(self, kind: int, body: bytes) -> None:
        size = 12 + len(body)
        self._stream.write(struct.pack("<II", kind, size) + body + struct.pack("<I", size))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes = b"") -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)
