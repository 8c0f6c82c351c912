"""A frame's outer layer in, the layer within it and where that begins out: all links but Ethernet itself.

Sources: IEEE 802.2, 802.5, 802.11; RFC 1661 and 2516 (PPP, PPPoE), 3032 (MPLS), 2427 (frame relay), 2684
(LLC over ATM), 4391 (InfiniBand); the LINKTYPE_ registry of tcpdump.org for the others.
"""

from __future__ import annotations

import numpy as np

from apptell.kernels.compiled import kernel
from apptell.packets import links
from apptell.packets.fields import be16, be32, le16, le32
from apptell.packets.headers import Status
from apptell.packets.wifi import radiotap_pads, wifi_payload

_UNKNOWN, _ETHERNET, _ETHERTYPE, _IP = links.UNKNOWN, links.ETHERNET, links.ETHERTYPE, links.IP
_NULL, _SLL, _SLL2 = links.NULL, links.LINUX_SLL, links.LINUX_SLL2
_PPP, _PPPOE, _PPP_DIRECTION = links.PPP, links.PPPOE, links.PPP_WITH_DIRECTION
_HDLC, _LLC, _MPLS = links.CISCO_HDLC, links.LLC, links.MPLS
_WIFI, _RADIOTAP, _PRISM, _AVS = links.WIFI, links.RADIOTAP, links.PRISM, links.AVS
_PPI, _PKTAP, _NFLOG = links.PPI, links.PKTAP, links.NFLOG
_TOKEN_RING, _FDDI, _FRAME_RELAY = links.TOKEN_RING, links.FDDI, links.FRAME_RELAY
_ENC, _PFLOG, _MPACKET = links.ENC, links.PFLOG, links.MPACKET
_IP_OVER_FC, _IPOIB = links.IP_OVER_FC, links.IP_OVER_INFINIBAND

_CUT, _NOT_IP = int(Status.CUT_IN_HEADERS), int(Status.NOT_IP)
_UNKNOWN_LINK = int(Status.UNKNOWN_LINK_TYPE)


