"""Loads and calls machine code without Numba, which takes longer to load than a small capture takes to read.

A file of machine code has a digest, a line of JSON and an ELF object with one entry function. The entry takes
two addresses of 64-bit integers: *slots* with the arguments, and *results*. An array is one slot, the address
of NumPy's array object, whose fields the entry reads (``PyArrayObject_fields`` is the same in NumPy 1 and 2),
and so is a record (``PyVoidScalarObject``); a number is one slot; a tuple is its elements. The first result
is the address of an exception, and the others are what the function returns. The entry returns zero where
nothing was raised. ``machine_code_export`` makes such files.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import pickle
import struct
import sys
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

IS_POSSIBLE: Final = (
    object.__basicsize__ == 16 and sys.implementation.name == "cpython" and sys.platform == "linux"
)
"""Whether array objects lie in memory as the entry expects."""
DATA_AT, SHAPE_AT, STRIDES_AT = 16, 32, 40
"""Bytes from the beginning of an array object to these pointers."""
RECORD_AT = 24
"""Bytes from the beginning of a record's object to the pointer to its data."""
_C_ORDER, _F_ORDER, _LAYOUT = 0x1, 0x2, 0x103
"""Of an array's flags: contiguous in C's order, in Fortran's order; both of these and aligned."""
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_DIGEST_BYTES: Final = 32
_DOUBLE, _INTEGER = struct.Struct("=d"), struct.Struct("=q")
_lock = Lock()


class UnusableCode(Exception):  # noqa: N818 (no fault: the kernel is compiled instead)
    """A file is damaged, or its code needs something that this process lacks."""


class Held:
    """A tuple of arguments that stays as it is for many calls, and whose types are looked at once."""

    __slots__ = ("key", "slots", "values")

    def __init__(self, values: tuple[Any, ...]) -> None:
        """Looks at the types.

        Raises:
            TypeError: a value is neither an array, a number, nor a tuple of such.
        """
        self.values = values
        """The tuple, which keeps the arrays behind the slots alive."""
        self.key: list[Any] = []
        """As ``flatten`` gives them, like the slots."""
        self.slots: list[int] = []
        if not flatten((values,), self.key, self.slots):
            raise TypeError(f"{type(values).__name__} has values that kernels do not take")

    def __reduce__(self) -> tuple[type[Held], tuple[tuple[Any, ...]]]:
        """A copy looks at its own arrays: the slots hold addresses."""
        return Held, (self.values,)


def flatten(values: tuple[Any, ...], key: list[Any], slots: list[int]) -> bool:
    """Appends what the types of arguments are, and the slots of their values.

    Returns:
        False where an argument is neither an array, a number, nor a tuple of such.
    """
    for value in values:
        kind = type(value)
        if kind is np.ndarray:
            n, layout = value.ndim, value.flags.num & _LAYOUT
            if n > 1 and layout & _C_ORDER:  # one row or column is contiguous in both orders
                layout &= ~_F_ORDER
            key.append(value.dtype)
            key.append(n << 16 | layout)
            slots.append(id(value))
        elif kind is int:
            if not _SMALLEST <= value <= _LARGEST:
                return False
            key.append(int)
            slots.append(value)
        elif kind is bool:
            key.append(bool)
            slots.append(value)
        elif kind is Held:
            key += value.key
            slots += value.slots
        elif kind is float or kind is np.float64:
            key.append(kind)
            slots.append(_INTEGER.unpack(_DOUBLE.pack(value))[0])
        elif isinstance(value, tuple):
            key.append(kind)
            key.append(len(value))
            if not flatten(value, key, slots):
                return False
        elif isinstance(value, np.void) and value.dtype.fields is not None:
            key.append(np.void)
            key.append(value.dtype)
            slots.append(id(value))
        elif kind is np.uint64:
            key.append(kind)
            slots.append(int(value.view(np.int64)))
        elif isinstance(value, np.integer | np.bool_):
            key.append(kind)
            slots.append(int(value))
        else:
            return False
    return True


def name_of(key: tuple[Any, ...]) -> str:
    """A text that is the same in every process for the same types."""
    return "\n".join(map(_word, key))


def _word(part: Any) -> str:
    if isinstance(part, type):
        return f"{part.__module__}.{part.__qualname__}"
    return _described(part) if isinstance(part, np.dtype) else str(part)


@cache
def _described(dtype: np.dtype[Any]) -> str:
    fields = dtype.fields
    if fields is None:
        return f"{dtype.str}{'' if dtype.subdtype is None else dtype.shape}"
    inner = (
        f"{name}@{fields[name][1]}:{_described(fields[name][0])}" for name in dtype.names or ()
    )
    return f"({' '.join(inner)}){dtype.itemsize}"


def pack(about: dict[str, Any], code: bytes) -> bytes:
    """A file's content."""
    body = json.dumps(about).encode() + b"\n" + code
    return hashlib.sha256(body).digest() + body


def load(data: bytes) -> Callable[[list[int]], Any]:
    """A function that takes slots and returns what the kernel returns.

    Raises:
        UnusableCode: see there.
    """
    body = data[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != data[:_DIGEST_BYTES]:
        raise UnusableCode("damaged")
    line, _, code = body.partition(b"\n")
    about = json.loads(line)
    with _lock:
        address = _address(about, code)
    entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p)(address)
    build, n_results = _builder(about["returns"], 1)
    pack_slots = struct.Struct(f"={about['slots']}q").pack
    made = ctypes.c_int64 * n_results

    def call(slots: list[int]) -> Any:
        results = made()
        status = entry(pack_slots(*slots), results)
        if status:
            _fail(about["name"], results[0])
        return build(results)

    return call


def _address(about: dict[str, Any], code: bytes) -> int:
    from llvmlite import binding  # type: ignore[import-untyped]

    engine = _engine()
    missing = [name for name in about["needs"] if binding.address_of_symbol(name) is None]
    if missing:
        raise UnusableCode(f"this process lacks {missing[0]}")
    try:
        engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
    except RuntimeError as error:
        raise UnusableCode(str(error)) from error
    address: int = engine.get_function_address(about["symbol"])
    if not address:
        raise UnusableCode(f"no function {about['symbol']}")
    return address


@cache
def _engine() -> Any:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine()
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine)


def _builder(returns: Any, at: int) -> tuple[Callable[[Any], Any], int]:
    """A function that takes results and returns the value, and the first result behind it."""
    if returns is None:
        return lambda _: None, at
    if isinstance(returns, list):
        parts = []
        for each in returns:
            part, at = _builder(each, at)
            parts.append(part)
        return lambda results: tuple(part(results) for part in parts), at
    if returns == "bool":
        return lambda results: bool(results[at]), at + 1
    if returns == "float":
        return lambda results: _DOUBLE.unpack(_INTEGER.pack(results[at]))[0], at + 1
    if returns == "unsigned":
        return lambda results: results[at] & 0xFFFF_FFFF_FFFF_FFFF, at + 1
    return lambda results: results[at], at + 1


def _fail(name: str, address: int) -> None:
    """Raises what the kernel raised.

    Raises:
        RuntimeError: where that cannot be told.
        Exception: what the kernel raised.
    """
    error: Any = RuntimeError(f"the kernel {name} failed")
    if address:
        # Numba's description of an exception begins with the address and the size of a pickle of our own module
        where, size = struct.unpack("=qi", ctypes.string_at(address, 12))
        kind, arguments, *_ = pickle.loads(ctypes.string_at(where, size))
        if isinstance(kind, type) and issubclass(kind, Exception):
            error = kind(*(arguments or ()))
    raise error
