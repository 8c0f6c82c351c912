"""Captures packets of an interface from a ring that the Linux kernel fills.

AF_PACKET with TPACKET_V3 (Linux, Documentation/networking/packet_mmap.rst and linux/if_packet.h): the
kernel writes frames into blocks of a shared ring and hands over a block when it is full or a few milliseconds
old. A batch consists of columns over the ring itself, for all available blocks: no frame is copied, there is
no system call per packet, and the blocks are returned to the kernel when the next batch is requested.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import socket
import struct
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from apptell.capture.batch import DIRECTION_INBOUND, DIRECTION_OUTBOUND
from apptell.capture.columns import CAPTURED_BYTES, CUT_PACKETS, WIRE_BYTES, Columns
from apptell.capture.fanout import Fanout
from apptell.capture.file_capability import use_permitted_capture
from apptell.capture.filter import INSTRUCTION, compile_filter, take
from apptell.capture.link_types import link_type_name
from apptell.capture.stats import CaptureStats
from apptell.errors import CaptureError, MissingError, UsageError
from apptell.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.capture.batch import PacketBatch

SNAP_BYTES: Final = 2048
"""Default number of bytes captured of each packet: headers and the 1,500 payload bytes a flow keeps."""
BLOCK_BYTES: Final = 1 << 17
"""Room for a frame of any length."""
N_BLOCKS: Final = 512
"""64 MiB, or 2 s without a reader: a block is handed over after ``RETIRE_MS`` however little it holds."""
RETIRE_MS: Final = 4
"""Age at which the kernel hands over a block that is not full."""
BATCH_BLOCKS: Final = 16
"""Most blocks read at once."""
ANY: Final = "any"
"""The name that stands for all interfaces."""

# linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h
_SOL_PACKET, _ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION = 263, 1, 5, 6, 10
_TPACKET_V3, _MR_PROMISC = 2, 1
_ETH_P_ALL, _SO_ATTACH_FILTER, _SIOCGIFHWADDR = 3, 26, 0x8927
_STATUS_USER: Final = 1
_BLOCK_HEAD: Final = 48  # struct tpacket_block_desc
_PACKET_HEAD: Final = 48  # struct tpacket3_hdr
_ADDRESS: Final = 20  # struct sockaddr_ll behind it
_OUTGOING: Final = 4  # sll_pkttype
_LOOPBACK: Final = 772  # ARPHRD_LOOPBACK
_LINK_OF_HARDWARE: Final = {1: 1, _LOOPBACK: 1, 801: 105, 803: 127, 519: 101, 65534: 101}
"""ARPHRD_ of an interface to LINKTYPE_; others are captured from their IP headers on, as RAW."""
_RAW: Final = 101


@kernel
def read_block(
    ring: NDArray[np.uint8],
    ring16: NDArray[np.uint16],
    ring32: NDArray[np.uint32],
    start: int,
    size: int,
    ip_only: bool,
    offset: NDArray[np.int64],
    captured: NDArray[np.int32],
    wire: NDArray[np.int32],
    time_ns: NDArray[np.int64],
    direction: NDArray[np.uint8],
    totals: NDArray[np.int64],
) -> int:
    """Columns of the packets in one block of the ring; returns how many there are.

    Args:
        ring: the whole ring, shape (bytes,).
        ring16: the same bytes as 16-bit words.
        ring32: the same bytes as 32-bit words.
        start: first byte of the block, a multiple of 4.
        size: bytes of the block.
        ip_only: whether packets other than IP are left out, because without a link header they cannot be
            recognised.
        offset: first byte of each frame, filled; shape (capacity,), as the next four.
        captured: bytes of each frame in the ring, filled.
        wire: bytes of each frame on the wire, filled.
        time_ns: time of each frame, ns since 1970 UTC, filled.
        direction: 1 inbound, 2 outbound, filled.
        totals: sums as in ``Columns.totals``.
    """
    n = 0
    end = start + size
    if start < 0 or end > len(ring) or size < _BLOCK_HEAD:
        return 0
    at = start + np.int64(ring32[(start + 16) // 4])
    for _ in range(np.int64(ring32[(start + 12) // 4])):
        if at < start + _BLOCK_HEAD or at & 3 or at + _PACKET_HEAD + _ADDRESS > end:
            break
        if n == len(offset):
            break
        word = at // 4
        step = np.int64(ring32[word])
        stored, length = np.int64(ring32[word + 3]), np.int64(ring32[word + 4])
        begin = at + np.int64(ring16[(at + 24) // 2])
        address = at + _PACKET_HEAD
        protocol = (np.int64(ring[address + 2]) << 8) | np.int64(ring[address + 3])
        hardware = np.int64(ring16[(address + 8) // 2])
        outgoing = ring[address + 10] == _OUTGOING
        if begin + stored > end:
            break
        # the loopback interface shows every packet as it goes out and again as it comes in
        wanted = not (outgoing and hardware == _LOOPBACK)
        if ip_only and protocol != 0x0800 and protocol != 0x86DD:
            wanted = False
        if wanted:
            offset[n] = begin
            captured[n] = stored
            wire[n] = length
            time_ns[n] = np.int64(ring32[word + 1]) * 1_000_000_000 + np.int64(ring32[word + 2])
            direction[n] = DIRECTION_OUTBOUND if outgoing else DIRECTION_INBOUND
            totals[CAPTURED_BYTES] += stored
            totals[WIRE_BYTES] += length
            if stored < length:
                totals[CUT_PACKETS] += 1
            n += 1
        if step == 0:
            break
        at += step
    return n


class LiveCapture:
    """Packets of an interface as they pass; a context manager.

    Args:
        interface: its name, or ``any``.
        snap: bytes captured of each packet, 64 to 65535.
        expression: a capture filter in tcpdump's language; needs libpcap, which compiles it.
        promiscuous: also take frames that are not for this machine.
        fanout: captures with the same one share the packets, each flow going to one of them; nothing
            arrives before ``start``. ``open_workers`` makes such captures.
        n_blocks: blocks of 128 KiB in the ring.

    Raises:
        MissingError: no permission, another system than Linux, or no libpcap to compile a filter with.
        CaptureError: no such interface, or the kernel refuses the ring.
        UsageError: the filter does not compile or a value cannot be.
    """

    def __init__(
        self,
        interface: str,
        *,
        snap: int = SNAP_BYTES,
        expression: str | None = None,
        promiscuous: bool = False,
        fanout: Fanout | None = None,
        n_blocks: int = N_BLOCKS,
    ) -> None:
        if not 64 <= snap <= 65_535:
            raise UsageError(f"a snap length of {snap} bytes is not 64 to 65535")
        self.name = interface
        self.stats = CaptureStats(names=[interface], formats={"live": 1}, interfaces=1)
        self._dropped = 0
        self._block = 0
        self._held = 0
        self._n_blocks = n_blocks
        self._link_type, cooked = _link_type(interface)
        self._ip_only = cooked
        self._program = (
            take(snap) if expression is None else compile_filter(expression, self._link_type, snap)
        )
        self._socket = _open_socket(interface, cooked=cooked)
        try:
            self._set_up(promiscuous=promiscuous)
            if fanout is None:
                self.start()
            else:
                fanout.join(self._socket)
        except OSError as error:
            self._socket.close()
            raise CaptureError(f"{interface}: {error.strerror or error}") from error
        # a packet takes at least its header, rounded up to 16 bytes, behind the block's
        self._columns = Columns(BLOCK_BYTES // 80 * min(BATCH_BLOCKS, n_blocks))
        self._columns.set_constants(self._link_type)

    def _set_up(self, *, promiscuous: bool) -> None:
        """Ring and binding, behind a filter that lets nothing through.

        Raises:
            OSError: the kernel refuses.
        """
        live = self._socket
        live.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
        frames = BLOCK_BYTES // 2048 * self._n_blocks
        sizes = (BLOCK_BYTES, self._n_blocks, 2048, frames, RETIRE_MS, 0, 0)
        request = struct.pack("=7I", *sizes)
        live.setsockopt(_SOL_PACKET, _RX_RING, request)
        _attach(live, take(0))
        space = mmap.mmap(live.fileno(), BLOCK_BYTES * self._n_blocks)
        self._ring: NDArray[np.uint8] = np.frombuffer(space, dtype=np.uint8)
        self._ring16, self._ring32 = self._ring.view(np.uint16), self._ring.view(np.uint32)
        index = 0 if self.name == ANY else socket.if_nametoindex(self.name)
        _bind(live, index)
        if promiscuous:
            member = struct.pack("=iHH8x", index, _MR_PROMISC, 0)
            live.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, member)
        self._poll = select.poll()
        self._poll.register(live.fileno(), select.POLLIN | select.POLLERR)

    def start(self) -> None:
        """Lets packets in; for captures that share an interface, once all of them are open.

        Raises:
            OSError: the kernel refuses.
        """
        _attach(self._socket, self._program)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    @property
    def dropped(self) -> int:
        """Packets that the kernel dropped since the beginning because the ring was full."""
        if self._socket.fileno() >= 0:
            # struct tpacket_stats_v3; reading it sets it to zero
            _, drops, _ = struct.unpack(
                "=3I", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12)
            )
            self._dropped += drops
        return self._dropped

    @property
    def is_behind(self) -> bool:
        """Whether the last batch has all the blocks that it can have, so that more may be waiting."""
        return self._held == min(BATCH_BLOCKS, self._n_blocks)

    def read(self, timeout_s: float) -> PacketBatch | None:
        """The next packets, or None when none came in time.

        The batch is valid until the next call: then its blocks go back to the kernel.

        Args:
            timeout_s: how long to wait for the first packet.

        Raises:
            CaptureError: the interface is gone. One that is only down is waited for.
        """
        for _ in range(self._held):
            self._ring32[(self._block * BLOCK_BYTES + 8) // 4] = 0
            self._block = (self._block + 1) % self._n_blocks
        self._held = 0
        if not self._is_filled(self._block):
            for _, event in self._poll.poll(timeout_s * 1000):
                if event & select.POLLERR:
                    self._look_at_error()
            if not self._is_filled(self._block):
                return None
        columns, n = self._columns, 0
        while self._held < min(BATCH_BLOCKS, self._n_blocks):
            block = (self._block + self._held) % self._n_blocks
            if not self._is_filled(block):
                break
            n += read_block(
                self._ring,
                self._ring16,
                self._ring32,
                block * BLOCK_BYTES,
                BLOCK_BYTES,
                self._ip_only,
                columns.offset[n:],
                columns.captured[n:],
                columns.wire[n:],
                columns.time_ns[n:],
                columns.direction[n:],
                columns.totals,
            )
            self._held += 1
        self._count(n)
        return columns.batch(self._ring, n, [])

    def _is_filled(self, block: int) -> bool:
        """Whether the kernel has handed a block over."""
        return bool(self._ring32[(block * BLOCK_BYTES + 8) // 4] & _STATUS_USER)

    def _count(self, n: int) -> None:
        stats, columns = self.stats, self._columns
        stats.packets += n
        stats.captured_bytes = int(columns.totals[CAPTURED_BYTES])
        stats.wire_bytes = int(columns.totals[WIRE_BYTES])
        stats.cut_packets = int(columns.totals[CUT_PACKETS])
        stats.link_types = {link_type_name(self._link_type): stats.packets}
        if n:
            stats.first_ns = stats.first_ns or int(columns.time_ns[0])
            stats.last_ns = int(columns.time_ns[n - 1])

    def _look_at_error(self) -> None:
        """Reads the socket's error: an interface that is down can recover, a removed one cannot.

        Raises:
            CaptureError: the interface is gone, or another error.
        """
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error not in (0, errno.ENETDOWN):
            raise CaptureError(f"{self.name}: {os.strerror(error)}")
        if self.name != ANY and self.name not in _interfaces():
            raise CaptureError(f"{self.name}: the interface is gone")

    def close(self) -> None:
        """Gives the ring back. May be called again."""
        self._socket.close()


def open_workers(
    interface: str,
    n: int,
    *,
    snap: int = SNAP_BYTES,
    expression: str | None = None,
    promiscuous: bool = False,
    n_blocks: int = N_BLOCKS,
) -> list[LiveCapture]:
    """Captures that share the packets of an interface, both directions of a flow going to the same one.

    Args:
        interface: its name, or ``any``.
        n: how many.
        snap: as in ``LiveCapture``, as the others.
        expression: a capture filter.
        promiscuous: also take frames that are not for this machine.
        n_blocks: blocks of 128 KiB in each ring.

    Raises:
        MissingError: as in ``LiveCapture``.
        CaptureError: as in ``LiveCapture``.
        UsageError: as in ``LiveCapture``, or ``n`` is below 1.
    """
    if n < 1:
        raise UsageError(f"{n} workers are not 1 or more")
    fanout = Fanout() if n > 1 else None
    with ExitStack() as opened:
        captures = [
            opened.enter_context(
                LiveCapture(
                    interface,
                    snap=snap,
                    expression=expression,
                    promiscuous=promiscuous,
                    fanout=fanout,
                    n_blocks=n_blocks,
                )
            )
            for _ in range(n)
        ]
        for capture in captures:
            capture.start()
        opened.pop_all()
    return captures


def _attach(live: socket.socket, program: bytes) -> None:
    """Attaches a filter to a socket, replacing the current one.

    Raises:
        OSError: the kernel refuses.
    """
    held = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(program) // INSTRUCTION.size, ctypes.addressof(held))
    live.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


def _interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def _hardware(interface: str) -> int:
    """ARPHRD_ of an interface, asked of the kernel: /sys may show another network namespace.

    Raises:
        OSError: no such interface.
    """
    import fcntl  # not on every system: who asks for an interface there gets a message, no traceback

    request = struct.pack("=16s16x", os.fsencode(interface.replace("\0", "?"))[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, request)
    return int(struct.unpack_from("=H", answer, 16)[0])


def _link_type(interface: str) -> tuple[int, bool]:
    """LINKTYPE_ of an interface's frames, and whether they are taken from their IP headers on.

    Raises:
        MissingError: this is not Linux.
        CaptureError: no such interface.
    """
    if not hasattr(socket, "AF_PACKET"):
        raise MissingError(
            f"interfaces can be read only on Linux, and this is {sys.platform}: "
            f"tcpdump -i {interface} -w - | apptell live -"
        )
    if interface == ANY:
        return _RAW, True
    try:
        hardware = _hardware(interface)
    except OSError as error:
        there = ", ".join(_interfaces())
        raise CaptureError(f"{interface}: no such interface; available: {there}") from error
    link_type = _LINK_OF_HARDWARE.get(hardware)
    return (_RAW, True) if link_type is None else (link_type, False)


def _open_socket(interface: str, *, cooked: bool) -> socket.socket:
    kind = socket.SOCK_DGRAM if cooked else socket.SOCK_RAW
    use_permitted_capture()
    try:
        return socket.socket(socket.AF_PACKET, kind, 0)  # protocol 0: nothing arrives until bound
    except PermissionError as error:
        raise MissingError(
            f"{interface}: capturing needs the capability CAP_NET_RAW (docs/how-to/live.md), or "
            f"sudo tcpdump -i {interface} -w - | apptell live -"
        ) from error


def _bind(live: socket.socket, index: int) -> None:
    """Binds to an interface by its index; ``socket.bind`` takes no index, and 0 means all interfaces.

    Raises:
        OSError: the kernel refuses.
    """
    address = struct.pack("=HHi12x", socket.AF_PACKET, socket.htons(_ETH_P_ALL), index)
    library = ctypes.CDLL(None, use_errno=True)
    if library.bind(live.fileno(), address, len(address)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
