"""Copies the first packets of some flows from captures into one small capture of raw IP packets.

Form: the classic pcap with times in ns, LINKTYPE_RAW (https://www.tcpdump.org/linktypes.html).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.capture import open_capture
from apptell.packets import Decoder, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from apptell.packets import HeaderBatch

PACKETS: Final = 40
"""Packets of a flow that are copied at most."""
_LINKTYPE_RAW: Final = 101
_HEADER: Final = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, _LINKTYPE_RAW)
_PRIMES: Final = np.array(
    [0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64
)
_ONE: Final = (1 << 64) - 1


@dataclass(slots=True)
class ExampleFlow:
    """A flow whose packets are wanted."""

    capture: str
    protocol: int
    ends: tuple[tuple[str, int], tuple[str, int]]
    """Address and port of client and server."""
    start_ns: int


def example_captures(
    sources: Sequence[str], wanted: Mapping[int, Sequence[ExampleFlow]]
) -> dict[int, bytes]:
    """The packets of flows, as the content of a capture for each key of ``wanted``.

    Args:
        sources: where the flows are from.
        wanted: flows by the number of the capture that they become part of.

    Raises:
        CaptureError: a source cannot be read, or is damaged.
    """
    by_hash: dict[int, list[tuple[int, ExampleFlow]]] = {}
    for number, flows in wanted.items():
        for flow in flows:
            by_hash.setdefault(_hash_of(flow), []).append((number, flow))
    hashes = np.array(sorted(by_hash), dtype=np.uint64)
    found: dict[int, list[bytes]] = {number: [] for number in wanted}
    copied: dict[int, int] = {}
    decode = Decoder()
    with open_capture(list(sources)) as reader:
        for packets in reader:
            headers = decode(packets)
            keys = _hashes(headers)
            chosen = (headers.rows["status"] == Status.OK) & np.isin(keys, hashes)
            for row in np.flatnonzero(chosen).tolist():
                for number, flow in by_hash[int(keys[row])]:
                    at = id(flow)
                    time_ns = int(headers.rows["time_ns"][row])
                    is_its = flow.capture == reader.current_name and time_ns >= flow.start_ns
                    if is_its and copied.get(at, 0) < PACKETS:
                        copied[at] = copied.get(at, 0) + 1
                        found[number].append(_record(headers, row, time_ns))
    return {number: _HEADER + b"".join(parts) for number, parts in found.items()}


def _record(headers: HeaderBatch, row: int, time_ns: int) -> bytes:
    one = headers.rows[row]
    first = int(one["ip_at"])
    end = max(int(one["payload_at"]) + int(one["payload_captured"]), first)
    data = headers.buffer[first:end].tobytes()
    seconds, rest = divmod(max(time_ns, 0), 1_000_000_000)
    wire = max(int(one["ip_bytes"]), len(data))
    return struct.pack("<IIII", seconds & 0xFFFFFFFF, rest, len(data), wire) + data


def _mix(high: Any, low: Any, port: Any) -> Any:
    a, b, c = _PRIMES
    mixed = (high * a) ^ (low * b) ^ (port * c)
    return mixed ^ (mixed >> np.uint64(29))


def _hashes(headers: HeaderBatch) -> NDArray[np.uint64]:
    """A number of each packet's 5-tuple that is the same in both directions."""
    rows = headers.rows
    ends = (
        _mix(rows[f"{side}_high"], rows[f"{side}_low"], rows[f"{side}_port"].astype(np.uint64))
        for side in ("source", "target")
    )
    one, other = ends
    return np.asarray(one + other + rows["protocol"].astype(np.uint64), dtype=np.uint64)


def _hash_of(flow: ExampleFlow) -> int:
    total = np.uint64(flow.protocol)
    parts = []
    for address, port in flow.ends:
        value = int(ipaddress.ip_address(address))
        words = np.array([value >> 64, value & _ONE, port], dtype=np.uint64)
        parts.append(_mix(words[0:1], words[1:2], words[2:3]))
    return int((parts[0] + parts[1] + total)[0])
