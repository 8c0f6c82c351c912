"""Opens tunnel headers; returns the layer within and where it begins.

Each function takes a header's place and returns (layer, where it begins, EtherType); layer ``UNKNOWN`` where
the bytes are no such header. A port is never sufficient: the tunnel's header must be valid, and if it has few
fields, its content must be plausible.

Sources: RFC 7348 (VXLAN) with the drafts of group policy and of the generic extension (VXLAN-GPE), 8926
(Geneve), 2661 and 3931 (L2TP), 4380 (Teredo), 2784 and 2890 (GRE), 8086 (GRE in UDP), 2637 (PPTP), 7510 (MPLS
in UDP), 9300 (LISP), 5415 (CAPWAP); 3GPP TS 29.281 (GTP-U); ERSPAN, WCCP and TZSP as their vendors' drafts have
them.
"""

from __future__ import annotations

import numpy as np

from apptell.kernels.compiled import inlined, subroutine
from apptell.packets.byte_fields import be16, be32
from apptell.packets.layers.numbers import (
    ETHERNET,
    ETHERTYPE,
    IP,
    LINK_TYPE,
    MPLS,
    NSH,
    PPP,
    UNKNOWN,
    WIFI,
    WIFI_SWAPPED,
)
from apptell.packets.plausible import ethernet_fits, ip_fits


@inlined
def is_udp_tunnel(source_port, target_port):
    """Whether a datagram between these ports may belong to a tunnel."""
    return _by_ports(source_port, target_port) != 0


@inlined
def is_ip_tunnel(protocol):
    """Whether IP packets of a protocol may carry a tunnel."""
    return (
        protocol == 4
        or protocol == 41
        or protocol == 47
        or protocol == 97
        or protocol == 115
        or protocol == 137
    )


@inlined
def open_udp_tunnel(buffer, at, end, wire_end, source_port, target_port):
    """What a UDP payload at ``at`` opens, by its ports."""
    tunnel = _by_ports(source_port, target_port)
    if tunnel == 0:
        return UNKNOWN, at, 0
    return _open_udp_tunnel(tunnel, buffer, at, end, wire_end)


@inlined
def _by_ports(source_port, target_port):
    """The registered port of a tunnel that a datagram may belong to; 0 for none."""
    if (
        target_port == 4789  # VXLAN; 8472 before it had a number, 4790 with the generic extension
        or target_port == 8472
        or target_port == 4790
        or target_port == 6081  # Geneve
        or target_port == 4754  # GRE
        or target_port == 6635  # MPLS
        or target_port == 4341  # LISP
        or target_port == 37008  # TZSP
    ):
        return target_port
    if target_port == 2152 or source_port == 2152:  # GTP-U
        return 2152
    if target_port == 1701 or source_port == 1701:  # L2TP
        return 1701
    if target_port == 5247 or source_port == 5247:  # CAPWAP
        return 5247
    if target_port == 3544 or source_port == 3544:  # Teredo
        return 3544
    return 0


@subroutine
def _open_udp_tunnel(port, buffer, at, end, wire_end):
    """What a UDP payload at ``at`` opens as the tunnel of a registered port."""
    if port == 4789 or port == 8472 or port == 4790:
        return _open_vxlan(buffer, at, end, wire_end, port == 4789)
    if port == 2152:
        return _open_gtp(buffer, at, end, wire_end)
    if port == 6081:
        return _open_geneve(buffer, at, end)
    if port == 1701:
        return _open_l2tp(buffer, at, end, wire_end)
    if port == 5247:
        return _open_capwap(buffer, at, end)
    if port == 3544:
        return _open_teredo(buffer, at, end, wire_end)
    if port == 4754:
        return open_gre(buffer, at, end)
    if port == 6635:
        return _open_mpls_in_udp(buffer, at, end, wire_end)
    if port == 37008:
        return _open_tzsp(buffer, at, end)
    if ip_fits(buffer, at + 8, end, wire_end):  # LISP
        return IP, at + 8, 0
    return UNKNOWN, at, 0


@subroutine
def open_ip_tunnel(protocol, buffer, at, end, wire_end):
    """What an IP packet of a protocol opens at ``at``."""
    if protocol == 4 or protocol == 41:
        return IP, at, 0
    if protocol == 47:
        return open_gre(buffer, at, end)
    if protocol == 97:  # EtherIP
        return ETHERNET, at + 2, 0
    if protocol == 115:  # L2TP of version 3: a session's number, which is 0 for control messages
        if at + 4 <= end and be32(buffer, at) != 0:
            return _open_pseudowire(buffer, at + 4, end, wire_end)
        return UNKNOWN, at, 0
    if protocol == 137:
        return MPLS, at, 0
    return UNKNOWN, at, 0


