"""Makes a file of machine code (``machine_code``) from what Numba compiled for one kernel.

A function is added that reads the arguments from slots and calls the kernel; everything else of the compiled
module becomes private and is dropped unless it is called. A kernel that makes arrays for itself gets a small
allocator instead of Numba's. What needs more of Numba's runtime, takes anything but arrays, records, numbers
and tuples of them, or returns anything but numbers and tuples of them, is not exported: Numba's own cache
serves it.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any, Final

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from llvmlite import ir
from numba import types

from apptell.kernels.code_files import processor
from apptell.kernels.machine_code import (
    DATA_AT,
    IS_POSSIBLE,
    RECORD_AT,
    SHAPE_AT,
    STRIDES_AT,
    pack,
)

_I64: Final = ir.IntType(64)
_I32: Final = ir.IntType(32)
_POINTER: Final = _I64.as_pointer()
_BYTES: Final = ir.IntType(8).as_pointer()
_MEMORY_HEADER: Final = 48
"""Before an array's data: Numba's count of references, destructor and its argument, data, size, allocator."""


class _NotSuitedError(Exception):
    """A type of an argument or a result has no form in slots."""


def export(result: Any, name: str) -> bytes | None:
    """The content of a file.

    Args:
        result: what Numba compiled in this process.
        name: of the entry function.

    Returns:
        None where the kernel does not suit.
    """
    codegen = result.target_context.codegen()
    compiled = getattr(result.library, "_final_module", None)
    if not IS_POSSIBLE or compiled is None or result.reload_init:
        return None
    _, cpu, features = codegen.magic_tuple()
    if (f"{cpu} {features}" if features else cpu) != processor():
        return None
    try:
        entry = _Entry(result, name)
    except _NotSuitedError:
        return None
    module = compiled.clone()
    _add_allocator(entry.module)
    module.link_in(llvm.parse_assembly(str(entry.module)))
    for each in (*module.functions, *module.global_variables):
        if not each.is_declaration and each.name != name:
            each.linkage = "internal"
    machine = codegen._tm  # noqa: SLF001
    _drop_unused(module, machine)
    code = machine.emit_object(module)
    needs = _undefined(code)
    if not all(hasattr(ctypes.CDLL(None), each) for each in needs):
        return None
    about = {
        "name": result.fndesc.qualname,
        "symbol": name,
        "slots": entry.n_slots,
        "returns": entry.returns,
        "needs": needs,
    }
    return pack(about, code)


def _drop_unused(module: Any, machine: Any) -> None:
    if not hasattr(llvm, "create_new_module_pass_manager"):  # llvmlite before 0.44
        old_passes = llvm.create_module_pass_manager()
        old_passes.add_global_dce_pass()
        old_passes.run(module)
        return
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    passes.run(module, builder)


class _Entry:
    """The entry function of one kernel."""

    def __init__(self, result: Any, name: str) -> None:
        """Builds it.

        Raises:
            _NotSuitedError: a type of an argument or of the result has no form in slots.
        """
        self._context, described = result.target_context, result.fndesc
        self.module = self._context.codegen()._create_empty_module(name)  # noqa: SLF001
        self._kind = self._context.call_conv.get_function_type(
            described.restype, described.argtypes
        )
        native = ir.Function(self.module, self._kind, described.llvm_func_name)
        entry = ir.Function(self.module, ir.FunctionType(_I32, [_POINTER, _POINTER]), name)
        self._build = build = ir.IRBuilder(entry.append_basic_block())
        self._slots, self._results = entry.args
        returned = build.alloca(self._kind.args[0].pointee)
        raised = build.alloca(self._kind.args[1].pointee)
        build.store(ir.Constant(raised.type.pointee, None), raised)
        self._values: list[Any] = [returned, raised]
        self.n_slots = 0
        self._n_results = 0
        for argument in described.argtypes:
            self._take(argument)
        if len(self._values) != len(self._kind.args):
            raise _NotSuitedError
        status = build.call(native, self._values)
        self._store(build.ptrtoint(build.load(raised), _I64))
        self.returns: Any = None
        if not isinstance(described.restype, types.NoneType):
            self.returns = self._give(build.load(returned), described.restype)
        nothing = build.icmp_signed("==", status, ir.Constant(_I32, -2))  # Numba's code for None
        build.ret(build.select(nothing, ir.Constant(_I32, 0), status))

    def _take(self, argument: Any) -> None:
        """Reads an argument from the next slots."""
        if isinstance(argument, types.BaseTuple):
            for each in argument.types:  # type: ignore[attr-defined]
                self._take(each)
            return
        slot = self._build.load(self._build.gep(self._slots, [ir.Constant(_I64, self.n_slots)]))
        self.n_slots += 1
        if isinstance(argument, types.Array):
            self._add_array(argument, slot)
        elif isinstance(argument, types.Record):
            self._add(self._word(slot, RECORD_AT))
        elif isinstance(argument, types.Integer | types.Boolean | types.Float):
            self._add(slot)
        else:
            raise _NotSuitedError

    def _add(self, value: Any) -> None:
        """Appends a 64-bit value as the type that the kernel takes."""
        wanted = self._kind.args[len(self._values)]
        if isinstance(wanted, ir.PointerType):
            value = self._build.inttoptr(value, wanted)
        elif isinstance(wanted, ir.IntType):
            value = value if wanted.width == 64 else self._build.trunc(value, wanted)
        elif isinstance(wanted, ir.DoubleType):
            value = self._build.bitcast(value, wanted)
        else:
            raise _NotSuitedError
        self._values.append(value)

    def _add_array(self, array: Any, address: Any) -> None:
        """Appends the parts of an array, which are in NumPy's array object at this address."""
        shape_at, strides_at = self._word(address, SHAPE_AT), self._word(address, STRIDES_AT)
        shape = [self._word(shape_at, 8 * axis) for axis in range(array.ndim)]
        strides = [self._word(strides_at, 8 * axis) for axis in range(array.ndim)]
        n_items = ir.Constant(_I64, 1)
        for length in shape:
            n_items = self._build.mul(n_items, length)
        nothing = ir.Constant(_I64, 0)
        item = self._context.get_abi_sizeof(self._context.get_data_type(array.dtype))
        data = self._word(address, DATA_AT)
        for value in (nothing, nothing, n_items, ir.Constant(_I64, item), data, *shape, *strides):
            self._add(value)

    def _word(self, address: Any, at: int) -> Any:
        """The 64 bits at so many bytes behind an address."""
        place = self._build.add(address, ir.Constant(_I64, at))
        return self._build.load(self._build.inttoptr(place, _POINTER))

    def _give(self, value: Any, what: Any) -> Any:
        """Stores a value in the next results; returns its form there."""
        if isinstance(what, types.Tuple | types.UniTuple):
            parts = enumerate(what)
            return [self._give(self._build.extract_value(value, i), each) for i, each in parts]
        whole: Any = what
        if isinstance(what, types.Boolean):
            form, value = "bool", self._build.zext(value, _I64)
        elif isinstance(what, types.Integer):
            form = "signed" if whole.signed else "unsigned"
            if value.type.width < 64:
                value = (self._build.sext if whole.signed else self._build.zext)(value, _I64)
        elif isinstance(what, types.Float) and what.bitwidth == 64:
            form, value = "float", self._build.bitcast(value, _I64)
        else:
            raise _NotSuitedError
        self._store(value)
        return form

    def _store(self, value: Any) -> None:
        self._build.store(
            value, self._build.gep(self._results, [ir.Constant(_I64, self._n_results)])
        )
        self._n_results += 1


