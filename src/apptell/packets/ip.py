"""Opens IPv4 and IPv6 headers: addresses, lengths, fragments and the next protocol.

Sources: RFC 791, 8200, 4302 (authentication header), 6275, 7401 and 5533 (extension headers 135, 139 and 140).
"""

from __future__ import annotations

import numpy as np

from apptell.kernels.compiled import inlined
from apptell.packets.byte_fields import be16, be32, be64
from apptell.packets.headers import Status

_OK, _CUT = int(Status.OK), int(Status.CUT_IN_HEADERS)
_BAD_IP, _FRAGMENT = int(Status.BAD_IP), int(Status.FRAGMENT)
_AUTHENTICATION, _FRAGMENT_HEADER = 51, 44


@inlined
def open_ip(buffer, at, end, wire_end, out):
    """Opens an IP header and those behind it: (Status, protocol, where that begins, wire end).

    ``out`` gets the columns of the innermost IP header. The status is ``FRAGMENT`` for a later fragment,
    whose bytes belong to no header; ``out.is_fragment`` is also set for first ones.
    """
    if at + 20 > end:
        return _CUT, np.int64(0), at, wire_end
    version = np.int64(buffer[at]) >> 4
    ip_at = at
    if version == 4:
        status, protocol, at, wire_end = _open_ipv4(buffer, at, wire_end, out)
    elif version == 6 and at + 40 <= end:
        status, protocol, at, wire_end = _open_ipv6(buffer, at, wire_end, out)
    else:
        return _CUT if version == 6 else _BAD_IP, np.int64(0), at, wire_end
    if status == _BAD_IP:
        return status, protocol, at, wire_end
    end = min(end, wire_end)
    out.ip_version = version
    out.ip_at = ip_at
    out.ip_bytes = wire_end - ip_at
    if status == _OK:
        status, protocol, at = _skip_extensions(buffer, at, end, version, protocol, out)
    out.protocol = protocol
    return status, protocol, at, wire_end


@inlined
def _open_ipv4(buffer, at, wire_end, out):
    """A header of at least 20 captured bytes: (Status, protocol, where that begins, wire end)."""
    header = (np.int64(buffer[at]) & 15) * 4
    total = be16(buffer, at + 2)
    if header < 20 or (total != 0 and total < header):
        return _BAD_IP, np.int64(0), at, wire_end
    if total != 0:  # 0: the network card was to cut the segment (offload)
        wire_end = min(wire_end, at + total)
    fragment = be16(buffer, at + 6)
    out.is_fragment = 1 if fragment & 0x3FFF else 0
    out.ttl = buffer[at + 8]
    out.source_high = 0
    out.source_low = np.uint64(be32(buffer, at + 12))
    out.target_high = 0
    out.target_low = np.uint64(be32(buffer, at + 16))
    status = _FRAGMENT if fragment & 0x1FFF else _OK
    return status, np.int64(buffer[at + 9]), at + header, wire_end


@inlined
def _open_ipv6(buffer, at, wire_end, out):
    """A header of 40 captured bytes: (Status, protocol, where that begins, wire end)."""
    total = be16(buffer, at + 4)
    if total != 0:  # 0: a jumbogram or offload
        wire_end = min(wire_end, at + 40 + total)
    out.is_fragment = 0
    out.ttl = buffer[at + 7]
    out.source_high = be64(buffer, at + 8)
    out.source_low = be64(buffer, at + 16)
    out.target_high = be64(buffer, at + 24)
    out.target_low = be64(buffer, at + 32)
    return _OK, np.int64(buffer[at + 6]), at + 40, wire_end


@inlined
def _skip_extensions(buffer, at, end, version, protocol, out):
    """Extension headers of IPv6 and the authentication header of both: (Status, protocol, its place)."""
    while True:
        if protocol == _AUTHENTICATION:
            if at + 2 > end:
                return _CUT, protocol, at
            protocol, at = np.int64(buffer[at]), at + (np.int64(buffer[at + 1]) + 2) * 4
        elif version == 6 and protocol == _FRAGMENT_HEADER:
            if at + 8 > end:
                return _CUT, protocol, at
            fragment = be16(buffer, at + 2)
            out.is_fragment = 1 if fragment & 0xFFF9 else 0
            protocol = np.int64(buffer[at])
            at += 8
            if fragment & 0xFFF8:
                return _FRAGMENT, protocol, at
        elif version == 6 and (
            protocol == 0
            or protocol == 43
            or protocol == 60
            or protocol == 135
            or protocol == 139
            or protocol == 140
        ):
            if at + 2 > end:
                return _CUT, protocol, at
            protocol, at = np.int64(buffer[at]), at + (np.int64(buffer[at + 1]) + 1) * 8
        else:
            return _OK, protocol, at
