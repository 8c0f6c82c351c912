"""Opens LLC headers and the links that use them. Sources: IEEE 802.2, 802.5; RFC 1390, 2625, 2684."""

from __future__ import annotations

import numpy as np

from apptell.packets.byte_fields import be16
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import ETHERNET, ETHERTYPE, IP, LLC
from apptell.packets.layers.registry import link_layer

_CUT, _NOT_IP = int(Status.CUT_IN_HEADERS), int(Status.NOT_IP)


@link_layer(LLC, link_types=(11, 100, 106))
def open_llc(buffer, at, end, wire_end, ethertype):
    """LLC: SNAP with an EtherType or a bridged frame, IP at once, or something else."""
    if at + 3 > end:
        return -_CUT, at, wire_end, ethertype
    if buffer[at] == 0xAA and buffer[at + 1] == 0xAA and buffer[at + 2] == 0x03:
        if at + 8 > end:
            return -_CUT, at, wire_end, ethertype
        ethertype = be16(buffer, at + 6)
        # organisation 00-80-C2 bridges whole frames (RFC 2684); 1 and 7 are Ethernet
        if buffer[at + 4] == 0x80 and buffer[at + 5] == 0xC2:
            return ETHERNET, at + 10, wire_end, ethertype
        if ethertype <= 1500:
            return -_NOT_IP, at, wire_end, ethertype
        return ETHERTYPE, at + 8, wire_end, ethertype
    if buffer[at] == 0x06 and buffer[at + 1] == 0x06:
        return IP, at + 3, wire_end, ethertype
    if buffer[at] == 0xFE and buffer[at + 1] == 0xFE and at + 4 <= end and buffer[at + 3] == 0xCC:
        return IP, at + 4, wire_end, ethertype
    return -_NOT_IP, at, wire_end, ethertype


@link_layer(link_types=(6,))
def open_token_ring(buffer, at, end, wire_end, ethertype):
    """Token ring: two control bytes, two addresses, perhaps a route."""
    if at + 14 > end:
        return -_CUT, at, wire_end, ethertype
    start = at + 14
    if buffer[at + 8] & 0x80:  # source routing
        if start >= end:
            return -_CUT, at, wire_end, ethertype
        start += np.int64(buffer[start]) & 31
    return LLC, start, wire_end, ethertype


@link_layer(link_types=(10,))
def open_fddi(buffer, at, end, wire_end, ethertype):  # noqa: ARG001
    """FDDI: a control byte and two addresses."""
    return LLC, at + 13, wire_end, ethertype


@link_layer(link_types=(122,))
def open_ip_over_fibre_channel(buffer, at, end, wire_end, ethertype):  # noqa: ARG001
    """The network header of RFC 2625: two addresses of 8 bytes."""
    return LLC, at + 16, wire_end, ethertype
