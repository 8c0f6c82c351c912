"""Captures of every format, link layer and tunnel, read the whole way to flows with every column.

The flows are those of TCP and UDP, clean and paper in turns, in a table so small that it evicts. Each batch
is checked by Arrow, and the counters must account for every packet. A mutation knows records and blocks: it
spoils one frame, a length, a time or the link type, moves and repeats records, or spoils what is compressed
before it is compressed.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
from typing import TYPE_CHECKING, Any, ClassVar

import lz4.frame
import zstandard

from apptell.capture import open_capture
from apptell.capture.byte_streams import ObjectStream, Stop
from apptell.capture.capture_reader import CaptureReader, Part
from apptell.capture.source import BATCH_PACKETS
from apptell.errors import CaptureError
from apptell.flows import FlowOptions, FlowReader
from apptell.flows.schema import GROUPS
from apptell.names import add_names
from apptell.packets.layers.registry import LAYER_OF_LINK
from apptell.testing import START_NS, client_hello, conversation, pcap_bytes, udp_frame
from tests.capture import crafted
from tests.capture.crafted import good_captures
from tests.fuzz.mutators import ANY, EXTREMES, IN_PLACE, spoil
from tests.fuzz.target import Files, Target
from tests.names import test_dtls, test_quic
from tests.packets.test_decode import IP4, IP6, WITH_SEGMENT, WITHOUT_SEGMENT, ether
from tests.packets.test_reassembly import fragments4, fragments6

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

SMALL = tuple(
    FlowOptions(
        mode=mode, transports=(6, 17), max_flows=64, segment_memory=1 << 16, groups=tuple(GROUPS)
    )
    for mode in ("clean", "paper")
)
LINK_TYPES = [*LAYER_OF_LINK.nonzero()[0].tolist(), 147, 0xFFFF]
COMPRESSIONS: dict[bytes, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": (gzip.decompress, lambda data: gzip.compress(data, 1, mtime=0)),
    b"BZ": (bz2.decompress, lambda data: bz2.compress(data, 1)),
    b"\xfd7": (lzma.decompress, lambda data: lzma.compress(data, preset=0)),
    b"\x28\xb5": (
        lambda data: zstandard.ZstdDecompressor().decompress(data, max_output_size=1 << 24),
        zstandard.ZstdCompressor(level=1).compress,
    ),
    b"\x04\x22": (lz4.frame.decompress, lz4.frame.compress),
}
"""First bytes -> how to unpack and pack."""


def read_packets(data: bytes) -> int:
    """Read a capture and touch every packet; returns how many there were."""
    with open_capture(io.BytesIO(data)) as reader:
        n_packets = 0
        for batch in reader:
            n_packets += len(batch)
            end = batch.offset + batch.captured
            if len(batch) and (batch.offset.min() < 0 or int(end.max()) > len(batch.buffer)):
                raise IndexError("a frame lies outside its buffer")
        if reader.stats.packets != n_packets:
            raise ValueError("the counters disagree with the packets")
    return n_packets


def read_whole(*captures: bytes) -> int:
    """Read captures as one stream to its flows, check them and the counters; returns how many there were."""
    parts = [
        Part(str(number), lambda data=data: ObjectStream(io.BytesIO(data), Stop(None), owned=True))  # type: ignore[misc]
        for number, data in enumerate(captures)
    ]
    source = CaptureReader(parts, "fuzz", batch_packets=BATCH_PACKETS)
    reader = FlowReader(source, SMALL[len(captures[0]) % 2], add_names=add_names)
    n_flows = 0
    try:
        for batch in reader:
            batch.to_arrow().validate(full=True)
            n_flows += len(batch)
    finally:
        stats = reader.stats
        seen = stats.in_flows + stats.after_close + stats.not_asked
        seen += sum(n for status, n in stats.status.items() if status != "ok")
        # a datagram that was put together may carry an aggregate of packets
        if seen < stats.packets or (seen > stats.packets and not stats.reassembled):
            raise ValueError(f"{seen} of {stats.packets} packets are accounted for")
        if stats.flows != n_flows:
            raise ValueError("the counters disagree with the flows")
    return n_flows


def talking_captures() -> dict[str, bytes]:
    """Name -> bytes of a good capture: every link layer and tunnel, and what names are read from."""
    captures = {}
    known: Iterable[Any] = (*WITH_SEGMENT, *WITHOUT_SEGMENT)
    frames = [(link_type, frame) for _, link_type, frame, *_ in known]
    for start in range(0, len(frames), 8):
        some = frames[start : start + 8]
        blocks = [crafted.interface(link_type=link_type) for link_type, _ in some]
        blocks += [
            crafted.enhanced(frame, number=number, ticks=START_NS // 1000 + number)
            for number, (_, frame) in enumerate(some)
        ]
        captures[f"links-{start}"] = crafted.section() + b"".join(blocks)
    server = ("192.0.2.7", 443)
    hello = client_hello("chat.example.org")
    talks = {
        "tls": [(True, hello[:90]), (True, hello[90:]), (False, b"\x16\x03\x03\0\4\2\0\0\0")],
        "http": [
            (True, b"GET / HTTP/1.1\r\nHost: chat.example.org\r\n\r\n"),
            (False, b"HTTP/1.1 "),
        ],
        "smtp": [(False, b"220 ready\r\n"), (True, b"EHLO phone\r\n"), (True, hello)],
    }
    for number, (name, messages) in enumerate(talks.items()):
        captures[name] = pcap_bytes(conversation(("10.0.0.3", 40000 + number), server, messages))
    datagrams = {
        "quic": [test_quic.initial(test_quic.crypto(0, test_quic.SHORT))],
        "quic2": [test_quic.initial(test_quic.crypto(0, test_quic.SHORT), 0x6B3343CF)],
        "dtls": [test_dtls.record(at, 60) for at in range(0, len(test_dtls.BODY), 60)],
    }
    for number, (name, payloads) in enumerate(datagrams.items()):
        phone = ("10.0.0.4", 40000 + number)
        packets = [
            (START_NS + i, udp_frame(phone, server, data)) for i, data in enumerate(payloads)
        ]
        captures[name] = pcap_bytes(packets)
    pieces = [ether(0x0800, frame) for frame in fragments4(IP4[20:] + bytes(40))]
    pieces += [ether(0x86DD, frame) for frame in fragments6(IP6[40:] + bytes(40))]
    captures["fragments"] = pcap_bytes([(START_NS + i, frame) for i, frame in enumerate(pieces)])
    return captures


class Captures(Target):
    """Captures, alone and in a row."""

    name: ClassVar[str] = "captures"
    refusals: ClassVar[tuple[type[Exception], ...]] = (CaptureError,)
    together: ClassVar[int] = 16

    def __init__(self) -> None:
        self._seeds: dict[str, Files] = {}

    def seeds(self) -> dict[str, Files]:
        """Every format and variant, every link layer and tunnel, and what names are read from."""
        if not self._seeds:
            captures = good_captures() | talking_captures()
            self._seeds = {name: {"in": data} for name, data in captures.items()}
        return self._seeds

    def mutate(self, files: Files, rng: random.Random) -> Files:
        """Half of the mutations know the structure."""
        data = files["in"]
        if rng.random() < 0.5:
            return {"in": spoil(data, rng, rng.choice((IN_PLACE, ANY)))}
        return {"in": spoil_structure(data, rng)}

    def run(self, inputs: Sequence[Files], scratch: Path) -> None:
        """To flows."""
        read_whole(*(files["in"] for files in inputs))


def spoil_structure(data: bytes, rng: random.Random) -> bytes:
    """A capture with one record, block or header spoiled; by bytes where it is not understood any more."""
    if data[:2] in COMPRESSIONS:
        unpack, pack = COMPRESSIONS[data[:2]]
        try:
            content = unpack(data)
        except Exception:  # noqa: BLE001 - a spoiled one; every library raises its own
            return spoil(data, rng)
        return pack(spoil_structure(content, rng)) if content else data
    for split, head, spoil_head in (
        (_pcap_records, 24, _spoil_pcap_header),
        (_snoop_records, 16, spoil),
        (_pcapng_blocks, 0, spoil),
    ):
        records = split(data)
        if records:
            if head and rng.random() < 0.1:
                return spoil_head(data[:head], rng) + data[head:]
            return data[:head] + b"".join(_spoil_records(records, rng))
    return spoil(data, rng)


def _spoil_records(records: list[bytes], rng: random.Random) -> list[bytes]:
    """One change among records: of one, of their order, or of their number."""
    records = list(records)
    at = rng.randrange(len(records))
    change = rng.randrange(6)
    if change == 0:
        del records[at]
    elif change == 1:
        records[at:at] = records[at : at + 1] * rng.choice((1, 2, 40))
    elif change == 2:
        to = rng.randrange(len(records))
        records[at], records[to] = records[to], records[at]
    else:
        records[at] = _spoil_record(records[at], rng)
    return records


def _spoil_record(record: bytes, rng: random.Random) -> bytes:
    """A record whose header, frame or beginning of the frame is spoiled; its length stays, mostly."""
    head = min(len(record), 32)
    where = rng.randrange(4)
    if where == 0:  # a word of the header
        place = rng.randrange(head // 4) * 4 if head >= 4 else 0
        order = rng.choice("<>")
        return record[:place] + struct.pack(order + "I", rng.choice(EXTREMES)) + record[place + 4 :]
    if where == 1:  # a link type, of an interface's block
        return (
            record[:8] + struct.pack(rng.choice("<>") + "H", rng.choice(LINK_TYPES)) + record[10:]
        )
    start = rng.randrange(16, max(min(len(record), 110), 17))
    return record[:start] + spoil(record[start:], rng, IN_PLACE)


def _spoil_pcap_header(header: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.7:
        return header[:20] + struct.pack(rng.choice("<>") + "I", rng.choice(LINK_TYPES))
    return spoil(header, rng, IN_PLACE)


def _pcap_records(data: bytes) -> list[bytes]:
    """The records of a pcap file with 16-byte headers; none of anything else."""
    orders = {b"\xa1\xb2\xc3\xd4": ">", b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<"}
    order = orders.get(data[:4])
    records, at = [], 24
    while order is not None and at + 16 <= len(data):
        (length,) = struct.unpack_from(order + "I", data, at + 8)
        end = min(at + 16 + length, len(data))
        records.append(data[at:end])
        at = end
    return records


def _snoop_records(data: bytes) -> list[bytes]:
    records, at = [], 16
    while data[:8] == b"snoop\0\0\0" and at + 24 <= len(data):
        (length,) = struct.unpack_from(">I", data, at + 8)
        end = min(at + max(length, 24), len(data))
        records.append(data[at:end])
        at = end
    return records


def _pcapng_blocks(data: bytes) -> list[bytes]:
    """The blocks of a pcapng file, in whichever byte order their section has."""
    blocks, at, order = [], 0, "<"
    while data[:4] == b"\x0a\x0d\x0d\x0a" and at + 12 <= len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = ">" if data[at + 8 : at + 12] == b"\x1a\x2b\x3c\x4d" else "<"
        (length,) = struct.unpack_from(order + "I", data, at + 4)
        end = min(at + max(length, 12), len(data))
        blocks.append(data[at:end])
        at = end
    return blocks


TARGET = Captures()
