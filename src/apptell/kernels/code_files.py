"""Keeps and finds files of machine code: one for each kernel and types of its arguments.

A file's name has digests of all that its content follows from: the processor and the version of Python, the
sources and the version of Numba, and the types. What is found is therefore right, but for damage, which a
digest in the file tells. Several processors and versions of Python can share a folder.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apptell.kernels.baseline import FOLDER, PROCESSOR, has_prebuilt
from apptell.kernels.cache_folders import cache_folders, make_writable, private_files

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX: Final = ".mc"
_DIGITS: Final = 24


class CodeFiles:
    """The files of one function."""

    def __init__(self, function: Any, stamp: bytes, *, is_exact: bool) -> None:
        """``is_exact`` says that its results are the same on every processor."""
        self._function = f"{function.__module__}.{function.__qualname__}"
        self._stamp = stamp
        self._folders: list[Path] = []
        self._writable: Path | None = None
        for folder in cache_folders():
            self._folders.append(folder)
            if make_writable(folder):
                self._writable = folder
                break
        self._is_prebuilt = is_exact and has_prebuilt()

    def find(self, kinds: str) -> Iterator[tuple[Path, bytes]]:
        """Folder and content of each file for these types, the preferred one first."""
        name = self._name(kinds, processor())
        for folder in self._folders:
            with suppress(OSError):
                yield folder, (folder / name).read_bytes()
        if self._is_prebuilt:
            with suppress(OSError):
                yield FOLDER, (FOLDER / self._name(kinds, PROCESSOR)).read_bytes()

    def keep(self, kinds: str, data: bytes) -> None:
        """Writes a file, and deletes those of other sources; failing costs the next start some time.

        Files for other processors and other versions of Python remain: their machines may share the folder.
        """
        if self._writable is None:
            return
        from apptell.errors import OutputError
        from apptell.files import write_file  # here, so that kernels do not depend on its source

        name = self._name(kinds, processor())
        with suppress(OSError, OutputError), private_files():
            write_file(self._writable / name, data)
            group = self._group(processor())
            for old in self._writable.glob(f"{group}-*{SUFFIX}"):
                if not old.name.startswith(f"{group}-{self._version}-"):
                    old.unlink(missing_ok=True)

    def symbol(self, kinds: str) -> str:
        """A name for the function's entry that no other machine code has."""
        return f"apptell_{_digest(self._function, self._stamp.hex(), kinds)}"

    def _name(self, kinds: str, target: str) -> str:
        return f"{self._group(target)}-{self._version}-{_digest(kinds)}{SUFFIX}"

    def _group(self, target: str) -> str:
        """What the names of a function's files for one processor and version of Python begin with."""
        python = sys.implementation.cache_tag or ""
        return f"{self._function}-{_digest(python, sys.platform, target)}"

    @cached_property
    def _version(self) -> str:
        """Of the sources and of Numba."""
        return _digest(self._stamp.hex(), numba_version())


@cache
def processor() -> str:
    """Name and abilities of the processor that code is made for."""
    from llvmlite import binding  # type: ignore[import-untyped]

    named = os.environ.get("NUMBA_CPU_NAME", "") or binding.get_host_cpu_name()
    abilities = os.environ.get("NUMBA_CPU_FEATURES")
    if abilities is None:
        abilities = binding.get_host_cpu_features().flatten()
    return named if not abilities else f"{named} {abilities}"


@cache
def numba_version() -> str:
    """The version of Numba that is installed, without loading it."""
    spec = find_spec("numba")
    if spec is None or spec.origin is None:
        return ""
    found = Path(spec.origin).parents[1].glob("numba-*.dist-info")
    return ",".join(sorted(path.name for path in found)) or _stated_version()


def _stated_version() -> str:
    """Numba's version where it was not installed from a wheel; slower than a look at the folder's names."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("numba")
    except PackageNotFoundError:
        from numba import __version__

        return str(__version__)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGITS]
