"""Good captures of every format, spoiled at random: only packets and CaptureError may come out.

    python -m benchmarks.fuzz_captures --mutants 1000000 --seed 1
    python -m benchmarks.fuzz_captures --whole          # the flow table behind the readers, too

A find is saved beside its traceback and counted; the exit code is 1 when there was one.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.capture.crafted import good_captures

from apptell.capture import open_capture
from apptell.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXTREMES = (0, 1, 3, 4, 7, 8, 11, 12, 16, 27, 28, 0x7FFF, 0xFFFF, 1 << 18, 1 << 24, 0x7FFFFFFF)
EXTREMES += (0x80000000, 0xFFFFFFFC, 0xFFFFFFFF)


def flip(data: bytearray, rng: random.Random) -> None:
    """Turn one to sixteen bits."""
    for _ in range(rng.randint(1, 16)):
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


MUTATIONS = (flip, cut, remove, repeat, extreme, near, noise)


def mutants(captures: dict[str, bytes], n_mutants: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Spoiled captures with the names of the good ones; the same for the same seed."""
    rng = random.Random(seed)
    names = sorted(captures)
    for _ in range(n_mutants):
        name = rng.choice(names)
        data = bytearray(captures[name])
        for _ in range(rng.randint(1, 3)):
            if data:
                rng.choice(MUTATIONS)(data, rng)
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


def read_whole(data: bytes) -> int:
    """Read a capture to its flows; returns how many there were."""
    from apptell.flows import read_flows

    return sum(len(batch) for batch in read_flows(io.BytesIO(data)))


def fuzz(
    captures: dict[str, bytes],
    *,
    n_mutants: int,
    seed: int,
    read: Callable[[bytes], int] = read_packets,
    save: Path | None = None,
    report: Callable[[int], None] = lambda _done: None,
) -> Counter[str]:
    """Read every mutant; counts it ``fine``, ``refused`` (CaptureError) or ``found`` (else)."""
    counts: Counter[str] = Counter(fine=0, refused=0, found=0)
    for number, (name, data) in enumerate(mutants(captures, n_mutants, seed)):
        try:
            read(data)
            counts["fine"] += 1
        except CaptureError:
            counts["refused"] += 1
        except Exception:  # noqa: BLE001 - any other exception is what we look for
            counts["found"] += 1
            if save is not None:
                save.mkdir(parents=True, exist_ok=True)
                (save / f"{name}-{seed}-{number}.bin").write_bytes(data)
                (save / f"{name}-{seed}-{number}.txt").write_text(traceback.format_exc())
        report(number + 1)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="packets to flows, not readers alone")
    parser.add_argument(
        "--corpus", type=Path, help="a folder of more good captures, up to 64 kB each"
    )
    parser.add_argument("--save", type=Path, default=Path("fuzz-finds"), help="where finds go")
    options = parser.parse_args()
    captures = good_captures()
    if options.corpus is not None:
        for path in sorted(options.corpus.rglob("*")):
            if path.is_file() and 0 < path.stat().st_size <= 1 << 16:
                captures[path.name] = path.read_bytes()
    began = time.perf_counter()

    def report(done: int) -> None:
        if done % 10_000 == 0:
            rate = done / (time.perf_counter() - began)
            print(f"{done} mutants, {rate:.0f} a second", file=sys.stderr)

    counts = fuzz(
        captures,
        n_mutants=options.mutants,
        seed=options.seed,
        read=read_whole if options.whole else read_packets,
        save=options.save,
        report=report,
    )
    rate = options.mutants / (time.perf_counter() - began)
    print(
        f"{options.mutants} mutants of {len(captures)} captures, {rate:.0f} a second: {dict(counts)}"
    )
    return 1 if counts["found"] else 0


if __name__ == "__main__":
    sys.exit(main())
