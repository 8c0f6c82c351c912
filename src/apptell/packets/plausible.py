"""Checks whether an IP packet or an Ethernet frame plausibly begins at a place.

For headers that do not name what follows them. The checks separate real headers from random bytes: known
numbers, and lengths that fit.
"""

from __future__ import annotations

import numpy as np

from apptell.kernels.compiled import subroutine
from apptell.packets.byte_fields import be16
from apptell.packets.layers.ethernet import tag_bytes

_MAX_TAGS = 4


@subroutine
def ip_fits(buffer, at, end, wire_end):
    """Whether an IPv4 or IPv6 header whose lengths fit into the packet begins at a place."""
    if at + 20 > end:
        return False
    version = np.int64(buffer[at]) >> 4
    if version == 4:
        header, total = (np.int64(buffer[at]) & 15) * 4, be16(buffer, at + 2)
        return header >= 20 and (total == 0 or header <= total <= wire_end - at)
    if version == 6:
        return at + 40 <= end and 40 + be16(buffer, at + 4) <= wire_end - at
    return False


@subroutine
def ip_is_certain(buffer, at, end, wire_end):
    """Whether it is IPv4 with the right checksum, or IPv6 that ends where the packet does."""
    if not ip_fits(buffer, at, end, wire_end):
        return False
    if np.int64(buffer[at]) >> 4 == 6:
        return 40 + be16(buffer, at + 4) == wire_end - at
    total = np.int64(0)
    header = (np.int64(buffer[at]) & 15) * 4
    if at + header > end:
        return False
    for place in range(at, at + header, 2):
        total += be16(buffer, place)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16) == 0xFFFF


@subroutine
def ethernet_fits(buffer, at, end, wire_end):
    """Whether an Ethernet frame with an EtherType that is known begins at a place."""
    if at + 14 > end:
        return False
    ethertype = be16(buffer, at + 12)
    at += 14
    for _tag in range(_MAX_TAGS):
        tag = tag_bytes(ethertype)
        if tag == 0 or at + tag > end:
            break
        ethertype = be16(buffer, at + tag - 2)
        at += tag
    if ethertype == 0x0800 or ethertype == 0x86DD:
        version = 4 if ethertype == 0x0800 else 6
        return at < end and buffer[at] >> 4 == version and ip_fits(buffer, at, end, wire_end)
    if ethertype == 0x0806:  # ARP between Ethernet and IPv4
        return at + 4 <= end and be16(buffer, at) == 1 and be16(buffer, at + 2) == 0x0800
    if ethertype <= 1500:  # a length, and the service access points of bridges, SNAP, IP or IS-IS
        if at + 3 > end or at + ethertype > wire_end or buffer[at] != buffer[at + 1]:
            return False
        point = buffer[at]
        return buffer[at + 2] == 3 and (
            point == 0x42 or point == 0xAA or point == 0x06 or point == 0xFE
        )
    return (
        ethertype == 0x8847
        or ethertype == 0x8848
        or ethertype == 0x8863
        or ethertype == 0x8864
        or ethertype == 0x88CC  # LLDP
        or ethertype == 0x88E5
        or ethertype == 0x88E7
        or ethertype == 0x888E  # 802.1X
        or ethertype == 0x8902  # connectivity fault management
        or ethertype == 0x9000  # loopback
    )
