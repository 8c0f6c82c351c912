"""Opens frames of BSD's loopback, enc and pflog interfaces. Source: the LINKTYPE_ registry of tcpdump.org."""

from __future__ import annotations

import numpy as np

from apptell.packets.byte_fields import be32, le32
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import ETHERTYPE, IP
from apptell.packets.layers.registry import link_layer

_CUT, _NOT_IP = int(Status.CUT_IN_HEADERS), int(Status.NOT_IP)


@link_layer(link_types=(0, 108))
def open_null(buffer, at, end, wire_end, ethertype):
    """An address family in the byte order of the machine that wrote it."""
    if at + 4 > end:
        return -_CUT, at, wire_end, ethertype
    family = le32(buffer, at)
    if family > 0xFFFF:  # written by a machine of the other byte order
        family = be32(buffer, at)
    if family == 2 or family == 10 or family == 24 or family == 28 or family == 30:
        return IP, at + 4, wire_end, ethertype
    if family >= 0x600:
        return ETHERTYPE, at + 4, wire_end, family
    return -_NOT_IP, at, wire_end, ethertype


@link_layer(link_types=(109,))
def open_enc(buffer, at, end, wire_end, ethertype):  # noqa: ARG001
    """OpenBSD's interface of decrypted packets."""
    return IP, at + 12, wire_end, ethertype


@link_layer(link_types=(117,))
def open_pflog(buffer, at, end, wire_end, ethertype):
    """OpenBSD's log of its packet filter: a header with its own length."""
    if at + 4 > end:
        return -_CUT, at, wire_end, ethertype
    return IP, at + (np.int64(buffer[at]) + 3) // 4 * 4, wire_end, ethertype
