"""Writes connections and packets with their owners as PCAPdroid does: CSV, and pcap with trailers.

The forms are those of PCAPdroid 1.7.4 and later: unquoted CSV with ISO times, and Ethernet frames
whose last 32 bytes name the owner.
"""

from __future__ import annotations

import datetime as dt
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.ownership import Owned

HEADER = (
    "IPProto,SrcIP,SrcPort,DstIp,DstPort,UID,App,PackageName,Proto,Status,Info,"
    "BytesSent,BytesRcvd,PktsSent,PktsRcvd,FirstSeen,LastSeen"
)
TRAILER_MAGIC = 0x01072021
GLOBAL_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)


def stamp(time_ns: int) -> str:
    """``yyyy-MM-dd'T'HH:mm:ss.SSSXXX`` in UTC."""
    moment = dt.datetime.fromtimestamp(time_ns // 1_000_000_000, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns // 1_000_000 % 1000:03d}Z"


def csv_line(
    o: Owned, app: str, package: str, totals: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> str:
    """One connection; ``totals`` are bytes sent, bytes received, packets sent, packets received."""
    fields = [
        o.protocol,
        o.local,
        o.local_port,
        o.remote,
        o.remote_port,
        o.uid,
        app,
        package,
        "TLS",
        "Closed",
        "",
    ]
    return ",".join(map(str, [*fields, *totals, stamp(o.first_ns), stamp(o.last_ns)]))


Totals = dict[tuple[str, int, str, int], tuple[int, int, int, int]]


def write_csv(
    path: Path, owned: Iterable[Owned], owners: dict[int, tuple[str, str]], totals: Totals
) -> None:
    """All connections whose user id is in ``owners`` (uid → app, package)."""
    lines = []
    for o in owned:
        if o.uid in owners:
            key = (o.local, o.local_port, o.remote, o.remote_port)
            lines.append(csv_line(o, *owners[o.uid], totals.get(key, (0, 0, 0, 0))))
    path.write_text("\n".join([HEADER, *lines]) + "\n")


def frame(packet: bytes, uid: int, app: str) -> bytes:
    """An IP packet as PCAPdroid dumps it.

    Bare Ethernet header, packet, padding to four bytes, trailer with its FCS.
    """
    kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    body = bytes(12) + struct.pack(">H", kind) + packet
    body += bytes(-len(body) % 4)
    body += struct.pack(">Ii20s", TRAILER_MAGIC, uid, app.encode()[:19])
    return body + struct.pack("<I", zlib.crc32(body))


def write_pcap(sink: BinaryIO, packets: Iterable[tuple[int, bytes, int, str]]) -> int:
    """Packets (time in ns, whole IP packet, uid, app) as a classic pcap; returns how many."""
    sink.write(GLOBAL_HEADER)
    number = 0
    for time_ns, packet, uid, app in packets:
        data = frame(packet, uid, app)
        sink.write(
            struct.pack(
                "<IIII", time_ns // 1_000_000_000, time_ns // 1000 % 1_000_000, len(data), len(data)
            )
            + data
        )
        number += 1
    return number
