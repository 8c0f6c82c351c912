"""Opens Ethernet frames, their tags and their EtherTypes.

Sources: IEEE 802.3, 802.1Q (tags), 802.1AE (MACsec), 802.1BR (E-TAG), 802.1CB (R-TAG), 802.3br; the registry
of EtherTypes of IANA and IEEE; IEC 62439-3 (HSR); RFC 6325 (TRILL); VN-Tag, FabricPath and Cisco's metadata
as Wireshark reads them.
"""

from __future__ import annotations

import numpy as np

from apptell.kernels.compiled import inlined, subroutine
from apptell.packets.byte_fields import be16
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import (
    ETHERNET,
    ETHERTYPE,
    IP,
    LLC,
    MPLS,
    NSH,
    PPP,
    PPPOE,
)
from apptell.packets.layers.registry import link_layer

_CUT, _NOT_IP = int(Status.CUT_IN_HEADERS), int(Status.NOT_IP)
_ENCRYPTED = int(Status.ENCRYPTED_LINK)


@link_layer(ETHERNET, link_types=(1,))
def open_ethernet(buffer, at, end, wire_end, ethertype):
    """Two addresses and an EtherType."""
    if at + 14 > end:
        return -_CUT, at, wire_end, ethertype
    ethertype = be16(buffer, at + 12)
    is_ip = ethertype == 0x0800 or ethertype == 0x86DD
    return IP if is_ip else ETHERTYPE, at + 14, wire_end, ethertype


@link_layer(link_types=(274,))
def open_mpacket(buffer, at, end, wire_end, ethertype):  # noqa: ARG001
    """Interspersed express traffic: preamble and start of the frame before it."""
    return ETHERNET, at + 8, wire_end, ethertype


@inlined
def tag_bytes(ethertype):
    """Bytes of the tag that an EtherType announces, the next EtherType at their end; 0 for no such tag."""
    if (
        ethertype == 0x8100  # customer VLAN
        or ethertype == 0x88A8  # service VLAN
        or ethertype == 0x9100  # the same before it had a number
        or ethertype == 0x9200
        or ethertype == 0x9300
    ):
        return 4
    if ethertype == 0x893F:  # E-TAG
        return 8
    if ethertype == 0x8926:  # VN-Tag
        return 6
    if ethertype == 0xF1C1 or ethertype == 0x892F:  # R-TAG; HSR
        return 6
    if ethertype == 0x8909:  # Cisco metadata: the group of TrustSec
        return 8
    return 0


@link_layer(ETHERTYPE)
def open_ethertype(buffer, at, end, wire_end, ethertype):
    """What an EtherType announces, the bytes behind it at ``at``; up to 1500 it is a length."""
    if ethertype == 0x0800 or ethertype == 0x86DD:
        return IP, at, wire_end, ethertype
    if ethertype <= 1500:
        return LLC, at, min(wire_end, at + ethertype) if ethertype else wire_end, ethertype
    tag = tag_bytes(ethertype)
    if tag:
        if at + tag > end:
            return -_CUT, at, wire_end, ethertype
        return ETHERTYPE, at + tag, wire_end, be16(buffer, at + tag - 2)
    if ethertype == 0x8847 or ethertype == 0x8848:
        return MPLS, at, wire_end, ethertype
    if ethertype == 0x8864:
        return PPPOE, at, wire_end, ethertype
    if ethertype == 0x880B:
        return PPP, at, wire_end, ethertype
    if ethertype == 0x6558:
        return ETHERNET, at, wire_end, ethertype
    if ethertype == 0x88E7:  # provider backbone bridging: service tag, then the inner frame
        return ETHERNET, at + 4, wire_end, ethertype
    if ethertype == 0x8903:  # Cisco FabricPath: its tag, then the inner frame
        return ETHERNET, at + 2, wire_end, ethertype
    if ethertype == 0x8870:  # a jumbo frame with an LLC header
        return LLC, at, wire_end, ethertype
    if ethertype == 0x894F:
        return NSH, at, wire_end, ethertype
    if ethertype == 0x22F3:  # TRILL: the length of its options in words of 4 bytes
        if at + 6 > end:
            return -_CUT, at, wire_end, ethertype
        return ETHERNET, at + 6 + ((be16(buffer, at) >> 6) & 31) * 4, wire_end, ethertype
    if ethertype == 0x88E5:
        return _open_macsec(buffer, at, end, wire_end, ethertype)
    return -_NOT_IP, at, wire_end, ethertype


@subroutine
def _open_macsec(buffer, at, end, wire_end, ethertype):
    """A MACsec tag: what is only authenticated can be read, its check value of 16 bytes at the end."""
    if at + 6 > end:
        return -_CUT, at, wire_end, ethertype
    control = np.int64(buffer[at])
    if control & 0x8C:  # version, encrypted or changed
        return -_ENCRYPTED, at, wire_end, ethertype
    start = at + (14 if control & 0x20 else 6)
    if start + 2 > end:
        return -_CUT, at, wire_end, ethertype
    return ETHERTYPE, start + 2, wire_end - 16, be16(buffer, start)
