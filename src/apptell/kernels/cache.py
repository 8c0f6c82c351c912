"""A kernel's source file in, the folder of its compiled form out: also where that folder may only be read.

numba passes over a cache that it may not write to. ``Prepared`` copies links to what was prepared there
(``apptell config compile``) into a temporary folder, so that nothing is compiled again, and what was not
prepared is compiled for this process alone. The program ``apptell`` asks numba to use it; a library does not.
Whoever waits for a compilation is told so, once.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Self

from numba.core import caching, config, event


class Notice(event.Listener):
    """Says on standard error that kernels are being compiled, when the first of them is."""

    def __init__(self) -> None:
        self._was_given = False

    def on_start(self, event: Any) -> None:  # noqa: ARG002 (numba calls it)
        """Before a kernel is compiled; not when it is found in the cache."""
        if not self._was_given:
            self._was_given = True
            print("apptell: compiling kernels, once; later runs begin at once", file=sys.stderr)

    def on_end(self, event: Any) -> None:
        """After it."""


event.register("numba:compile", Notice())  # type: ignore[no-untyped-call]


class Temporary(caching.UserProvidedCacheLocator):
    """A folder of this process alone: where nothing was prepared and nowhere can be written."""

    def __init__(self, function: Any, file: str) -> None:
        super().__init__(function, file)  # type: ignore[no-untyped-call]
        told = Path(self._cache_path) if config.CACHE_DIR else None  # type: ignore[attr-defined]
        self._cache_path = str(_linked(told or Path(file).parent / "__pycache__"))

    @classmethod
    def from_function(cls, function: Any, file: str) -> Self | None:
        """A locator for a function in a file; None where there is no source."""
        return cls(function, file) if Path(file).exists() else None


class Prepared(Temporary):
    """The same, where something was prepared for the function's file."""

    @classmethod
    def from_function(cls, function: Any, file: str) -> Self | None:
        """A locator for a function in a file; None where nothing was prepared for it."""
        found = super().from_function(function, file)
        is_there = found is not None and found.holds(file)
        return found if is_there else None

    def holds(self, file: str) -> bool:
        """Whether there is something for a file's functions."""
        return any(Path(self._cache_path).glob(f"{Path(file).stem}.*.nbi"))


@cache
def _linked(prepared: Path) -> Path:
    """A temporary folder with links to the compiled kernels in a folder."""
    folder = Path(tempfile.mkdtemp(dir=_temporary()))
    for path in prepared.glob("*.nb[ic]"):
        (folder / path.name).symlink_to(path.absolute())
    return folder


@cache
def _temporary() -> Path:
    folder = tempfile.mkdtemp(prefix="apptell-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
