"""Finds the machine code that comes with the package, and says whether this machine can run it.

A wheel has the machine code of all kernels for processors of level x86-64-v3, as most machines of the last ten
years have (System V ABI for x86-64, table 3.1); ``.ci/backend.py`` puts it there. It is used for a kernel that
the cache of this machine lacks, if it was made from the same sources, with the same version of Numba and Python
and on the same platform. A cache of this machine, which has newer instructions, goes first.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from apptell.kernels.cache_folders import why_unsafe

FOLDER: Final = Path(__file__).parent / "prebuilt"
"""Numba's cache files, as ``.ci/backend.py`` puts them there."""
PROCESSOR: Final = "x86-64-v3"
"""LLVM's name of the processor."""
_ABILITIES: Final = (
    *("cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"),  # level 2
    *("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"),
)
"""What the processor must be able to do, in LLVM's words."""


@cache
def has_prebuilt() -> bool:
    """Whether machine code came with the package, and this process can run it."""
    if not FOLDER.is_dir() or why_unsafe(FOLDER) is not None:
        return False
    from llvmlite import binding  # type: ignore[import-untyped]

    return is_able(binding.get_host_cpu_features())


def is_able(features: dict[str, bool]) -> bool:
    """Whether a processor with these features, by LLVM's names, can run the code."""
    return all(features.get(ability, False) for ability in _ABILITIES)
