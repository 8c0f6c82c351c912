"""Captures made by hand from the formats' specifications, in every variant that is read."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from typing import TYPE_CHECKING

import lz4.frame
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

START_S = 1_700_000_000
FRAMES = [bytes([n]) * (60 + 7 * n) for n in range(1, 9)]
"""Eight frames of different lengths; frame n holds the byte n."""

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "lz4": lambda data: lz4.frame.compress(data, content_checksum=True),
}


def pcap_header(
    order: str = "<",
    *,
    magic: int = 0xA1B2C3D4,
    link_type: int = 1,
    snap_length: int = 65535,
    version: tuple[int, int] = (2, 4),
    extra: bytes = b"",
) -> bytes:
    return struct.pack(order + "IHHiIII", magic, *version, 0, 0, snap_length, link_type) + extra


def pcap_record(
    frame: bytes,
    order: str = "<",
    *,
    seconds: int = START_S,
    fraction: int = 0,
    wire: int | None = None,
    extra: bytes = b"",
) -> bytes:
    on_wire = len(frame) if wire is None else wire
    return struct.pack(order + "IIII", seconds, fraction, len(frame), on_wire) + extra + frame


def pcap(
    frames: Sequence[bytes] = FRAMES,
    order: str = "<",
    *,
    extra: bytes = b"",
    magic: int = 0xA1B2C3D4,
    link_type: int = 1,
    snap_length: int = 65535,
    version: tuple[int, int] = (2, 4),
) -> bytes:
    records = [
        pcap_record(frame, order, seconds=START_S + i, fraction=i * 1000, extra=extra)
        for i, frame in enumerate(frames)
    ]
    header = pcap_header(
        order, magic=magic, link_type=link_type, snap_length=snap_length, version=version
    )
    return header + b"".join(records)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def section(order: str = "<", *, version: tuple[int, int] = (1, 0)) -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, *version, -1), order)


def interface(
    order: str = "<", *, link_type: int = 1, snap_length: int = 0, options: bytes = b""
) -> bytes:
    return block(1, struct.pack(order + "HHI", link_type, 0, snap_length) + options, order)


def resolution(value: int, order: str = "<") -> bytes:
    return option(9, bytes([value]), order)


def time_offset(seconds: int, order: str = "<") -> bytes:
    return option(14, struct.pack(order + "q", seconds), order)


def enhanced(
    frame: bytes,
    order: str = "<",
    *,
    number: int = 0,
    ticks: int = 0,
    wire: int | None = None,
    options: bytes = b"",
) -> bytes:
    on_wire = len(frame) if wire is None else wire
    body = struct.pack(
        order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), on_wire
    )
    return block(6, body + frame + bytes(-len(frame) % 4) + options, order)


def simple(frame: bytes, order: str = "<", *, wire: int | None = None) -> bytes:
    return block(3, struct.pack(order + "I", len(frame) if wire is None else wire) + frame, order)


def obsolete(
    frame: bytes,
    order: str = "<",
    *,
    number: int = 0,
    ticks: int = 0,
    drops: int = 0,
    options: bytes = b"",
) -> bytes:
    body = struct.pack(
        order + "HHIIII", number, drops, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame)
    )
    return block(2, body + frame + bytes(-len(frame) % 4) + options, order)


def comment(text: str, order: str = "<") -> bytes:
    return option(1, text.encode(), order)


def flags(value: int, order: str = "<") -> bytes:
    return option(2, struct.pack(order + "I", value), order)


def pcapdroid_owner(uid: int, package: str, name: str, order: str = "<") -> bytes:
    words = package.encode(), name.encode()
    body = struct.pack(order + "IHBBiBB", 62652, 1, 1, 0, uid, *map(len, words))
    return block(0x00000BAD, body + b"".join(words), order)


def darwin_process(pid: int, name: str, order: str = "<") -> bytes:
    return block(0x80000001, struct.pack(order + "I", pid) + option(2, name.encode(), order), order)


def snoop(frames: Sequence[bytes] = FRAMES, *, link: int = 4, version: int = 2) -> bytes:
    records = [
        struct.pack(">IIIIII", len(f), len(f), 24 + len(f) + -len(f) % 4, 0, START_S + i, i * 1000)
        + f
        + bytes(-len(f) % 4)
        for i, f in enumerate(frames)
    ]
    return b"snoop\0\0\0" + struct.pack(">II", version, link) + b"".join(records)


def rich_pcapng(order: str = "<") -> bytes:
    """A section with everything that the reader knows, and blocks that it passes over."""
    ticks = START_S * 10**6
    nano = START_S * 10**9
    packets = [
        enhanced(FRAMES[0], order, ticks=ticks, options=comment("u-10123", order)),
        enhanced(FRAMES[1], order, number=1, ticks=nano, options=flags(1, order)),
        obsolete(FRAMES[2], order, ticks=ticks + 5, drops=7),
        block(5, struct.pack(order + "III", 0, 0, 0), order),
        block(0x00000BAD, struct.pack(order + "I", 32473) + b"elsewhere", order),
        darwin_process(812, "nsurlsessiond", order),
        enhanced(
            FRAMES[3],
            order,
            ticks=ticks + 9,
            options=option(0x8001, struct.pack(order + "I", 0), order),
        ),
        simple(FRAMES[4], order),
    ]
    return b"".join(
        [
            section(order),
            interface(order),
            interface(order, link_type=101, options=resolution(9, order)),
            pcapdroid_owner(10123, "org.example.chat", "Chat", order),
            *packets,
        ]
    )


def good_captures() -> dict[str, bytes]:
    """Name -> bytes of a good capture, one of every format and variant."""
    captures = {
        "pcap": pcap(),
        "pcap-big": pcap(order=">"),
        "pcap-nano": pcap(magic=0xA1B23C4D),
        "pcap-modified": pcap(magic=0xA1B2CD34, extra=struct.pack("<IHBB", 3, 8, 4, 0)),
        "pcap-android": pcap(extra=bytes(8)),
        "pcap-nokia": pcap(extra=bytes(4)),
        "pcap-ixia": pcap_header(magic=0x1C0001AC, extra=bytes(4)) + pcap()[24:],
        "snoop": snoop(),
        "pcapng": rich_pcapng(),
        "pcapng-big": rich_pcapng(">"),
        "pcapng-mixed": rich_pcapng() + rich_pcapng(">") + rich_pcapng(),
    }
    for name, compress in COMPRESSORS.items():
        captures[f"pcap-{name}"] = compress(captures["pcap"] * 1)
        captures[f"pcapng-{name}"] = compress(captures["pcapng"])
    captures["members-gzip"] = b"".join(
        COMPRESSORS["gzip"](part) for part in (pcap()[:100], pcap()[100:])
    )
    return captures
