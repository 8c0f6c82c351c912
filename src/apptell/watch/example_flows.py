"""Copies the first packets of some flows from captures into one small capture of raw IP packets.

Form: the classic pcap with times in ns, LINKTYPE_RAW (https://www.tcpdump.org/linktypes.html).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.capture import open_capture
from apptell.packets import Decoder, Status
from apptell.packets.packet_keys import flow_rows, is_among, packet_keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apptell.packets import HeaderBatch

PACKETS: Final = 40
"""Packets of a flow that are copied at most."""
_LINKTYPE_RAW: Final = 101
_HEADER: Final = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, _LINKTYPE_RAW)


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
    listed = [(number, flow) for number, flows in wanted.items() for flow in flows]
    keys = packet_keys(flow_rows([(*flow.ends, flow.protocol) for _, flow in listed]))
    by_key: dict[bytes, list[tuple[int, ExampleFlow]]] = {}
    for key, one in zip(keys.tolist(), listed, strict=True):
        by_key.setdefault(key, []).append(one)
    known = np.sort(keys)
    found: dict[int, list[bytes]] = {number: [] for number in wanted}
    copied: dict[int, int] = {}
    decode = Decoder()
    with open_capture(list(sources)) as reader:
        for packets in reader:
            headers = decode(packets)
            keys = packet_keys(headers.rows)
            chosen = (headers.rows["status"] == Status.OK) & is_among(keys, known)
            for row in np.flatnonzero(chosen).tolist():
                for number, flow in by_key[keys[row]]:
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