def _add_allocator(module: Any) -> None:
    """Adds what makes and frees the memory of arrays that live no longer than a call."""
    malloc = ir.Function(module, ir.FunctionType(_BYTES, [_I64]), "malloc")
    free = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTES]), "free")
    kind = ir.FunctionType(_BYTES, [_I64, _I32])
    make = ir.Function(module, kind, "NRT_MemInfo_alloc_aligned")
    size, alignment = make.args
    build = ir.IRBuilder(make.append_basic_block())
    wide = build.zext(alignment, _I64)
    header = ir.Constant(_I64, _MEMORY_HEADER)
    made = build.call(malloc, [build.add(build.add(size, wide), header)])
    is_full = build.icmp_unsigned("==", build.ptrtoint(made, _I64), ir.Constant(_I64, 0))
    with build.if_then(is_full):
        build.ret(made)
    first = build.add(build.ptrtoint(made, _I64), build.add(header, wide))
    data = build.sub(first, build.urem(first, wide))
    fields = build.bitcast(made, _POINTER)
    nothing = ir.Constant(_I64, 0)
    for i, value in enumerate((ir.Constant(_I64, 1), nothing, nothing, data, size, nothing)):
        build.store(value, build.gep(fields, [ir.Constant(_I64, i)]))
    build.ret(made)
    drop = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTES]), "NRT_MemInfo_call_dtor")
    build = ir.IRBuilder(drop.append_basic_block())
    build.call(free, [drop.args[0]])
    build.ret_void()


def _undefined(code: bytes) -> list[str]:
    """Names that an ELF object expects others to define (System V ABI, chapter 4: sections and symbols)."""
    (sections_at,) = struct.unpack_from("<Q", code, 40)
    size, number = struct.unpack_from("<HH", code, 58)
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", code, sections_at + i * size) for i in range(number)
    ]
    names = []
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        text_at = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], section[9]):
            name_at, _, _, index = struct.unpack_from("<IBBH", code, at)
            if index == 0 and name_at:  # SHN_UNDEF
                end = code.index(b"\0", text_at + name_at)
                names.append(code[text_at + name_at : end].decode())
    return sorted(names)
