"""Compiles and caches every kernel that captures need.

It runs a few packets of each kind through each reader, the decoder, flow tables, names, encodings and the
model; Numba caches the code for the types that it meets.
"""

from __future__ import annotations

import io
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.capture import open_capture
from apptell.encoding.inputs import ENCODINGS
from apptell.flows import Assembly, FlowBatch, FlowOptions
from apptell.flows.schema import GROUPS
from apptell.kernels.compiled import KERNELS
from apptell.labels.formats.pcapdroid import MAGIC, TRAILER_BYTES, TrailerReader
from apptell.models.nearest_tokens import NearestTokens
from apptell.names import read_flows
from apptell.names.hello import read_hellos
from apptell.names.tls import Messages
from apptell.service.warm_up import warm_up
from apptell.verdicts import identify_flows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apptell.models import Model

_TUPLES: Final = 20_000
_OWNERS: Final = 100
"""More than the reader of trailers has room for at first."""
_QUIC: Final = b"\xc0\0\0\0\1\0\0\0\x20" + bytes(32)
"""An Initial packet of QUIC, which no keys open."""
_ALL: Final = FlowOptions(transports=(6, 17), groups=tuple(GROUPS))


@dataclass(frozen=True, slots=True)
class Prepared:
    """The state of the kernels of this process."""

    compiled: int
    """Number of kernels that were compiled."""
    cached: int
    """Number of kernels that were already cached."""
    folders: list[str]
    """The cache folders."""


def prepare(model: Model) -> Prepared:
    """Compiles every kernel, or loads it from the cache."""
    frames = list(_frames())
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (
            ("one.pcap", _pcap(frames)),
            ("one.pcapng", _pcapng(frames)),
            ("one.snoop", _snoop(frames)),
        ):
            path = Path(folder) / name
            path.write_bytes(data)
            for source in (path, io.BytesIO(data)):  # mapped memory and a stream's buffer differ
                flows = list(read_flows(source, _ALL))
        (Path(folder) / "owners.pcap").write_bytes(_pcap(_owned(i) for i in range(_OWNERS)))
        with open_capture(Path(folder) / "owners.pcap") as packets:
            for batch in packets:
                TrailerReader()(batch)
        _crowd(Path(folder) / "many.pcap")
    # No frame above has a whole hello, and no message means no parsing.
    message = Messages(np.zeros(1, np.int64), np.array([0, 4]), np.zeros(4, np.uint8))
    read_hellos({"t": message})
    # several batches made one lie in memory that is not to be written: another type for a kernel
    flows.append(FlowBatch.concat([flows[-1], flows[-1]]))
    for encoding in ENCODINGS.values():
        for flow_batch in flows:
            encoding.encode(flow_batch, dict(encoding.options))
    for _ in identify_flows(flows, model):
        pass
    tokens = np.ones((1, 2), dtype=np.uint16)
    NearestTokens.of(tokens).similarity(tokens)
    warm_up(FlowOptions(groups=("core", "segments", "names"), lists_decided=True), model)
    return _prepared()


def _crowd(path: Path) -> None:
    """More tuples than a table has room for: it grows, evicts, and decides after a time."""
    path.write_bytes(_pcap(_tcp(0x0A000002 + i, 1, i) for i in range(_TUPLES)))
    options = FlowOptions(max_flows=_TUPLES * 3 // 4, lists_decided=True, lists_early=True)
    assembly = Assembly(options)
    table = assembly.table
    with open_capture(path) as packets:
        for batch in packets:
            list(assembly.add(batch))
    table.decide_after(1.0, table.clock_ns)
    list(table.take_decided())
    list(table.take_early())
    list(table.finish())


def _prepared() -> Prepared:
    stats = [compiled.stats for compiled in KERNELS if compiled.signatures]
    return Prepared(
        sum(bool(each.cache_misses) for each in stats),
        sum(bool(each.cache_hits) and not each.cache_misses for each in stats),
        sorted({str(each.cache_path) for each in stats if each.cache_path is not None}),
    )


def _frames() -> Iterator[bytes]:
    """Ethernet frames: a connection with payload both ways, datagrams both ways, and one with a tag."""
    yield b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x81\0\0\x01\x08\x06"
    for i in range(6):
        yield _tcp(0x0A000002, 1 + i, i, b"x", reverse=i % 2 == 1)
        yield _udp(0x0A000002, _QUIC, reverse=i % 2 == 1)


def _owned(uid: int) -> bytes:
    """A frame with the trailer that names its owner."""
    return _tcp(0x0A000002, 1, 0) + struct.pack("!Ii", MAGIC, uid) + bytes(TRAILER_BYTES - 8)


def _ethernet(protocol: int, client: int, body: bytes, *, reverse: bool) -> bytes:
    ends = (client, 0xC0000207)  # 192.0.2.7
    addresses = struct.pack("!II", *(ends[::-1] if reverse else ends))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    return b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0" + head + addresses + body


def _ports(*, reverse: bool) -> tuple[int, int]:
    return (443, 40_000) if reverse else (40_000, 443)


def _tcp(client: int, number: int, i: int, data: bytes = b"", *, reverse: bool = False) -> bytes:
    ports = _ports(reverse=reverse)
    flags = 0x18 if data else 0x02
    head = struct.pack("!HHIIBBHHH", *ports, number, i, 0x50, flags, 8192, 0, 0)
    return _ethernet(6, client, head + data, reverse=reverse)


def _udp(client: int, data: bytes, *, reverse: bool) -> bytes:
    head = struct.pack("!HHHH", *_ports(reverse=reverse), 8 + len(data), 0)
    return _ethernet(17, client, head + data, reverse=reverse)


def _pcap(frames: Any) -> bytes:
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)]
    for i, frame in enumerate(frames):
        parts += [struct.pack("<IIII", 1, i, len(frame), len(frame)), frame]
    return b"".join(parts)


def _pcapng(frames: list[bytes]) -> bytes:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        size = 12 + len(body)
        return struct.pack("<II", kind, size) + body + struct.pack("<I", size)

    parts = [
        block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)),
        block(1, struct.pack("<HHI", 1, 0, 0)),
    ]
    for i, frame in enumerate(frames):
        head = struct.pack("<IIIII", 0, 0, i, len(frame), len(frame))
        comment = bytes(-len(frame) % 4) + struct.pack("<HH4sHH", 1, 4, b"none", 0, 0)
        parts.append(block(6, head + frame + comment))
    return b"".join(parts)


def _snoop(frames: list[bytes]) -> bytes:
    parts = [b"snoop\0\0\0" + struct.pack("!II", 2, 4)]
    for i, frame in enumerate(frames):
        pad = bytes(-len(frame) % 4)
        size = 24 + len(frame) + len(pad)
        parts += [struct.pack("!IIIIII", len(frame), len(frame), size, 0, 1, i), frame, pad]
    return b"".join(parts)
