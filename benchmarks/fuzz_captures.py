"""Good captures of every format, spoiled at random: only flows and CaptureError may come out.

    python -m benchmarks.fuzz_captures --mutants 1000000 --seed 1       # the whole way
    python -m benchmarks.fuzz_captures --readers                        # the readers alone

The whole way: read, decoded, made into flows of TCP and UDP, clean and paper in turns, in a table so small
that it evicts, with names, owners and every other column; each batch of flows is checked by Arrow, and the
counters must account for every packet. A find is saved beside its traceback and counted; the exit code is
1 when there was one.
"""

from __future__ import annotations

import argparse
import io
import itertools
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.capture import crafted
from tests.capture.crafted import good_captures
from tests.names import test_dtls, test_quic
from tests.packets.test_decode import IP4, IP6, WITH_SEGMENT, WITHOUT_SEGMENT, ether
from tests.packets.test_reassembly import fragments4, fragments6

from apptell.capture import open_capture
from apptell.capture.reader import CaptureReader, Part
from apptell.capture.source import BATCH_PACKETS
from apptell.capture.streams import ObjectStream, Stop
from apptell.errors import CaptureError
from apptell.flows import FlowOptions, FlowReader
from apptell.flows.schema import GROUPS
from apptell.names import add_names
from apptell.testing import START_NS, client_hello, conversation, pcap_bytes, udp_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXTREMES = (0, 1, 3, 4, 7, 8, 11, 12, 16, 27, 28, 0x7FFF, 0xFFFF, 1 << 18, 1 << 24, 0x7FFFFFFF)
EXTREMES += (0x80000000, 0xFFFFFFFC, 0xFFFFFFFF)


