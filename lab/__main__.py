"""The command line of the lab: makes recordings, samples or a dataset."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab import sandbox


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m lab", description="Record labelled messaging traffic on a single machine."
    )
    verbs = top.add_subparsers(dest="verb", required=True)
    record = verbs.add_parser("record", help="one recording, to try an app or a network")
    record.add_argument("--apps", default="", help="comma-separated; all by default")
    record.add_argument("--flows", type=int, default=20, help="flows of each app")
    record.add_argument("--front", choices=("none", "route", "terminate"), default="none")
    record.add_argument("--tls", default="openssl-default")
    record.add_argument("--network", default="home")
    record.add_argument("--day", type=int, default=0)
    record.add_argument("--workers", type=int, default=10)
    record.add_argument("--seed", type=int, default=1)
    record.add_argument(
        "--beside",
        metavar="COMMAND",
        help="run where the capture is, as long as it lasts; {interface} is its interface",
    )
    record.add_argument("-o", "--output", type=Path, default=Path("lab-out/try"))
    sample = verbs.add_parser("sample", help="make the embedded samples again")
    sample.add_argument("-o", "--output", type=Path, default=Path("src/apptell/samples"))
    sample.add_argument(
        "--work",
        type=Path,
        default=Path("lab-out/sample"),
        help="folder of the complete recordings",
    )
    sample.add_argument("--seed", type=int, default=20)
    sample.add_argument("--keep", action="store_true", help="keep the complete recordings")
    dataset = verbs.add_parser(
        "dataset",
        help="a dataset of the paper's size, or a part of it; continues where it was stopped",
    )
    dataset.add_argument(
        "--flows",
        type=int,
        default=97_706,
        help="all flows; six apps and background in the paper's proportions",
    )
    dataset.add_argument("-o", "--output", type=Path, default=Path("lab-out/dataset"))
    dataset.add_argument("--seed", type=int, default=44)
    dataset.add_argument(
        "--drift", action="store_true", help="settings and habits change from day to day"
    )
    dataset.add_argument(
        "--new-app",
        metavar="NAME",
        action="append",
        default=[],
        help="an app that appears on the fourth of five days, one of the six or deltachat; may be repeated",
    )
    dataset.add_argument(
        "--per-recording",
        type=int,
        default=2_200,
        help="flows of a recording; with 30 recordings, each day has each of the six devices once",
    )
    dataset.add_argument(
        "--workers", type=int, default=24, help="accounts of each app at work at the same time"
    )
    return top


def main(arguments: list[str]) -> int:
    """Checks the requirements, enters the namespaces and runs the verb."""
    options = parser().parse_args(arguments)
    if not sandbox.is_inside():
        reason = sandbox.missing()
        if reason:
            print(f"lab: {reason}", file=sys.stderr)
            return 3
        return sandbox.enter(arguments)
    sandbox.furnish()
    from lab import verbs

    try:
        return int(getattr(verbs, options.verb)(options))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
