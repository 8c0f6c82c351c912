"""Compiles kernels with Numba, and caches them under a key of everything that they are made of.

A kernel's cached form is used while the sources of its module and of the apptell modules that it imports are
unchanged (``source_digest``), for the same numba, Python, processor and compiler flags. It is read from any
cache folder and written to the first writable one (``cache_folders``). Without a writable folder, it is
compiled only for this process. This module loads Numba, and is imported when something has to be compiled.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager, suppress
from functools import partial
from pickle import PickleError
from typing import TYPE_CHECKING, Any, Final

from numba import njit, types
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _Cache, _CacheLocator
from numba.core.runtime.nrt import rtsys

from apptell.kernels.baseline import FOLDER, PROCESSOR, has_prebuilt
from apptell.kernels.cache_folders import cache_folders, make_writable, private_files
from apptell.kernels.compiled import prepare_compiling, stamp_of
from apptell.kernels.inner import inner_dispatcher
from apptell.kernels.machine_code_export import export
from apptell.kernels.notice import compiling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_njit: Any = njit
_DAMAGE: Final = (EOFError, ValueError, LookupError, TypeError, AttributeError, PickleError)
"""What reading a cache file raises that was cut short, or written by another program."""


def part_dispatcher(function: Any, *, forceinline: bool) -> Any:
    """Numba's dispatcher of a function that kernels call."""
    prepare_compiling()
    return inner_dispatcher(function, forceinline=forceinline)


def kernel_dispatcher(function: Any, *, fastmath: bool, allocates: bool) -> Any:
    """Numba's dispatcher of a kernel.

    Arrays that may not be written to are taken like others, so that it is compiled once for both: a kernel
    writes only to arrays that are there for its results.
    """
    prepare_compiling()
    compiled: Any = _njit(nogil=True, fastmath=fastmath, _nrt=allocates, no_cfunc_wrapper=True)(
        function
    )
    compiled._cache = KernelCache(function, is_exact=not fastmath)  # noqa: SLF001 (as numba's own ``cache=True`` does)
    compile_exactly = compiled.compile

    def compile_once(sig: Any) -> Any:
        writable = tuple(map(_writable, sig))
        with _uncollected():
            entry = compile_exactly(writable)
        if writable != tuple(sig):
            compiled._insert([each._code for each in sig], entry, False)  # noqa: SLF001
        return entry

    compiled.compile = compile_once
    return compiled


def machine_code(dispatcher: Any, arguments: tuple[Any, ...], name: str) -> bytes | None:
    """The file of the machine code that the dispatcher compiled for these arguments.

    None where it was not compiled in this process, or does not suit ``machine_code.load``.
    """
    kinds = tuple(_writable(dispatcher.typeof_pyval(each)) for each in arguments)
    result = dispatcher.overloads.get(kinds)
    try:
        return None if result is None else export(result, name)
    except (AttributeError, TypeError, RuntimeError):
        return None  # this version of Numba or LLVM has other inner parts: its own cache serves


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage within: compiling makes many objects that live, and would be a tenth slower."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _writable(kind: Any) -> Any:
    """The type of arrays that may be written to in place of one whose arrays may not."""
    if isinstance(kind, types.Array):
        return kind.copy(readonly=False)
    if isinstance(kind, types.NamedTuple):
        return types.NamedTuple([_writable(each) for each in kind.types], kind.instance_class)
    return kind


class KernelCache(_Cache):
    """The compiled forms of one function. Folders are looked at when the function is first called."""

    def __init__(self, function: Callable[..., Any], *, is_exact: bool = True) -> None:
        self._function = function
        self._is_exact = is_exact
        """Whether its results are the same on every processor."""
        self._levels: list[_Level] | None = None
        self._writable: _Level | None = None
        self._is_enabled = True

    @property
    def cache_path(self) -> str | None:
        """The folder that the function was found in or is kept in; None before its first call."""
        level = self._writable or next(iter(self._levels or []), None)
        return None if level is None else str(level.cache_path)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled form for some types of arguments; None where it has to be compiled.

        Raises:
            UsageError: the cache folder that was named is one that other users can write to.
        """
        if self._levels is None:
            self._levels, self._writable = _open_levels(self._function, is_exact=self._is_exact)
        for level in self._levels if self._is_enabled else ():
            try:
                found = level.load_overload(sig, target_context)
            except OSError:
                continue
            except _DAMAGE:
                if level is self._writable:
                    self.flush()
                continue
            if found is not None:
                return found
        compiling()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps a compiled form; a full disk or a folder that is gone costs nothing but the next start."""
        if self._writable is not None and self._is_enabled:
            with suppress(OSError), private_files():
                self._writable.save_overload(sig, data)

    def enable(self) -> None:
        """Enables the cache."""
        self._is_enabled = True

    def disable(self) -> None:
        """Disables the cache."""
        self._is_enabled = False

    def flush(self) -> None:
        """Empties the cache in the writable folder."""
        if self._writable is not None:
            with suppress(OSError), private_files():
                self._writable.flush()


def _open_levels(
    function: Callable[..., Any], *, is_exact: bool
) -> tuple[list[_Level], _Level | None]:
    """The function's cache in every folder; the one to write to, None where there is none."""
    stamp = stamp_of(function)
    if stamp is None:
        return [], None
    levels: list[_Level] = []
    writable = None
    for folder in cache_folders():
        levels.append(_Level(function, _Place(folder, stamp)))
        if make_writable(folder):
            writable = levels[-1]
            break
    if is_exact and not config.BOUNDSCHECK and has_prebuilt():  # type: ignore[attr-defined]
        levels.append(_Prebuilt(function, _Place(FOLDER, stamp)))
    return levels, writable


class _Place(_CacheLocator):
    """Where numba reads and writes one function's files, and when they are out of date."""

    def __init__(self, folder: Path, stamp: bytes) -> None:
        self._folder = folder
        self._stamp = stamp

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> bytes:
        return self._stamp

    def get_disambiguator(self) -> str:
        return "checked" if config.BOUNDSCHECK else "plain"  # type: ignore[attr-defined]


class _Files(CompileResultCacheImpl):
    """Names of one function's files."""

    def __init__(self, place: _Place, function: Callable[..., Any]) -> None:
        self._locator = place
        self._lineno = function.__code__.co_firstlineno
        self._filename_base = self.get_filename_base(
            f"{function.__module__}.{function.__qualname__}", getattr(sys, "abiflags", "")
        )


class _Level(FunctionCache):
    """One function's cache in one folder."""

    def __init__(self, function: Callable[..., Any], place: _Place) -> None:
        self._impl_class = partial(_Files, place)  # type: ignore[assignment]
        super().__init__(function)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Numba's, but without what only compilation needs, which takes longer to load than the machine code.

        Machine code refers to Numba's runtime and to C functions, which are made known to LLVM here. Numba
        loads the rest when something has to be compiled.
        """
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


class _Prebuilt(_Level):
    """One function's machine code that came with the package."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        signature, (platform, _, _), code = super()._index_key(sig, codegen)
        return signature, (platform, PROCESSOR, ""), code
