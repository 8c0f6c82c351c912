"""The command line of the fuzzers; see the package."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.runner import run_target
from tests.fuzz.target import all_targets

if TYPE_CHECKING:
    from tests.fuzz.runner import Progress


_LARGEST_BYTES = 4096
"""The largest file of a corpus that is taken."""


def main() -> int:
    targets = all_targets()
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=sorted(targets), action="append")
    parser.add_argument("--mutants", type=int, default=100_000, help="of each target, in all")
    parser.add_argument("--seconds", type=float, help="stop each target after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--save", type=Path, default=Path("out/fuzz"), help="where finds and progress are kept"
    )
    parser.add_argument("--corpus", type=Path, help="a folder of more good inputs of one file each")
    options = parser.parse_args()
    corpus = {}
    if options.corpus is not None:
        for path in sorted(options.corpus.rglob("*")):
            if path.is_file() and 0 < path.stat().st_size <= _LARGEST_BYTES:
                name = str(path.relative_to(options.corpus)).replace("/", "~")
                corpus[name] = {"in": path.read_bytes()}
    n_finds = 0
    for name in options.target or sorted(targets):
        began, shown = time.monotonic(), [0.0]

        def report(progress: Progress, name: str = name, shown: list[float] = shown) -> None:
            if time.monotonic() - shown[0] > 10:
                shown[0] = time.monotonic()
                print(f"{name}: {progress.next} mutants", file=sys.stderr, flush=True)

        progress = run_target(
            targets[name],
            n_mutants=options.mutants,
            seed=options.seed,
            save=options.save,
            seconds=options.seconds,
            report=report,
            more=corpus,
        )
        print(
            f"{name}: {progress.next} mutants, {time.monotonic() - began:.0f} s, "
            f"{dict(progress.counts)}, slowest {progress.slowest_s:.2f} s"
        )
        n_finds += progress.counts["found"] + progress.counts["slow"]
    return 1 if n_finds else 0


if __name__ == "__main__":
    sys.exit(main())
