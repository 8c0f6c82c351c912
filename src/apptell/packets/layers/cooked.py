"""Opens Linux cooked captures. Source: the LINKTYPE_ registry of tcpdump.org."""

from __future__ import annotations

from apptell.kernels.compiled import inlined
from apptell.packets.byte_fields import be16
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import ETHERTYPE, LLC
from apptell.packets.layers.registry import link_layer

_CUT, _NOT_IP = int(Status.CUT_IN_HEADERS), int(Status.NOT_IP)
_NETLINK = 824
"""Hardware type of messages of the kernel, which are no packets."""


@inlined
def _announced(hardware, protocol, at, wire_end):
    """What the protocol field announces, the bytes behind the header at ``at``."""
    if hardware == _NETLINK:
        return -_NOT_IP, at, wire_end, protocol
    if protocol == 4:
        return LLC, at, wire_end, protocol
    if protocol <= 1500:  # 1: 802.3 without a length; 12: CAN
        return -_NOT_IP, at, wire_end, protocol
    return ETHERTYPE, at, wire_end, protocol


@link_layer(link_types=(113,))
def open_cooked(buffer, at, end, wire_end, ethertype):
    """Version 1: 16 bytes, the protocol last."""
    if at + 16 > end:
        return -_CUT, at, wire_end, ethertype
    return _announced(be16(buffer, at + 2), be16(buffer, at + 14), at + 16, wire_end)


@link_layer(link_types=(276,))
def open_cooked_2(buffer, at, end, wire_end, ethertype):
    """Version 2: 20 bytes, the protocol first."""
    if at + 20 > end:
        return -_CUT, at, wire_end, ethertype
    return _announced(be16(buffer, at + 8), be16(buffer, at), at + 20, wire_end)
