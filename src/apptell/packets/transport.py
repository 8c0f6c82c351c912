"""Opens TCP and UDP headers: ports, flags and the place of the payload. Sources: RFC 9293, 768."""

from __future__ import annotations

import numpy as np

from apptell.kernels.compiled import inlined
from apptell.packets.byte_fields import be16, be32
from apptell.packets.headers import Status

_OK, _CUT = int(Status.OK), int(Status.CUT_IN_HEADERS)
_BAD_TRANSPORT = int(Status.BAD_TRANSPORT)


@inlined
def open_tcp(buffer, at, end, wire_end, out):
    """Opens a TCP header; returns the packet's Status."""
    if wire_end - at < 20:
        return _BAD_TRANSPORT
    if at + 20 > end:
        return _CUT
    header = (np.int64(buffer[at + 12]) >> 4) * 4
    if header < 20 or at + header > wire_end:
        return _BAD_TRANSPORT
    out.source_port = be16(buffer, at)
    out.target_port = be16(buffer, at + 2)
    out.sequence = be32(buffer, at + 4)
    out.acknowledgement = be32(buffer, at + 8)
    out.flags = buffer[at + 13]
    out.checksum = be16(buffer, at + 16)
    out.payload_at = at + header
    out.payload = wire_end - (at + header)
    out.payload_captured = max(end - (at + header), 0)
    return _OK


@inlined
def open_udp(buffer, at, end, wire_end, out):
    """Opens a UDP header: (Status, where the payload begins, wire end)."""
    if wire_end - at < 8:
        return _BAD_TRANSPORT, at, wire_end
    if at + 8 > end:
        return _CUT, at, wire_end
    length = be16(buffer, at + 4)
    if length != 0 and length < 8:
        return _BAD_TRANSPORT, at, wire_end
    out.source_port = be16(buffer, at)
    out.target_port = be16(buffer, at + 2)
    out.checksum = be16(buffer, at + 6)
    if length != 0:  # 0: a jumbogram or offload
        wire_end = min(wire_end, at + length)
    at += 8
    out.payload_at = at
    out.payload = wire_end - at
    out.payload_captured = max(min(end, wire_end) - at, 0)
    return _OK, at, wire_end
