"""Opens stacks of MPLS labels, with the packet or pseudowire after them.

The labels do not identify what follows them (RFC 3032, 2.2). Sources: RFC 4385 (the first nibble), 4448
(Ethernet, whose control word is optional), 8469 (addresses that begin with 4 or 6).
"""

from __future__ import annotations

import numpy as np

from apptell.packets.byte_fields import be32
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import ETHERNET, IP, MPLS
from apptell.packets.layers.registry import link_layer
from apptell.packets.plausible import ethernet_fits, ip_fits, ip_is_certain

_CUT, _NOT_IP = int(Status.CUT_IN_HEADERS), int(Status.NOT_IP)
_EXPLICIT_NULL_4, _EXPLICIT_NULL_6 = 0, 2


@link_layer(MPLS, link_types=(219,))
def open_mpls(buffer, at, end, wire_end, ethertype):
    """Labels to the bottom of the stack, then IP or an Ethernet frame with or without a control word."""
    bottom = False
    label = np.int64(0)
    while at + 4 <= end and not bottom:
        entry = be32(buffer, at)
        bottom, label = entry & 0x100 != 0, entry >> 12
        at += 4
    if not bottom or at >= end:
        return -_CUT, at, wire_end, ethertype
    nibble = buffer[at] >> 4
    if nibble == 4 or nibble == 6:
        is_said = label == _EXPLICIT_NULL_4 or label == _EXPLICIT_NULL_6
        if is_said or ip_is_certain(buffer, at, end, wire_end):
            return IP, at, wire_end, ethertype
        if ethernet_fits(buffer, at, end, wire_end):
            return ETHERNET, at, wire_end, ethertype
        return IP, at, wire_end, ethertype
    if nibble == 0:
        if ethernet_fits(buffer, at + 4, end, wire_end):
            return ETHERNET, at + 4, wire_end, ethertype
        if ethernet_fits(buffer, at, end, wire_end):
            return ETHERNET, at, wire_end, ethertype
        if ip_fits(buffer, at + 4, end, wire_end):
            return IP, at + 4, wire_end, ethertype
        return ETHERNET, at + 4, wire_end, ethertype
    if nibble == 1 and not ethernet_fits(buffer, at, end, wire_end):  # an associated channel
        return -_NOT_IP, at, wire_end, ethertype
    return ETHERNET, at, wire_end, ethertype
