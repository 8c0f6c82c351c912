"""Opens network service headers. Source: RFC 8300, section 2."""

from __future__ import annotations

import numpy as np

from apptell.packets.byte_fields import be16
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import ETHERNET, IP, MPLS, NSH
from apptell.packets.layers.registry import link_layer

_CUT, _NOT_IP = int(Status.CUT_IN_HEADERS), int(Status.NOT_IP)


@link_layer(NSH)
def open_nsh(buffer, at, end, wire_end, ethertype):
    """Its length in words of 4 bytes, and the number of what follows."""
    if at + 8 > end:
        return -_CUT, at, wire_end, ethertype
    size = (be16(buffer, at) & 63) * 4
    following = np.int64(buffer[at + 3])
    if size < 8:
        return -_NOT_IP, at, wire_end, ethertype
    if following == 1 or following == 2:
        return IP, at + size, wire_end, ethertype
    if following == 3:
        return ETHERNET, at + size, wire_end, ethertype
    if following == 4:
        return NSH, at + size, wire_end, ethertype
    if following == 5:
        return MPLS, at + size, wire_end, ethertype
    return -_NOT_IP, at, wire_end, ethertype
