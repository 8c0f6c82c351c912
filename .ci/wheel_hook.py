"""Puts into a wheel what was made for it: the man pages of ``make build``, and the kernels that ``backend.py`` compiled.

Man pages go to share/man/man1; a wheel that is built without them, as by ``pip install .``, has none: making them needs
an installed apptell. Kernels go to apptell/kernels/prebuilt, and make the wheel one of this Python and this platform.
Hatch calls this hook (``tool.hatch.build.targets.wheel.hooks.custom``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MADE: Final = "build/man1"
"""Where ``make build`` has the pages made, relative to the root; not kept, and not in the source distribution."""
KERNELS: Final = "APPTELL_WHEEL_KERNELS"
"""Names the folder of compiled kernels."""
PLACE: Final = "apptell/kernels/prebuilt"


class WheelHook(BuildHookInterface):
    """Adds the files to what is in the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by Hatch before it builds."""
        if version != "standard":
            return
        placed = build_data.setdefault("shared_data", {})
        for page in sorted(Path(self.root, MADE).glob("*.1")):
            placed[str(page)] = f"share/man/man1/{page.name}"
        folder = os.environ.get(KERNELS)
        kernels = sorted(Path(folder).iterdir()) if folder else []
        for kernel in kernels:
            build_data["force_include"][str(kernel)] = f"{PLACE}/{kernel.name}"
        if kernels:
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
