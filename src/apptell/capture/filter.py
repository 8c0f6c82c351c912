"""Compiles a capture filter in tcpdump's language to a classic BPF program with libpcap.

Language: pcap-filter(7). Program: Linux, Documentation/networking/filter.rst.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import struct
from typing import Any, Final

from apptell.errors import MissingError, UsageError

INSTRUCTION: Final = struct.Struct("=HBBI")
"""struct sock_filter: operation, jumps if true and if false, constant."""
_RETURN: Final = 6
_LIBRARIES: Final = ("libpcap.so.1", "libpcap.so.0.8", "libpcap.so")
_DLT: Final = {101: 12}
"""DLT_ of a LINKTYPE_ where they differ: RAW."""
_NO_MASK: Final = 0xFFFFFFFF


class _Program(ctypes.Structure):
    """struct bpf_program."""

    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


def take(n: int) -> bytes:
    """The program that takes ``n`` bytes of every packet; with 0 it takes none."""
    return INSTRUCTION.pack(_RETURN, 0, 0, n)


def compile_filter(expression: str, link_type: int, snap: int) -> bytes:
    """The program that takes ``snap`` bytes of the packets a filter lets through.

    Raises:
        MissingError: libpcap is not there to compile the filter.
        UsageError: the filter does not compile.
    """
    try:
        text = expression.encode()
    except UnicodeEncodeError:
        text = b"\0"
    if b"\0" in text:  # libpcap would take what stands before it
        raise UsageError(f"filter {expression!r}: is not text")
    library = _library()
    handle = library.pcap_open_dead(_DLT.get(link_type, link_type), snap)
    if not handle:
        raise MemoryError
    try:
        program = _Program()
        if library.pcap_compile(handle, ctypes.byref(program), text, 1, _NO_MASK):
            reason = (library.pcap_geterr(handle) or b"it does not compile").decode(
                errors="replace"
            )
            raise UsageError(f"filter {expression!r}: {reason}")
        try:
            return ctypes.string_at(program.instructions, program.length * INSTRUCTION.size)
        finally:
            library.pcap_freecode(ctypes.byref(program))
    finally:
        library.pcap_close(handle)


def _library() -> Any:
    """The library with its functions declared.

    Raises:
        MissingError: it is not installed.
    """
    for name in (*_LIBRARIES, ctypes.util.find_library("pcap")):
        if name is None:
            continue
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        pointer, number = ctypes.c_void_p, ctypes.c_int
        library.pcap_open_dead.argtypes = [number, number]
        library.pcap_open_dead.restype = pointer
        library.pcap_compile.argtypes = [pointer, pointer, ctypes.c_char_p, number, ctypes.c_uint32]
        library.pcap_geterr.argtypes = [pointer]
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_freecode.argtypes = [pointer]
        library.pcap_freecode.restype = None
        library.pcap_close.argtypes = [pointer]
        library.pcap_close.restype = None
        return library
    raise MissingError("a capture filter is compiled by libpcap: sudo apt install libpcap0.8")
