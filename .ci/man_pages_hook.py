"""Puts the man pages that ``make build`` made into the wheel, so that an installation has them.

They go to share/man/man1. Hatch calls this hook (``tool.hatch.build.targets.wheel.hooks.custom``). A wheel that is
built without them, as by ``pip install .``, has none: making them needs an installed apptell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MADE: Final = "build/man1"
"""Where ``make build`` has them made, relative to the root; not kept, and not in the source distribution."""


class ManPagesHook(BuildHookInterface):
    """Adds the pages to what a wheel installs outside of Python's packages."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by Hatch before it builds."""
        if version == "standard":
            placed = build_data.setdefault("shared_data", {})
            for page in sorted(Path(self.root, MADE).glob("*.1")):
                placed[str(page)] = f"share/man/man1/{page.name}"
