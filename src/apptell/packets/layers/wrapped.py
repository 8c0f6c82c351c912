"""Opens headers that name the link type of the frame after them (PPI, PKTAP), and NFLOG.

Sources: the LINKTYPE_ registry of tcpdump.org; libpcap's nflog.h and Apple's pktap.h.
"""

from __future__ import annotations

from apptell.packets.byte_fields import be16, le16, le32
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import IP, LINK_TYPE
from apptell.packets.layers.registry import link_layer

_CUT, _NOT_IP = int(Status.CUT_IN_HEADERS), int(Status.NOT_IP)


@link_layer(link_types=(192,))
def open_ppi(buffer, at, end, wire_end, ethertype):
    """Per-packet information of wireless captures."""
    if at + 8 > end:
        return -_CUT, at, wire_end, ethertype
    header = le16(buffer, at + 2)
    if header < 8:
        return -_CUT, at, wire_end, ethertype
    return LINK_TYPE, at + header, wire_end, le32(buffer, at + 4)


# 149 is DLT_USER2, under which Apple wrote PKTAP before it had a number
@link_layer(link_types=(149, 258))
def open_pktap(buffer, at, end, wire_end, ethertype):
    """Apple's header, which also names the process."""
    if at + 12 > end:
        return -_CUT, at, wire_end, ethertype
    header = le32(buffer, at)
    if header < 12:
        return -_CUT, at, wire_end, ethertype
    return LINK_TYPE, at + header, wire_end, le32(buffer, at + 8)


@link_layer(link_types=(239,))
def open_nflog(buffer, at, end, wire_end, ethertype):
    """Linux' log of its packet filter: typed values, one of which is the packet."""
    if at + 4 > end:
        return -_CUT, at, wire_end, ethertype
    at += 4
    while at + 4 <= end:
        # host byte order: a length that fits is the right reading
        length, kind = le16(buffer, at), le16(buffer, at + 2)
        if length < 4 or at + length > wire_end:
            length, kind = be16(buffer, at), be16(buffer, at + 2)
        if length < 4:
            break
        if kind & 0x7FFF == 9:
            return IP, at + 4, min(wire_end, at + length), ethertype
        at += (length + 3) // 4 * 4
    return -_NOT_IP, at, wire_end, ethertype
