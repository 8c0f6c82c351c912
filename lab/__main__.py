"""A verb and its options in; recordings, samples or a dataset out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab import sandbox


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m lab", description="Record labelled messaging traffic on this machine alone.")
    verbs = top.add_subparsers(dest="verb", required=True)
    record = verbs.add_parser("record", help="one recording, to try an app or a network")
    record.add_argument("--apps", default="", help="comma-separated; all by default")
    record.add_argument("--flows", type=int, default=20, help="flows of each app")
    record.add_argument("--front", choices=("none", "route", "terminate"), default="none")
    record.add_argument("--tls", default="openssl-default")
    record.add_argument("--seed", type=int, default=1)
    record.add_argument("-o", "--output", type=Path, default=Path("lab-out/try"))
    sample = verbs.add_parser("sample", help="make the embedded samples anew")
    sample.add_argument("-o", "--output", type=Path, default=Path("src/apptell/samples"))
    sample.add_argument("--work", type=Path, default=Path("lab-out/sample"), help="where the whole recordings stay")
    sample.add_argument("--seed", type=int, default=20)
    return top


def main(arguments: list[str]) -> int:
    """Check, enter the namespaces, do the verb."""
    options = parser().parse_args(arguments)
    if not sandbox.is_inside():
        reason = sandbox.missing()
        if reason:
            print(f"lab: {reason}", file=sys.stderr)
            return 3
        sandbox.enter(arguments)
    sandbox.furnish()
    from lab import verbs

    try:
        return int(getattr(verbs, options.verb)(options))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
