"""Tunnel headers in, the layer within and where it begins out.

Sources: RFC 7348 (VXLAN), 8926 (Geneve), 2661 (L2TP), 4380 (Teredo), 2784 and 2890 (GRE), 2637 (PPTP),
3GPP TS 29.281 (GTP-U), RFC 5415 (CAPWAP); ERSPAN and WCCP as their vendor's drafts have them.
"""

from __future__ import annotations

import numpy as np

from apptell.kernels.compiled import kernel
from apptell.packets import links
from apptell.packets.fields import be16, be32

_UNKNOWN, _ETHERNET, _IP, _PPP, _ETHERTYPE, _LLC = (
    links.UNKNOWN,
    links.ETHERNET,
    links.IP,
    links.PPP,
    links.ETHERTYPE,
    links.LLC,
)


@kernel
def _capwap_data(buffer, at, end):
    """What a CAPWAP data message (RFC 5415, Section 4.3) opens: (layer, where it begins, EtherType).

    Some controllers swap the two bytes of the 802.11 frame control: the order that leads to a SNAP header
    is taken.
    """
    if at + 8 > end or buffer[at] != 0:  # version 0, not encrypted
        return _UNKNOWN, at, 0
    bits = be32(buffer, at)
    header = ((bits >> 19) & 31) * 4
    if header < 8 or bits & 0x88:  # fragments, and messages that keep the tunnel alive
        return _UNKNOWN, at, 0
    inner = at + header
    if not bits & 0x100:  # a frame of 802.3
        return _ETHERNET, inner, 0
    if (bits >> 9) & 31 != 1 or inner + 24 > end:  # a frame of 802.11
        return _UNKNOWN, at, 0
    for place in range(2):
        control = np.int64(buffer[inner + place])
        flags = np.int64(buffer[inner + 1 - place])
        if control & 0x4F != 0x08 or flags & 0x40:  # data with a body, not protected
            continue
        start = inner + 24 + (6 if flags & 3 == 3 else 0) + (2 if control & 0x80 else 0)
        if start + 8 <= end and be16(buffer, start) == 0xAAAA and buffer[start + 2] == 3:
            return _LLC, start, 0
    return _UNKNOWN, at, 0


@kernel
def udp_tunnel(buffer, at, end, wire_end, source_port, target_port):
    """What a UDP payload at ``at`` opens: (layer, where it begins, EtherType); layer 0 where nothing.

    A port alone opens nothing: the tunnel's header has to be one.
    """
    if target_port == 4789:  # VXLAN: the flag byte says that there is a network number
        if at + 8 <= end and buffer[at] == 0x08 and buffer[at + 7] == 0:
            return _ETHERNET, at + 8, 0
    elif target_port == 2152 or source_port == 2152:
        # GTP-U: version 1, G-PDU, and a length that fits
        if (
            at + 12 <= end
            and buffer[at] & 0xF0 == 0x30
            and buffer[at + 1] == 0xFF
            and at + 8 + be16(buffer, at + 2) <= wire_end
        ):
            inner = at + 8
            if buffer[at] & 0x07:  # sequence, N-PDU number and next extension type
                following = np.int64(buffer[at + 11]) if buffer[at] & 0x04 else 0
                inner += 4
                while following != 0 and inner < end:
                    length = np.int64(buffer[inner]) * 4
                    if length == 0 or inner + length > end:
                        return _UNKNOWN, at, 0
                    following = np.int64(buffer[inner + length - 1])
                    inner += length
            if inner < end and (buffer[inner] >> 4 == 4 or buffer[inner] >> 4 == 6):
                return _IP, inner, 0
    elif target_port == 6081:  # Geneve: version 0 and a protocol that we know
        if at + 8 <= end and buffer[at] >> 6 == 0:
            ethertype = be16(buffer, at + 2)
            if ethertype == 0x6558 or ethertype == 0x0800 or ethertype == 0x86DD:
                return _ETHERTYPE, at + 8 + (np.int64(buffer[at]) & 63) * 4, ethertype
    elif target_port == 1701 or source_port == 1701:
        if at + 6 <= end:
            bits = be16(buffer, at)
            if bits & 0x800F == 2:  # L2TP: a data message of version 2
                inner = at + 6
                if bits & 0x4000:
                    inner += 2
                if bits & 0x0800:
                    inner += 4
                if bits & 0x0200 and inner + 2 <= end:  # the offset field closes the header
                    inner += be16(buffer, inner) + 2
                return _PPP, inner, 0
    elif target_port == 5247 or source_port == 5247:
        return _capwap_data(buffer, at, end)
    elif target_port == 3544 or source_port == 3544:
        inner = at
        if inner + 4 <= end and be16(buffer, inner) == 1:  # Teredo authentication
            inner += 13 + np.int64(buffer[inner + 2]) + np.int64(buffer[inner + 3])
        if inner + 2 <= end and be16(buffer, inner) == 0:  # origin indication
            inner += 8
        if (
            inner + 40 <= end
            and buffer[inner] >> 4 == 6
            and inner + 40 + be16(buffer, inner + 4) == wire_end
        ):
            return _IP, inner, 0
    return _UNKNOWN, at, 0


@kernel
def gre_tunnel(buffer, at, end):
    """What a GRE header at ``at`` opens: (layer, where it begins, EtherType); layer 0 where nothing."""
    if at + 4 > end:
        return _UNKNOWN, at, 0
    bits = be16(buffer, at)
    ethertype = be16(buffer, at + 2)
    version = bits & 7
    inner = at + 4
    if version > 1:
        return _UNKNOWN, at, 0
    if version == 0 and bits & 0xC000:  # checksum, or routing that nobody uses
        inner += 4
    if version == 1 and at + 6 <= end and be16(buffer, at + 4) == 0:
        return _UNKNOWN, at, 0  # PPTP acknowledgement alone
    if bits & 0x2000:  # key
        inner += 4
    has_sequence = bits & 0x1000 != 0
    if has_sequence:
        inner += 4
    if version == 1 and bits & 0x80:  # acknowledgement number
        inner += 4
    if ethertype == 0x88BE:  # ERSPAN: type II has a sequence number and 8 bytes
        return _ETHERNET, inner + (8 if has_sequence else 0), 0
    if ethertype == 0x22EB:  # ERSPAN type III
        if inner + 12 > end:
            return _UNKNOWN, at, 0
        return _ETHERNET, inner + (20 if buffer[inner + 11] & 1 else 12), 0
    if ethertype == 0x883E:  # WCCP: a redirect header unless IP begins at once
        if inner < end and buffer[inner] >> 4 != 4:
            inner += 4
        return _IP, inner, 0
    return _ETHERTYPE, inner, ethertype
