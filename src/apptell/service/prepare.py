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
from apptell.service.trial_frames import tcp_frame, trial_frames
from apptell.service.warm_up import warm_up
from apptell.verdicts import identify_flows

if TYPE_CHECKING:
    from apptell.models import Model

_TUPLES: Final = 20_000
_OWNERS: Final = 100
"""More than the reader of trailers has room for at first."""
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
    """Compiles every kernel that captures need, or loads it from the cache."""
    frames = list(trial_frames())
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
    path.write_bytes(_pcap(tcp_frame(0x0A000002 + i, 1, i) for i in range(_TUPLES)))
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


def _owned(uid: int) -> bytes:
    """A frame with the trailer that names its owner."""
    return tcp_frame(0x0A000002, 1, 0) + struct.pack("!Ii", MAGIC, uid) + bytes(TRAILER_BYTES - 8)


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
