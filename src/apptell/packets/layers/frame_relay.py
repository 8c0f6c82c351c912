"""Opens frame relay. Source: RFC 2427; Cisco's form as Wireshark reads it."""

from __future__ import annotations

from apptell.packets.byte_fields import be16
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import ETHERTYPE, IP
from apptell.packets.layers.registry import link_layer

_CUT, _NOT_IP = int(Status.CUT_IN_HEADERS), int(Status.NOT_IP)


@link_layer(link_types=(107,))
def open_frame_relay(buffer, at, end, wire_end, ethertype):
    """An address, then a network layer's number, SNAP, or an EtherType at once."""
    while at < end and buffer[at] & 1 == 0:  # address bytes until the extension bit
        at += 1
    at += 1
    if at + 2 > end:
        return -_CUT, at, wire_end, ethertype
    if buffer[at] != 0x03:  # Cisco's form
        ethertype = be16(buffer, at)
        if ethertype <= 1500:
            return -_NOT_IP, at, wire_end, ethertype
        return ETHERTYPE, at + 2, wire_end, ethertype
    at += 1
    if buffer[at] == 0:  # pad
        at += 1
    if at >= end:
        return -_CUT, at, wire_end, ethertype
    if buffer[at] == 0xCC or buffer[at] == 0x8E:
        return IP, at + 1, wire_end, ethertype
    if buffer[at] == 0x80 and at + 6 <= end:
        return ETHERTYPE, at + 6, wire_end, be16(buffer, at + 4)
    return -_NOT_IP, at, wire_end, ethertype