def flip(data: bytearray, rng: random.Random) -> None:
    """Turn one to sixteen bits."""
    for _ in range(rng.choice((1, 2, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    """Keep only the beginning."""
    del data[rng.randrange(len(data)) :]


def remove(data: bytearray, rng: random.Random) -> None:
    """Take out a piece."""
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 64)]


def repeat(data: bytearray, rng: random.Random) -> None:
    """Put a piece in again somewhere."""
    start, to = rng.randrange(len(data)), rng.randrange(len(data))
    data[to:to] = data[start : start + rng.choice((4, 8, 28, 64, 512))]


def extreme(data: bytearray, rng: random.Random) -> None:
    """Set an aligned word, such as a length, to an extreme, in either byte order."""
    at = rng.randrange(max(len(data) // 4, 1)) * 4
    data[at : at + 4] = rng.choice(EXTREMES).to_bytes(4, rng.choice(("little", "big")))


def near(data: bytearray, rng: random.Random) -> None:
    """Add a little to an aligned word."""
    at = rng.randrange(max(len(data) // 4, 1)) * 4
    order = rng.choice(("little", "big"))
    value = int.from_bytes(data[at : at + 4], order) + rng.randint(-8, 8)
    data[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, order)


def noise(data: bytearray, rng: random.Random) -> None:
    """Replace a piece by random bytes."""
    start = rng.randrange(len(data))
    data[start : start + rng.randint(1, 64)] = rng.randbytes(rng.randint(1, 64))


IN_PLACE = (flip, extreme, near)
"""Mutations that leave the records' places, so that more of them reach the packets."""
TOGETHER = 16
"""Mutants that the long run reads as one stream."""
MUTATIONS = (*IN_PLACE, cut, remove, repeat, noise)


def mutants(captures: dict[str, bytes], n_mutants: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Spoiled captures with the names of the good ones; the same for the same seed."""
    rng = random.Random(seed)
    names = sorted(captures)
    for _ in range(n_mutants):
        name = rng.choice(names)
        data = bytearray(captures[name])
        mutations = rng.choice((IN_PLACE, MUTATIONS))
        for _ in range(rng.randint(1, 3)):
            if data:
                rng.choice(mutations)(data, rng)
        yield name, bytes(data)


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


SMALL = tuple(
    FlowOptions(
        mode=mode, transports=(6, 17), max_flows=64, segment_memory=1 << 16, groups=tuple(GROUPS)
    )
    for mode in ("clean", "paper")
)


def read_whole(*captures: bytes) -> int:
    """Read captures as one stream to its flows, check them and the counters; returns how many there were."""
    parts = [
        Part(str(number), lambda data=data: ObjectStream(io.BytesIO(data), Stop(None), owned=True))
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
        seen = stats.in_flows + stats.not_asked
        seen += sum(n for status, n in stats.status.items() if status != "ok")
        if not stats.packets <= seen <= stats.packets + stats.reassembled:
            raise ValueError(f"{seen} of {stats.packets} packets are accounted for")
        if stats.flows != n_flows:
            raise ValueError("the counters disagree with the flows")
    return n_flows


def talking_captures() -> dict[str, bytes]:
    """Name -> bytes of a good capture: every link layer and tunnel, and what names are read from."""
    captures = {}
    frames = [(link_type, frame) for _, link_type, frame, *_ in (*WITH_SEGMENT, *WITHOUT_SEGMENT)]
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


def fuzz(
    captures: dict[str, bytes],
    *,
    n_mutants: int,
    seed: int,
    read: Callable[..., int] = read_whole,
    together: int = 1,
    first: int = 0,
    save: Path | None = None,
    report: Callable[[int], None] = lambda _done: None,
) -> Counter[str]:
    """Read every mutant; counts it ``fine``, ``refused`` (CaptureError) or ``found`` (anything else).

    ``together`` mutants are read as one stream, which is faster, and one by one where anything but a
    CaptureError came out; all of them are refused then where one of them is. Those before the ``first``
    are made, since the others depend on them, but not read.
    """
    counts: Counter[str] = Counter(fine=0, refused=0, found=0)
    numbered = enumerate(mutants(captures, n_mutants, seed))
    for _ in itertools.islice(numbered, first):
        pass
    while some := list(itertools.islice(numbered, together)):
        outcome = _outcome(read, *(data for _, (_, data) in some))
        if not outcome.startswith("Traceback"):
            counts[outcome] += len(some)
        for number, (name, data) in some if outcome.startswith("Traceback") else ():
            alone = _outcome(read, data) if together > 1 else outcome
            if alone.startswith("Traceback"):
                _save(save, f"{name}-{seed}-{number}", data, alone)
                alone = "found"
            counts[alone] += 1
        if together > 1 and outcome.startswith("Traceback") and not counts["found"]:
            counts["found"] += 1  # only in company
            _save(save, f"together-{seed}-{some[0][0]}", b"", outcome)
        report(some[-1][0] + 1)
    return counts


def _outcome(read: Callable[..., int], *data: bytes) -> str:
    """``fine``, ``refused`` or the traceback of anything else."""
    try:
        read(*data)
    except CaptureError:
        return "refused"
    except Exception:  # noqa: BLE001 - any other exception is what we look for
        return traceback.format_exc()
    return "fine"


def _save(folder: Path | None, name: str, data: bytes, said: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.bin").write_bytes(data)
        (folder / f"{name}.txt").write_text(said)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="go on from this mutant")
    parser.add_argument("--readers", action="store_true", help="the readers alone, no flows")
    parser.add_argument("--corpus", type=Path, help="a folder of more captures to spoil")
    parser.add_argument(
        "--largest", type=int, default=4096, help="bytes of a capture of the corpus"
    )
    parser.add_argument("--save", type=Path, default=Path("fuzz-finds"), help="where finds go")
    options = parser.parse_args()
    captures = good_captures() | talking_captures()
    if options.corpus is not None:
        for path in sorted(options.corpus.rglob("*")):
            if path.is_file() and 0 < path.stat().st_size <= options.largest:
                captures[str(path.relative_to(options.corpus)).replace("/", "~")] = (
                    path.read_bytes()
                )
    began = time.perf_counter()

    def report(done: int) -> None:
        if done % 10_000 < TOGETHER:
            rate = (done - options.first) / (time.perf_counter() - began)
            print(f"{done} mutants, {rate:.0f} a second", file=sys.stderr, flush=True)

    counts = fuzz(
        captures,
        n_mutants=options.mutants,
        seed=options.seed,
        read=read_packets if options.readers else read_whole,
        together=1 if options.readers else TOGETHER,
        first=options.first,
        save=options.save,
        report=report,
    )
    rate = (options.mutants - options.first) / (time.perf_counter() - began)
    print(
        f"{options.mutants} mutants of {len(captures)} captures, {rate:.0f} a second: {dict(counts)}"
    )
    return 1 if counts["found"] else 0


if __name__ == "__main__":
    sys.exit(main())
