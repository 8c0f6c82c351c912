"""Declares compiled functions, and calls their machine code.

``kernel`` declares a function that Python calls, ``inlined`` and ``subroutine`` functions that kernels call.
Numba compiles them (``dispatchers``), which takes long to load. Therefore it is loaded only for a kernel
whose machine code is in no cache: most kernels also have a file with nothing but their machine code
(``machine_code``).
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from functools import cached_property, partial
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from apptell.kernels import machine_code
from apptell.kernels.code_files import CodeFiles
from apptell.kernels.machine_code import Held
from apptell.kernels.source_digest import source_digest

if TYPE_CHECKING:
    from collections.abc import Callable

KERNELS: Final[list[Kernel]] = []
"""Every kernel of the modules that are imported."""
_EXTENSIONS: Final[set[str]] = set()
_PREPARATIONS: Final[list[Callable[[], None]]] = []
_preparing = RLock()
_UNCHANGED: Final = {"NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_NUM_THREADS"}
"""Settings of Numba that do not change what machine code does."""


class KernelStats(NamedTuple):
    """How a kernel's code was come by, by types of arguments."""

    cache_misses: Counter[Any]
    """Compiled."""
    cache_hits: Counter[Any]
    """Found in a cache."""
    cache_path: str | None
    """The folder that the code was found in or is kept in."""


class Kernel:
    """A function over arrays and numbers that runs compiled, without the interpreter lock."""

    def __init__(self, function: Any, *, fastmath: bool, allocates: bool) -> None:
        self.py_func = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        self._fastmath = fastmath
        self._allocates = allocates
        self._calls: dict[tuple[Any, ...], Any] = {}
        self._found: Counter[Any] = Counter()
        self._folder: str | None = None

    @cached_property
    def dispatcher(self) -> Any:
        """Numba's dispatcher."""
        from apptell.kernels.dispatchers import kernel_dispatcher

        return kernel_dispatcher(self.py_func, fastmath=self._fastmath, allocates=self._allocates)

    @property
    def _numba_type_(self) -> Any:
        """What it is for Numba where another kernel calls it."""
        from numba import types

        return types.Dispatcher(self.dispatcher)

    @property
    def signatures(self) -> list[Any]:
        """The types of arguments that it was called with."""
        return list(self._calls)

    @property
    def stats(self) -> KernelStats:
        """How its code was come by."""
        if "dispatcher" not in self.__dict__:
            return KernelStats(Counter(), self._found, self._folder)
        known = self.dispatcher.stats
        hits = self._found + Counter(known.cache_hits)
        folder = known.cache_path or self._folder
        return KernelStats(Counter(known.cache_misses), hits, folder)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Runs it."""
        if named:
            return self._dispatch(arguments, **named)
        key: list[Any] = []
        slots: list[int] = []
        if not machine_code.flatten(arguments, key, slots):
            return self._dispatch(arguments)
        kinds = tuple(key)
        call = self._calls.get(kinds)
        if call is None:
            return self._first_call(kinds, arguments, slots)
        if call is self:
            return self._dispatch(arguments)
        return call(slots)

    def _dispatch(self, arguments: tuple[Any, ...], **named: Any) -> Any:
        """Runs it by Numba's dispatcher."""
        return self.dispatcher(*_let_go(arguments), **named)

    def _first_call(
        self, kinds: tuple[Any, ...], arguments: tuple[Any, ...], slots: list[int]
    ) -> Any:
        """Runs it for types of arguments that are new to this process."""
        files = self._files if _is_usual() else None
        name = None if files is None else machine_code.name_of(kinds)
        if files is not None and name is not None:
            for folder, data in files.find(name):
                with suppress(machine_code.UnusableCode):
                    call = machine_code.load(data)
                    self._found[kinds] += 1
                    self._folder = self._folder or str(folder)
                    self._calls[kinds] = call
                    return call(slots)
        arguments = _let_go(arguments)
        result = self.dispatcher(*arguments)
        if files is not None and name is not None and kinds not in self._calls:
            from apptell.kernels.dispatchers import machine_code as made

            content = made(self.dispatcher, arguments, files.symbol(name))
            if content is not None:
                files.keep(name, content)
        self._calls[kinds] = self
        return result

    @cached_property
    def _files(self) -> CodeFiles | None:
        stamp = stamp_of(self.py_func)
        if stamp is None:
            return None
        return CodeFiles(self.py_func, stamp, is_exact=not self._fastmath)


class KernelPart:
    """A function that kernels call; called from Python, it runs as plain Python."""

    def __init__(self, function: Any, *, forceinline: bool) -> None:
        self.py_func = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        self._forceinline = forceinline

    @cached_property
    def dispatcher(self) -> Any:
        """Numba's dispatcher."""
        from apptell.kernels.dispatchers import part_dispatcher

        return part_dispatcher(self.py_func, forceinline=self._forceinline)

    @property
    def _numba_type_(self) -> Any:
        """What it is for Numba where a kernel calls it."""
        from numba import types

        return types.Dispatcher(self.dispatcher)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Runs it as plain Python."""
        return self.py_func(*arguments, **named)


def kernel(function: Any = None, *, fastmath: bool = False, allocates: bool = True) -> Any:
    """Declares a kernel: compiled at its first call, without the interpreter lock, and cached.

    Args:
        function: takes only arrays and numbers.
        fastmath: whether sums of floating-point numbers may be reordered.
        allocates: whether it creates arrays or returns views. If not, references are not counted; counting
            costs more than the work in a loop over packets.
    """
    if function is None:
        return partial(kernel, fastmath=fastmath, allocates=allocates)
    declared = Kernel(function, fastmath=fastmath, allocates=allocates)
    KERNELS.append(declared)
    return declared


def inlined(function: Any) -> Any:
    """Declares a function that becomes part of each kernel that calls it; it makes and returns no arrays."""
    return KernelPart(function, forceinline=True)


def subroutine(function: Any) -> Any:
    """Declares a function that kernels call and that may stay apart from them.

    It makes and returns no arrays.
    """
    return KernelPart(function, forceinline=False)


def extended_by(module: str) -> None:
    """Adds the source of a module outside apptell, whose functions kernels call, to every key."""
    _EXTENSIONS.add(module)


def before_compiling(preparation: Callable[[], None]) -> None:
    """Has something done, once, before the first kernel is compiled: it may load Numba."""
    _PREPARATIONS.append(preparation)


def prepare_compiling() -> None:
    """Does what has to be done before compiling; a thread that comes second waits until it is done."""
    with _preparing:
        while _PREPARATIONS:
            _PREPARATIONS[0]()
            del _PREPARATIONS[0]


def stamp_of(function: Any) -> bytes | None:
    """A digest of all sources that a function is made of; None where they are not files."""
    names = (function.__module__, f"{__package__}.dispatchers", *sorted(_EXTENSIONS))
    digests = [source_digest(name) for name in names]
    if None in digests:
        return None
    return b"".join(digest for digest in digests if digest is not None)


def _let_go(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments as Numba takes them."""
    return tuple(each.values if isinstance(each, Held) else each for each in arguments)


def _is_usual() -> bool:
    """Whether nobody asked Numba for something special, such as bounds checks."""
    # False where this process may not look into its working directory, as Numba itself has it
    if not machine_code.IS_POSSIBLE or os.path.exists(".numba_config.yaml"):  # noqa: PTH110
        return False
    return all(name in _UNCHANGED for name in os.environ if name.startswith("NUMBA_"))