@subroutine
def _open_vxlan(buffer, at, end, wire_end, is_assigned_port):
    """VXLAN: the I flag has to be set, all other bits are ignored unless the frame speaks against it.

    With the P flag byte 3 names what follows (VXLAN-GPE).
    """
    if at + 8 > end or buffer[at] & 0x08 == 0:
        return UNKNOWN, at, 0
    inner = at + 8
    if ethernet_fits(buffer, inner, end, wire_end):
        return ETHERNET, inner, 0
    if buffer[at] & 0x04:
        following = buffer[at + 3]
        if (following == 1 or following == 2) and ip_fits(buffer, inner, end, wire_end):
            return IP, inner, 0
        if following == 4 and inner + 8 <= end and buffer[inner] >> 6 == 0:
            return NSH, inner, 0
        if following == 5:
            return _open_mpls_in_udp(buffer, inner, end, wire_end)
        return UNKNOWN, at, 0
    # a frame of a protocol that is not known, behind a header as the RFC has it
    if is_assigned_port and be32(buffer, at) == 0x08000000 and buffer[at + 7] == 0:
        return ETHERNET, inner, 0
    return UNKNOWN, at, 0


@subroutine
def _open_gtp(buffer, at, end, wire_end):
    """GTP-U: version 1, a packet of the user, and a length that fits."""
    if (
        at + 12 > end
        or buffer[at] & 0xF0 != 0x30
        or buffer[at + 1] != 0xFF
        or at + 8 + be16(buffer, at + 2) > wire_end
    ):
        return UNKNOWN, at, 0
    inner = at + 8
    if buffer[at] & 0x07:  # sequence, N-PDU number and next extension type
        following = np.int64(buffer[at + 11]) if buffer[at] & 0x04 else 0
        inner += 4
        while following != 0 and inner < end:
            length = np.int64(buffer[inner]) * 4
            if length == 0 or inner + length > end:
                return UNKNOWN, at, 0
            following = np.int64(buffer[inner + length - 1])
            inner += length
    if inner < end and (buffer[inner] >> 4 == 4 or buffer[inner] >> 4 == 6):
        return IP, inner, 0
    return UNKNOWN, at, 0


@subroutine
def _open_geneve(buffer, at, end):
    """Geneve: version 0 and a protocol that is known; its reserved bits are ignored."""
    if at + 8 > end or buffer[at] >> 6 != 0:
        return UNKNOWN, at, 0
    ethertype = be16(buffer, at + 2)
    if (
        ethertype == 0x6558
        or ethertype == 0x0800
        or ethertype == 0x86DD
        or ethertype == 0x8847
        or ethertype == 0x894F
    ):
        return ETHERTYPE, at + 8 + (np.int64(buffer[at]) & 63) * 4, ethertype
    return UNKNOWN, at, 0


@subroutine
def _open_l2tp(buffer, at, end, wire_end):
    """A data message of L2TP, version 2 or 3; version 3 does not identify what it carries."""
    if at + 6 > end:
        return UNKNOWN, at, 0
    bits = be16(buffer, at)
    if bits & 0x800F == 3 and at + 8 <= end:
        return _open_pseudowire(buffer, at + 8, end, wire_end)
    if bits & 0x800F != 2:
        return UNKNOWN, at, 0
    inner = at + 6
    if bits & 0x4000:
        inner += 2
    if bits & 0x0800:
        inner += 4
    if bits & 0x0200 and inner + 2 <= end:  # the offset field closes the header
        inner += be16(buffer, inner) + 2
    return PPP, inner, 0


@subroutine
def _open_pseudowire(buffer, at, end, wire_end):
    """An Ethernet frame behind a cookie of 0, 4 or 8 bytes and perhaps 4 bytes of its own header."""
    for start in range(at, at + 13, 4):
        if ethernet_fits(buffer, start, end, wire_end):
            return ETHERNET, start, 0
    return UNKNOWN, at, 0


@subroutine
def _open_mpls_in_udp(buffer, at, end, wire_end):
    """A stack of labels with an IP packet or an Ethernet frame at its end."""
    inner = at
    while inner + 4 <= end:
        bottom = buffer[inner + 2] & 1 != 0
        inner += 4
        if bottom:
            break
    if (
        ip_fits(buffer, inner, end, wire_end)
        or ethernet_fits(buffer, inner, end, wire_end)
        or ethernet_fits(buffer, inner + 4, end, wire_end)
    ):
        return MPLS, at, 0
    return UNKNOWN, at, 0


