"""Distributes the packets of an interface to several packet sockets with Linux' PACKET_FANOUT.

Each packet goes to one socket, which is chosen only by the outermost pair of addresses. Both directions of a
flow, all fragments of its packets, and everything that a tunnel carries therefore reach the same flow table.
The kernel's own hash also uses ports, and would separate fragments from whole packets and the two directions
of VXLAN, Geneve and GTP-U. The disadvantage is that the packets of one pair of hosts are never distributed.
(packet(7); linux/filter.h)
"""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Final

from apptell.capture.filter import INSTRUCTION

if TYPE_CHECKING:
    import socket

# linux/if_packet.h
_SOL_PACKET, _FANOUT, _FANOUT_DATA = 263, 18, 22
_CBPF, _UNIQUE_ID = 6, 0x2000

# linux/bpf_common.h
_LD_W, _JEQ, _ADD_X, _MUL_K, _RSH_K, _TAX, _RET_A, _RET_K = (
    0x20,
    0x15,
    0x0C,
    0x24,
    0x74,
    0x07,
    0x16,
    0x06,
)
_AT_PROTOCOL: Final = 0xFFFFF000  # SKF_AD_OFF + SKF_AD_PROTOCOL
_AT_NETWORK: Final = 0xFFF00000  # SKF_NET_OFF: from the IP header on, whatever is before it
_IPV4, _IPV6 = 0x0800, 0x86DD
_GOLDEN: Final = 0x9E3779B1
"""2^32 over the golden ratio, Knuth's multiplier."""


def _program() -> bytes:
    """Spread sum of both addresses, in words of 4 bytes: the same in both directions; 0 for what is not IP."""
    four = _words(12, 2)
    six = _words(8, 8)
    spread = [
        (_MUL_K, 0, 0, _GOLDEN),
        (
            _RSH_K,
            0,
            0,
            16,
        ),  # the upper bits depend on all lower ones; the kernel takes the remainder
        (_RET_A, 0, 0, 0),
    ]
    rows = [
        (_LD_W, 0, 0, _AT_PROTOCOL),
        (_JEQ, 0, len(four) + len(spread), _IPV4),
        *four,
        *spread,
        (_JEQ, 0, len(six) + len(spread), _IPV6),
        *six,
        *spread,
        (_RET_K, 0, 0, 0),
    ]
    return b"".join(INSTRUCTION.pack(*row) for row in rows)


def _words(first: int, n: int) -> list[tuple[int, int, int, int]]:
    """Sum of ``n`` words of the IP header from byte ``first`` on, left in the accumulator."""
    rows = [(_LD_W, 0, 0, _AT_NETWORK + first)]
    for word in range(1, n):
        rows += [
            (_TAX, 0, 0, 0),
            (_LD_W, 0, 0, _AT_NETWORK + first + 4 * word),
            (_ADD_X, 0, 0, 0),
        ]
    return rows


PROGRAM: Final = _program()
"""Chooses a socket for a packet; the kernel takes what it returns modulo the number of sockets."""


class Fanout:
    """A group of packet sockets with a unique number, which the kernel assigns."""

    def __init__(self) -> None:
        self._number: int | None = None

    def join(self, live: socket.socket) -> None:
        """Adds a socket that is bound to the same interface as the others.

        Raises:
            OSError: the kernel refuses.
        """
        if self._number is not None:
            live.setsockopt(_SOL_PACKET, _FANOUT, struct.pack("=HH", self._number, _CBPF))
            return
        live.setsockopt(_SOL_PACKET, _FANOUT, struct.pack("=HH", 0, _CBPF | _UNIQUE_ID))
        (told,) = struct.unpack("=I", live.getsockopt(_SOL_PACKET, _FANOUT, 4))
        self._number = told & 0xFFFF
        held = ctypes.create_string_buffer(PROGRAM, len(PROGRAM))
        program = struct.pack("@HP", len(PROGRAM) // INSTRUCTION.size, ctypes.addressof(held))
        live.setsockopt(_SOL_PACKET, _FANOUT_DATA, program)
