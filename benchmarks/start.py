"""Measures how long a command takes to start, beside other programs and other checkouts.

    python benchmarks/start.py CAPTURE [--source CHECKOUT/src ...] [--peers-python PYTHON] [-o out/start.json]

CAPTURE should be small. Each round runs every program once, so that all see the same load: ``--help``,
``identify`` with all kernels compiled before (warm), ``ndpiReader -q`` where it is on the path, and nfstream
where PYTHON has it. ``identify`` with nothing compiled (cold) runs once for each source; the source can also be
the folder of an unpacked wheel, which has compiled kernels. Seconds are of
processor time, user and system, of the process and those that it starts; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

NFSTREAM = (
    "import sys; from nfstream import NFStreamer\n"
    "if __name__ == '__main__': print(sum(1 for _ in NFStreamer(source=sys.argv[1], n_meters=1)))"
)


def seconds(command: list[str], **environment: str) -> float:
    """Processor seconds of one run of a command.

    Raises:
        RuntimeError: it failed.
    """
    quiet = subprocess.DEVNULL
    there = {**os.environ, **environment}
    # modules are compiled by the first run, as installed ones are
    there.pop("PYTHONDONTWRITEBYTECODE", None)
    child = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=there)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {child.returncode}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Runs the rounds and prints the medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--source", type=Path, action="append", default=[])
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    sources = options.source or [Path(__file__).parents[1] / "src"]
    apptell = [sys.executable, "-m", "apptell.cli"]
    identify = [*apptell, "identify", str(options.capture)]
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        places = {
            str(source): {
                "PYTHONPATH": str(source),
                "NUMBA_CACHE_DIR": str(Path(folder) / str(number)),
            }
            for number, source in enumerate(sources)
        }
        for source, place in places.items():
            found[f"cold {source}"] = [seconds(identify, **place)]
        for _ in range(options.rounds):
            for source, place in places.items():
                found.setdefault(f"help {source}", []).append(
                    seconds([*apptell, "--help"], **place)
                )
                found.setdefault(f"warm {source}", []).append(seconds(identify, **place))
            if shutil.which("ndpiReader"):
                command = ["ndpiReader", "-q", "-i", str(options.capture)]
                found.setdefault("ndpiReader", []).append(seconds(command))
            if _has_nfstream(options.peers_python):
                command = [options.peers_python, "-c", NFSTREAM, str(options.capture)]
                found.setdefault("nfstream", []).append(seconds(command))
    result = {
        "capture": options.capture.name,
        "rounds": options.rounds,
        "processor_s": {name: round(statistics.median(all_), 2) for name, all_ in found.items()},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(f"{text}\n", encoding="utf-8")


def _has_nfstream(python: str) -> bool:
    command = [python, "-c", "import nfstream"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    main()