@kernel
def open_layer(layer, ethertype, buffer, at, end, wire_end, layer_of_link):
    """Opens one layer at ``at``: (layer within, where it begins, end, wire end, EtherType).

    A negative layer is the ``Status`` of a packet that ends here. The bytes captured end at ``end``, those
    on the wire at ``wire_end``; a length field may bring both nearer.
    """
    if layer == _MPLS:
        bottom = False
        while at + 4 <= end and not bottom:
            bottom = buffer[at + 2] & 1 != 0
            at += 4
        if not bottom or at >= end:
            return -_CUT, at, end, wire_end, ethertype
        nibble = buffer[at] >> 4
        if nibble == 4 or nibble == 6:
            layer = _IP
        else:  # a pseudowire; a zero nibble is its control word
            if nibble == 0:
                at += 4
            layer = _ETHERNET
    elif layer == _PPPOE:
        if at + 6 > end:
            return -_CUT, at, end, wire_end, ethertype
        if buffer[at + 1] != 0:  # discovery
            return -_NOT_IP, at, end, wire_end, ethertype
        wire_end = min(wire_end, at + 6 + be16(buffer, at + 4))
        end = min(end, wire_end)
        at += 6
        layer = _PPP
    elif layer == _PPP or layer == _PPP_DIRECTION:
        if layer == _PPP_DIRECTION:
            at += 1
        if at + 2 <= end and buffer[at] == 0xFF and buffer[at + 1] == 0x03:
            at += 2
        elif at + 4 <= end and (buffer[at] == 0x0F or buffer[at] == 0x8F) and buffer[at + 1] == 0:
            layer = _HDLC
            return layer, at, end, wire_end, ethertype
        if at + 2 > end:
            return -_CUT, at, end, wire_end, ethertype
        if buffer[at] & 1:  # compressed protocol field
            ethertype = np.int64(buffer[at])
            at += 1
        else:
            ethertype = be16(buffer, at)
            at += 2
        if ethertype == 0x21 or ethertype == 0x57:
            layer = _IP
        elif ethertype == 0x281 or ethertype == 0x283:
            layer = _MPLS
        else:
            return -_NOT_IP, at, end, wire_end, ethertype
    elif layer == _HDLC:
        if at + 4 > end:
            return -_CUT, at, end, wire_end, ethertype
        ethertype = be16(buffer, at + 2)
        at += 4
        layer = _ETHERTYPE
        if ethertype <= 1500:
            return -_NOT_IP, at, end, wire_end, ethertype
    elif layer == _LLC:
        if at + 3 > end:
            return -_CUT, at, end, wire_end, ethertype
        if buffer[at] == 0xAA and buffer[at + 1] == 0xAA and buffer[at + 2] == 0x03:
            if at + 8 > end:
                return -_CUT, at, end, wire_end, ethertype
            ethertype = be16(buffer, at + 6)
            # organisation 00-80-C2 bridges whole frames (RFC 2684); 1 and 7 are Ethernet
            if buffer[at + 4] == 0x80 and buffer[at + 5] == 0xC2:
                at += 10
                layer = _ETHERNET
            else:
                at += 8
                layer = _ETHERTYPE
            if ethertype <= 1500 and layer == _ETHERTYPE:
                return -_NOT_IP, at, end, wire_end, ethertype
        elif buffer[at] == 0x06 and buffer[at + 1] == 0x06:
            at += 3
            layer = _IP
        elif (
            buffer[at] == 0xFE
            and buffer[at + 1] == 0xFE
            and at + 4 <= end
            and buffer[at + 3] == 0xCC
        ):
            at += 4
            layer = _IP
        else:
            return -_NOT_IP, at, end, wire_end, ethertype
    elif layer == _NULL:
        if at + 4 > end:
            return -_CUT, at, end, wire_end, ethertype
        family = le32(buffer, at)
        if family > 0xFFFF:  # written by a machine of the other byte order
            family = be32(buffer, at)
        at += 4
        if family == 2 or family == 10 or family == 24 or family == 28 or family == 30:
            layer = _IP
        elif family >= 0x600:
            ethertype = family
            layer = _ETHERTYPE
        else:
            return -_NOT_IP, at, end, wire_end, ethertype
    elif layer == _SLL or layer == _SLL2:
        start = 16 if layer == _SLL else 20
        if at + start > end:
            return -_CUT, at, end, wire_end, ethertype
        hardware = be16(buffer, at + 2) if layer == _SLL else be16(buffer, at + 8)
        ethertype = be16(buffer, at + 14) if layer == _SLL else be16(buffer, at)
        at += start
        layer = _ETHERTYPE
        if hardware == 824:  # netlink: messages of the kernel, no packets
            return -_NOT_IP, at, end, wire_end, ethertype
        if ethertype == 4:
            layer = _LLC
        elif ethertype == 0x0C or ethertype == 1 or ethertype <= 1500:  # CAN
            return -_NOT_IP, at, end, wire_end, ethertype
    elif layer == _RADIOTAP:
        if at + 8 > end:
            return -_CUT, at, end, wire_end, ethertype
        header = le16(buffer, at + 2)
        if header < 8 or at + header > end:
            return -_CUT, at, end, wire_end, ethertype
        pads = radiotap_pads(buffer, at, at + header)
        start = wifi_payload(buffer, at + header, end)
        if start < 0:
            return start, at, end, wire_end, ethertype
        if pads:
            start = at + header + (start - at - header + 3) // 4 * 4
        at = start
        layer = _LLC
    elif layer == _WIFI:
        start = wifi_payload(buffer, at, end)
        if start < 0:
            return start, at, end, wire_end, ethertype
        at = start
        layer = _LLC
    elif layer == _PRISM or layer == _AVS or layer == _PPI:
        if at + 8 > end:
            return -_CUT, at, end, wire_end, ethertype
        if layer == _PPI:
            header = le16(buffer, at + 2)
            inner_link = le32(buffer, at + 4)
            layer = np.int64(0)
            if inner_link < len(layer_of_link):
                layer = np.int64(layer_of_link[inner_link])
        else:
            header = be32(buffer, at + 4)
            if layer == _PRISM and be32(buffer, at) >> 12 != 0x80211:
                header = le32(buffer, at + 4)
            layer = _WIFI
        if header < 8:
            return -_CUT, at, end, wire_end, ethertype
        at += header
    elif layer == _PKTAP:
        if at + 12 > end:
            return -_CUT, at, end, wire_end, ethertype
        header = le32(buffer, at)
        inner_link = le32(buffer, at + 8)
        layer = np.int64(0)
        if header < 12:
            return -_CUT, at, end, wire_end, ethertype
        if inner_link < len(layer_of_link):
            layer = np.int64(layer_of_link[inner_link])
        if layer == _PKTAP:
            layer = np.int64(_UNKNOWN)
        at += header
    elif layer == _NFLOG:
        if at + 4 > end:
            return -_CUT, at, end, wire_end, ethertype
        at += 4
        found = False
        while at + 4 <= end:
            # host byte order: a length that fits is the right reading
            length = le16(buffer, at)
            kind = le16(buffer, at + 2)
            if length < 4 or at + length > wire_end:
                length = be16(buffer, at)
                kind = be16(buffer, at + 2)
            if length < 4:
                break
            if kind & 0x7FFF == 9:
                wire_end = min(wire_end, at + length)
                end = min(end, wire_end)
                at += 4
                found = True
                break
            at += (length + 3) // 4 * 4
        if not found:
            return -_NOT_IP, at, end, wire_end, ethertype
        layer = _IP
    elif layer == _TOKEN_RING:
        if at + 14 > end:
            return -_CUT, at, end, wire_end, ethertype
        start = at + 14
        if buffer[at + 8] & 0x80:  # source routing
            if start >= end:
                return -_CUT, at, end, wire_end, ethertype
            start += np.int64(buffer[start]) & 31
        at = start
        layer = _LLC
    elif layer == _FDDI:
        at += 13
        layer = _LLC
    elif layer == _IPOIB:  # global routing header, then an EtherType and two reserved bytes
        if at + 44 > end:
            return -_CUT, at, end, wire_end, ethertype
        ethertype = be16(buffer, at + 40)
        at += 44
        layer = _ETHERTYPE
    elif layer == _IP_OVER_FC:
        at += 16
        layer = _LLC
    elif layer == _FRAME_RELAY:
        while at < end and buffer[at] & 1 == 0:  # address bytes until the extension bit
            at += 1
        at += 1
        if at + 2 > end:
            return -_CUT, at, end, wire_end, ethertype
        if buffer[at] != 0x03:  # Cisco's form: an EtherType at once
            ethertype = be16(buffer, at)
            at += 2
            layer = _ETHERTYPE
            if ethertype <= 1500:
                return -_NOT_IP, at, end, wire_end, ethertype
            return layer, at, end, wire_end, ethertype
        at += 1
        if buffer[at] == 0:  # pad
            at += 1
        if at >= end:
            return -_CUT, at, end, wire_end, ethertype
        if buffer[at] == 0xCC or buffer[at] == 0x8E:
            at += 1
            layer = _IP
        elif buffer[at] == 0x80 and at + 6 <= end:
            ethertype = be16(buffer, at + 4)
            at += 6
            layer = _ETHERTYPE
        else:
            return -_NOT_IP, at, end, wire_end, ethertype
    elif layer == _ENC:
        at += 12
        layer = _IP
    elif layer == _PFLOG:
        if at + 4 > end:
            return -_CUT, at, end, wire_end, ethertype
        at += (np.int64(buffer[at]) + 3) // 4 * 4
        layer = _IP
    elif layer == _MPACKET:
        at += 8
        layer = _ETHERNET
    else:
        return -_UNKNOWN_LINK, at, end, wire_end, ethertype
    return layer, at, end, wire_end, ethertype
