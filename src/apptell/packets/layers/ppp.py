"""Opens PPP, PPPoE and Cisco HDLC.

Sources: RFC 1661, 1662, 2516 (PPPoE), 3518 (bridging); Cisco's HDLC as Wireshark reads it.
"""

from __future__ import annotations

import numpy as np

from apptell.packets.byte_fields import be16
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import CISCO_HDLC, ETHERNET, ETHERTYPE, IP, MPLS, PPP, PPPOE
from apptell.packets.layers.registry import link_layer

_CUT, _NOT_IP = int(Status.CUT_IN_HEADERS), int(Status.NOT_IP)


@link_layer(PPPOE, link_types=(51,))
def open_pppoe(buffer, at, end, wire_end, ethertype):
    """A session's header; its length ends the packet."""
    if at + 6 > end:
        return -_CUT, at, wire_end, ethertype
    if buffer[at + 1] != 0:  # discovery
        return -_NOT_IP, at, wire_end, ethertype
    return PPP, at + 6, min(wire_end, at + 6 + be16(buffer, at + 4)), ethertype


@link_layer(PPP, link_types=(9, 50))
def open_ppp(buffer, at, end, wire_end, ethertype):
    """Address and control, which may be left out, and a protocol of one or two bytes."""
    if at + 2 <= end and buffer[at] == 0xFF and buffer[at + 1] == 0x03:
        at += 2
    elif at + 4 <= end and (buffer[at] == 0x0F or buffer[at] == 0x8F) and buffer[at + 1] == 0:
        return CISCO_HDLC, at, wire_end, ethertype
    if at + 2 > end:
        return -_CUT, at, wire_end, ethertype
    if buffer[at] & 1:  # compressed protocol field
        protocol = np.int64(buffer[at])
        at += 1
    else:
        protocol = be16(buffer, at)
        at += 2
    if protocol == 0x21 or protocol == 0x57:
        return IP, at, wire_end, ethertype
    if protocol == 0x281 or protocol == 0x283:
        return MPLS, at, wire_end, ethertype
    if protocol == 0x31 and at + 2 <= end and buffer[at + 1] == 1:  # a bridged Ethernet frame
        return ETHERNET, at + 2, wire_end, ethertype
    return -_NOT_IP, at, wire_end, ethertype


@link_layer(link_types=(166, 204))
def open_ppp_with_direction(buffer, at, end, wire_end, ethertype):  # noqa: ARG001
    """A byte with the direction, then PPP."""
    return PPP, at + 1, wire_end, ethertype


@link_layer(CISCO_HDLC, link_types=(104,))
def open_cisco_hdlc(buffer, at, end, wire_end, ethertype):
    """Address, control and an EtherType."""
    if at + 4 > end:
        return -_CUT, at, wire_end, ethertype
    ethertype = be16(buffer, at + 2)
    if ethertype <= 1500:
        return -_NOT_IP, at, wire_end, ethertype
    return ETHERTYPE, at + 4, wire_end, ethertype