@subroutine
def _open_capwap(buffer, at, end):
    """A data message of CAPWAP (RFC 5415, section 4.3) that carries a frame which can be read.

    Some controllers swap the two bytes of the 802.11 frame control: the order that leads to a SNAP header or
    an aggregate is taken.
    """
    if at + 8 > end or buffer[at] != 0:  # version 0, not encrypted
        return UNKNOWN, at, 0
    bits = be32(buffer, at)
    header = ((bits >> 19) & 31) * 4
    if header < 8 or bits & 0x88:  # fragments, and messages that keep the tunnel alive
        return UNKNOWN, at, 0
    inner = at + header
    if not bits & 0x100:  # a frame of 802.3
        return ETHERNET, inner, 0
    if (bits >> 9) & 31 != 1 or inner + 24 > end:  # a frame of 802.11
        return UNKNOWN, at, 0
    for place in range(2):
        control = np.int64(buffer[inner + place])
        flags = np.int64(buffer[inner + 1 - place])
        if control & 0x4F != 0x08 or flags & 0x40:  # data with a body, not protected
            continue
        start = inner + 24 + (6 if flags & 3 == 3 else 0)
        is_aggregate = False
        if control & 0x80 and start + 2 <= end:
            is_aggregate = buffer[start] & 0x80 != 0
            start += 2
        if is_aggregate:  # behind the addresses and length of the first subframe
            start += 14
        if start + 8 <= end and be16(buffer, start) == 0xAAAA and buffer[start + 2] == 3:
            return WIFI if place == 0 else WIFI_SWAPPED, inner, 0
    return UNKNOWN, at, 0


@subroutine
def _open_teredo(buffer, at, end, wire_end):
    """Teredo: IPv6 that ends where the datagram does, perhaps behind authentication and origin."""
    inner = at
    if inner + 4 <= end and be16(buffer, inner) == 1:  # authentication
        inner += 13 + np.int64(buffer[inner + 2]) + np.int64(buffer[inner + 3])
    if inner + 2 <= end and be16(buffer, inner) == 0:  # origin indication
        inner += 8
    if (
        inner + 40 <= end
        and buffer[inner] >> 4 == 6
        and inner + 40 + be16(buffer, inner + 4) == wire_end
    ):
        return IP, inner, 0
    return UNKNOWN, at, 0


@subroutine
def _open_tzsp(buffer, at, end):
    """TZSP: version 1, a captured frame, its kind, and tags up to the one that ends them."""
    if at + 5 > end or buffer[at] != 1 or buffer[at + 1] > 1:
        return UNKNOWN, at, 0
    kind = be16(buffer, at + 2)
    inner = at + 4
    while inner < end and buffer[inner] != 1:
        if buffer[inner] == 0:  # padding
            inner += 1
        elif inner + 2 <= end:
            inner += 2 + np.int64(buffer[inner + 1])
        else:
            return UNKNOWN, at, 0
    inner += 1
    if kind == 1:
        return ETHERNET, inner, 0
    if kind == 18:
        return WIFI, inner, 0
    if kind == 119 or kind == 127:  # Prism and radiotap, by their LINKTYPE_ values
        return LINK_TYPE, inner, kind
    return UNKNOWN, at, 0


@subroutine
def open_gre(buffer, at, end):
    """GRE of version 0, and 1 as PPTP has it."""
    if at + 4 > end:
        return UNKNOWN, at, 0
    bits = be16(buffer, at)
    ethertype = be16(buffer, at + 2)
    version = bits & 7
    inner = at + 4
    if version > 1:
        return UNKNOWN, at, 0
    if version == 0 and bits & 0xC000:  # checksum, or routing, which is not in use
        inner += 4
    if version == 1 and at + 6 <= end and be16(buffer, at + 4) == 0:
        return UNKNOWN, at, 0  # only a PPTP acknowledgement
    if bits & 0x2000:  # key
        inner += 4
    has_sequence = bits & 0x1000 != 0
    if has_sequence:
        inner += 4
    if version == 1 and bits & 0x80:  # acknowledgement number
        inner += 4
    if ethertype == 0x88BE:  # ERSPAN: type II has a sequence number and 8 bytes
        return ETHERNET, inner + (8 if has_sequence else 0), 0
    if ethertype == 0x22EB:  # ERSPAN type III
        if inner + 12 > end:
            return UNKNOWN, at, 0
        return ETHERNET, inner + (20 if buffer[inner + 11] & 1 else 12), 0
    if ethertype == 0x883E:  # WCCP: a redirect header unless IP begins at once
        if inner < end and buffer[inner] >> 4 != 4:
            inner += 4
        return IP, inner, 0
    return ETHERTYPE, inner, ethertype
