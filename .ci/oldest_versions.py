"""Prints constraints for pip that hold every requirement of pyproject.toml at its lower bound.

    python .ci/oldest_versions.py [EXTRA ...] > constraints-oldest.txt

Without extras these are the requirements of the package itself.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def oldest(requirement: str) -> str | None:
    """``name==version`` of the lower bound of ``name>=version``; None where no bound is stated."""
    match = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[.*\])?\s*>=\s*([0-9][^,;\s]*).*", requirement)
    return f"{match[1]}=={match[2]}" if match else None


def main(extras: list[str]) -> None:
    """Prints one line for each bounded requirement."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    print(*dict.fromkeys(filter(None, map(oldest, requirements))), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
