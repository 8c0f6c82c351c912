"""Frames in, headers out: link layers, tunnels, IPv4/IPv6, TCP and UDP, one compiled pass.

Sources: RFC 791, 8200, 9293, 768; IEEE 802.1Q, 802.2, 802.11; RFC 1661 and 2516 (PPP, PPPoE); tunnels:
RFC 2003 (IP in IP), 4213 (6in4), 2784/2890/2637 (GRE, PPTP), 7348 (VXLAN), 8926 (Geneve), 3032 (MPLS),
2661 (L2TP), 4380 (Teredo), 3GPP TS 29.281 (GTP-U), 3378 (EtherIP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from apptell.packets import links
from apptell.packets.headers import HEADER, HeaderBatch, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.capture.batch import PacketBatch

MAX_DEPTH: Final = 4
"""Tunnels within tunnels that are opened."""

_UNKNOWN, _ETHERNET, _IP, _NULL = links.UNKNOWN, links.ETHERNET, links.IP, links.NULL
_SLL, _SLL2, _PPP, _PPPOE = links.LINUX_SLL, links.LINUX_SLL2, links.PPP, links.PPPOE
_PPP_DIRECTION, _HDLC, _WIFI, _RADIOTAP = (
    links.PPP_WITH_DIRECTION,
    links.CISCO_HDLC,
    links.WIFI,
    links.RADIOTAP,
)
_PRISM, _AVS, _PPI, _PKTAP, _NFLOG = links.PRISM, links.AVS, links.PPI, links.PKTAP, links.NFLOG
_LLC, _TOKEN_RING, _FDDI, _FRAME_RELAY = links.LLC, links.TOKEN_RING, links.FDDI, links.FRAME_RELAY
_ENC, _PFLOG, _MPACKET, _ETHERTYPE = links.ENC, links.PFLOG, links.MPACKET, links.ETHERTYPE
_MPLS, _IP_OVER_FC, _IPOIB = links.MPLS, links.IP_OVER_FC, links.IP_OVER_INFINIBAND

_OK, _UNKNOWN_LINK, _NOT_IP, _NOT_DATA = (
    int(Status.OK),
    int(Status.UNKNOWN_LINK_TYPE),
    int(Status.NOT_IP),
    int(Status.NOT_DATA),
)
_ENCRYPTED, _CUT, _BAD_IP, _BAD_TRANSPORT = (
    int(Status.ENCRYPTED_LINK),
    int(Status.CUT_IN_HEADERS),
    int(Status.BAD_IP),
    int(Status.BAD_TRANSPORT),
)
_FRAGMENT, _OTHER, _TOO_DEEP = (
    int(Status.FRAGMENT),
    int(Status.OTHER_PROTOCOL),
    int(Status.TOO_DEEP),
)

_kernel = njit(cache=True, nogil=True)
_inline = njit(inline="always")


@_inline
def _be16(buffer, at):
    return (np.int64(buffer[at]) << 8) | np.int64(buffer[at + 1])


@_inline
def _le16(buffer, at):
    return (np.int64(buffer[at + 1]) << 8) | np.int64(buffer[at])


@_inline
def _be32(buffer, at):
    return (
        (np.int64(buffer[at]) << 24)
        | (np.int64(buffer[at + 1]) << 16)
        | (np.int64(buffer[at + 2]) << 8)
        | np.int64(buffer[at + 3])
    )


@_inline
def _le32(buffer, at):
    return (
        (np.int64(buffer[at + 3]) << 24)
        | (np.int64(buffer[at + 2]) << 16)
        | (np.int64(buffer[at + 1]) << 8)
        | np.int64(buffer[at])
    )


@_inline
def _be64(buffer, at):
    return (np.uint64(_be32(buffer, at)) << np.uint64(32)) | np.uint64(_be32(buffer, at + 4))


@_inline
def _wifi_payload(buffer, at, end):
    """Start of the LLC header of an 802.11 data frame, or minus the Status that stops it."""
    if at + 24 > end:
        return -_CUT
    control = np.int64(buffer[at])
    flags = np.int64(buffer[at + 1])
    if (control >> 2) & 3 != 2:  # only type 2 is data
        return -_NOT_DATA
    subtype = control >> 4
    if subtype & 4:  # null data: no body
        return -_NOT_DATA
    if flags & 0x40:
        return -_ENCRYPTED
    start = at + 24
    if flags & 3 == 3:  # to and from the distribution system: a fourth address
        start += 6
    if subtype & 8:  # quality of service
        if start + 2 > end:
            return -_CUT
        aggregated = buffer[start] & 0x80
        start += 2
        if flags & 0x80:  # order bit: HT control
            start += 4
        if aggregated:  # first subframe of an A-MSDU: addresses and length
            start += 14
    return start


@_inline
def _radiotap_pads(buffer, at, end):
    """Whether the flags field of a radiotap header (at least 8 bytes) says the 802.11 header is padded."""
    words = 4
    while at + words + 4 <= end and buffer[at + words + 3] & 0x80:  # bit 31: another word follows
        words += 4
    field = words + 4
    present = buffer[at + 4]
    if present & 1:  # time stamp, aligned to 8 bytes
        field = (field + 7) // 8 * 8 + 8
    return bool(present & 2 and at + field < end and buffer[at + field] & 0x20)


@_kernel
def decode_frames(
    buffer,
    offset,
    captured,
    wire,
    time_ns,
    link_type,
    direction,
    owner,
    layer_of_link,
    max_depth,
    rows,
):
    """Decodes n frames into ``rows``.

    ``end`` is where the captured bytes end, ``wire_end`` where the frame ended on the wire; both shrink
    with every length field on the way in, so that padding and trailers never count as payload.
    """
    size = len(buffer)
    for row in range(len(offset)):
        out = rows[row]
        at = offset[row]
        end = min(at + np.int64(captured[row]), size)
        wire_end = max(at + np.int64(wire[row]), end)
        out.time_ns = time_ns[row]
        out.direction = direction[row]
        out.owner = owner[row]
        out.status = _NOT_IP
        out.ip_version = 0
        out.protocol = 0
        out.is_fragment = 0
        out.tunnels = 0
        out.flags = 0
        out.payload = 0
        out.payload_captured = 0
        out.ip_bytes = 0
        out.sequence = 0
        out.acknowledgement = 0
        out.checksum = 0
        if at < 0 or captured[row] < 0:
            out.status = _CUT
            continue
        layer = np.int64(0)
        if link_type[row] < len(layer_of_link):
            layer = np.int64(layer_of_link[link_type[row]])
        ethertype = np.int64(0)
        depth = 0
        for _step in range(64):  # every layer takes at least a byte off; 64 layers are no traffic
            if layer == _ETHERNET:
                if at + 14 > end:
                    out.status = _CUT
                    break
                ethertype = _be16(buffer, at + 12)
                at += 14
                layer = _ETHERTYPE
            elif layer == _ETHERTYPE:
                if ethertype == 0x0800 or ethertype == 0x86DD:
                    layer = _IP
                elif (
                    ethertype == 0x8100
                    or ethertype == 0x88A8
                    or ethertype == 0x9100
                    or ethertype == 0x9200
                ):
                    if at + 4 > end:
                        out.status = _CUT
                        break
                    ethertype = _be16(buffer, at + 2)
                    at += 4
                elif ethertype <= 1500:  # IEEE 802.3: a length
                    wire_end = min(wire_end, at + ethertype) if ethertype else wire_end
                    end = min(end, wire_end)
                    layer = _LLC
                elif ethertype == 0x8847 or ethertype == 0x8848:
                    layer = _MPLS
                elif ethertype == 0x8864:
                    layer = _PPPOE
                elif ethertype == 0x880B:
                    layer = _PPP
                elif ethertype == 0x6558:
                    layer = _ETHERNET
                elif (
                    ethertype == 0x88E7
                ):  # provider backbone bridging: service tag, then the inner frame
                    at += 4
                    layer = _ETHERNET
                elif ethertype == 0x8903:  # Cisco FabricPath: its tag, then the inner frame
                    at += 2
                    layer = _ETHERNET
                elif ethertype == 0x8926:  # VN-Tag
                    if at + 6 > end:
                        out.status = _CUT
                        break
                    ethertype = _be16(buffer, at + 4)
                    at += 6
                elif ethertype == 0x88E5:
                    out.status = _ENCRYPTED
                    break
                else:
                    out.status = _NOT_IP
                    break
            elif layer == _IP:
                if at + 20 > end:
                    out.status = _CUT
                    break
                version = np.int64(buffer[at]) >> 4
                ip_at = at
                if version == 4:
                    header = (np.int64(buffer[at]) & 15) * 4
                    total = _be16(buffer, at + 2)
                    if header < 20 or (total != 0 and total < header):
                        out.status = _BAD_IP
                        break
                    if total != 0:  # 0: the network card was to cut the segment (offload)
                        wire_end = min(wire_end, at + total)
                    fragment = _be16(buffer, at + 6)
                    out.is_fragment = 1 if fragment & 0x3FFF else 0
                    protocol = np.int64(buffer[at + 9])
                    out.ttl = buffer[at + 8]
                    out.source_high = 0
                    out.source_low = np.uint64(_be32(buffer, at + 12))
                    out.target_high = 0
                    out.target_low = np.uint64(_be32(buffer, at + 16))
                    at += header
                    later_fragment = fragment & 0x1FFF != 0
                elif version == 6:
                    if at + 40 > end:
                        out.status = _CUT
                        break
                    total = _be16(buffer, at + 4)
                    if total != 0:  # 0: a jumbogram or offload
                        wire_end = min(wire_end, at + 40 + total)
                    protocol = np.int64(buffer[at + 6])
                    out.ttl = buffer[at + 7]
                    out.source_high = _be64(buffer, at + 8)
                    out.source_low = _be64(buffer, at + 16)
                    out.target_high = _be64(buffer, at + 24)
                    out.target_low = _be64(buffer, at + 32)
                    out.is_fragment = 0
                    at += 40
                    later_fragment = False
                else:
                    out.status = _BAD_IP
                    break
                end = min(end, wire_end)
                out.ip_version = version
                out.ip_at = ip_at
                out.ip_bytes = wire_end - ip_at
                cut = False
                # Extension headers (IPv6) and the authentication header (both versions).
                while not later_fragment:
                    if protocol == 51:
                        if at + 2 > end:
                            cut = True
                            break
                        protocol, at = np.int64(buffer[at]), at + (np.int64(buffer[at + 1]) + 2) * 4
                    elif version == 6 and protocol == 44:
                        if at + 8 > end:
                            cut = True
                            break
                        fragment = _be16(buffer, at + 2)
                        out.is_fragment = 1 if fragment & 0xFFF9 else 0
                        later_fragment = fragment & 0xFFF8 != 0
                        protocol = np.int64(buffer[at])
                        at += 8
                    elif version == 6 and (
                        protocol == 0
                        or protocol == 43
                        or protocol == 60
                        or protocol == 135
                        or protocol == 139
                        or protocol == 140
                    ):
                        if at + 2 > end:
                            cut = True
                            break
                        protocol, at = np.int64(buffer[at]), at + (np.int64(buffer[at + 1]) + 1) * 8
                    else:
                        break
                out.protocol = protocol
                if cut:
                    out.status = _CUT
                    break
                if later_fragment:
                    out.status = _FRAGMENT
                    break
                if protocol == 6:
                    if wire_end - at < 20:
                        out.status = _BAD_TRANSPORT
                        break
                    if at + 20 > end:
                        out.status = _CUT
                        break
                    header = (np.int64(buffer[at + 12]) >> 4) * 4
                    if header < 20 or at + header > wire_end:
                        out.status = _BAD_TRANSPORT
                        break
                    out.source_port = _be16(buffer, at)
                    out.target_port = _be16(buffer, at + 2)
                    out.sequence = _be32(buffer, at + 4)
                    out.acknowledgement = _be32(buffer, at + 8)
                    out.flags = buffer[at + 13]
                    out.checksum = _be16(buffer, at + 16)
                    at += header
                    out.payload_at = at
                    out.payload = wire_end - at
                    out.payload_captured = max(end - at, 0)
                    out.status = _OK
                    break
                if protocol == 17:
                    if wire_end - at < 8:
                        out.status = _BAD_TRANSPORT
                        break
                    if at + 8 > end:
                        out.status = _CUT
                        break
                    source_port = _be16(buffer, at)
                    target_port = _be16(buffer, at + 2)
                    length = _be16(buffer, at + 4)
                    if length != 0 and length < 8:
                        out.status = _BAD_TRANSPORT
                        break
                    out.source_port = source_port
                    out.target_port = target_port
                    out.checksum = _be16(buffer, at + 6)
                    if length != 0:
                        wire_end = min(wire_end, at + length)
                        end = min(end, wire_end)
                    at += 8
                    out.payload_at = at
                    out.payload = wire_end - at
                    out.payload_captured = max(end - at, 0)
                    out.status = _OK
                    if depth >= max_depth or out.is_fragment:
                        break
                    layer = _UNKNOWN
                    if (
                        target_port == 4789
                    ):  # VXLAN: the flag byte says that there is a network number
                        if at + 8 <= end and buffer[at] == 0x08 and buffer[at + 7] == 0:
                            at += 8
                            layer = _ETHERNET
                    elif target_port == 2152 or source_port == 2152:
                        # GTP-U: version 1, G-PDU, and a length that fits
                        if (
                            at + 12 <= end
                            and buffer[at] & 0xF0 == 0x30
                            and buffer[at + 1] == 0xFF
                            and at + 8 + _be16(buffer, at + 2) <= wire_end
                        ):
                            inner = at + 8
                            if buffer[at] & 0x07:  # sequence, N-PDU number and next extension type
                                following = np.int64(buffer[at + 11]) if buffer[at] & 0x04 else 0
                                inner += 4
                                while following != 0 and inner < end:
                                    length = np.int64(buffer[inner]) * 4
                                    if length == 0 or inner + length > end:
                                        inner = end
                                        break
                                    following = np.int64(buffer[inner + length - 1])
                                    inner += length
                            if inner < end and (buffer[inner] >> 4 == 4 or buffer[inner] >> 4 == 6):
                                at = inner
                                layer = _IP
                    elif target_port == 6081:
                        if at + 8 <= end and buffer[at] >> 6 == 0:
                            ethertype = _be16(buffer, at + 2)
                            if ethertype == 0x6558 or ethertype == 0x0800 or ethertype == 0x86DD:
                                at += 8 + (np.int64(buffer[at]) & 63) * 4
                                layer = _ETHERTYPE
                    elif target_port == 1701 or source_port == 1701:
                        if at + 6 <= end:
                            bits = _be16(buffer, at)
                            if bits & 0x800F == 2:  # a data message of version 2
                                at += 6
                                if bits & 0x4000:
                                    at += 2
                                if bits & 0x0800:
                                    at += 4
                                if bits & 0x0200 and at + 2 <= end:
                                    # the offset field closes the header
                                    at += _be16(buffer, at) + 2
                                layer = _PPP
                    elif target_port == 3544 or source_port == 3544:
                        inner = at
                        if inner + 4 <= end and _be16(buffer, inner) == 1:  # authentication
                            inner += 13 + np.int64(buffer[inner + 2]) + np.int64(buffer[inner + 3])
                        if inner + 2 <= end and _be16(buffer, inner) == 0:  # origin indication
                            inner += 8
                        if (
                            inner + 40 <= end
                            and buffer[inner] >> 4 == 6
                            and inner + 40 + _be16(buffer, inner + 4) == wire_end
                        ):
                            at = inner
                            layer = _IP
                    if layer == _UNKNOWN:
                        break
                    depth += 1
                    out.tunnels = depth
                    out.status = _NOT_IP
                    continue
                # Tunnels directly over IP; what is inside a fragment cannot be read.
                out.status = _OTHER
                if out.is_fragment:
                    break
                if protocol == 4 or protocol == 41:
                    layer = _IP
                elif protocol == 47:
                    if at + 4 > end:
                        out.status = _CUT
                        break
                    bits = _be16(buffer, at)
                    ethertype = _be16(buffer, at + 2)
                    version = bits & 7
                    start = at
                    at += 4
                    if version == 0:
                        if bits & 0xC000:  # checksum, or routing that nobody uses
                            at += 4
                    elif version != 1:
                        break
                    if bits & 0x2000:
                        at += 4
                    has_sequence = bits & 0x1000 != 0
                    if has_sequence:
                        at += 4
                    if version == 1 and bits & 0x80:
                        at += 4
                    layer = _ETHERTYPE
                    if version == 1 and start + 6 <= end and _be16(buffer, start + 4) == 0:
                        break  # PPTP acknowledgement alone
                    if ethertype == 0x88BE:  # ERSPAN: type II has a sequence number and 8 bytes
                        at += 8 if has_sequence else 0
                        layer = _ETHERNET
                    elif ethertype == 0x22EB:  # ERSPAN type III
                        if at + 12 > end:
                            out.status = _CUT
                            break
                        at += 20 if buffer[at + 11] & 1 else 12
                        layer = _ETHERNET
                    elif ethertype == 0x883E:  # WCCP: a redirect header unless IP begins at once
                        if at < end and buffer[at] >> 4 != 4:
                            at += 4
                        layer = _IP
                elif protocol == 97:
                    at += 2
                    layer = _ETHERNET
                elif protocol == 137:
                    layer = _MPLS
                else:
                    break
                if depth >= max_depth:
                    out.status = _TOO_DEEP
                    break
                depth += 1
                out.tunnels = depth
                out.status = _NOT_IP
            elif layer == _MPLS:
                bottom = False
                while at + 4 <= end and not bottom:
                    bottom = buffer[at + 2] & 1 != 0
                    at += 4
                if not bottom or at >= end:
                    out.status = _CUT
                    break
                nibble = buffer[at] >> 4
                if nibble == 4 or nibble == 6:
                    layer = _IP
                else:  # a pseudowire; a zero nibble is its control word
                    if nibble == 0:
                        at += 4
                    layer = _ETHERNET
            elif layer == _PPPOE:
                if at + 6 > end:
                    out.status = _CUT
                    break
                if buffer[at + 1] != 0:  # discovery
                    out.status = _NOT_IP
                    break
                wire_end = min(wire_end, at + 6 + _be16(buffer, at + 4))
                end = min(end, wire_end)
                at += 6
                layer = _PPP
            elif layer == _PPP or layer == _PPP_DIRECTION:
                if layer == _PPP_DIRECTION:
                    at += 1
                if at + 2 <= end and buffer[at] == 0xFF and buffer[at + 1] == 0x03:
                    at += 2
                elif (
                    at + 4 <= end
                    and (buffer[at] == 0x0F or buffer[at] == 0x8F)
                    and buffer[at + 1] == 0
                ):
                    layer = _HDLC
                    continue
                if at + 2 > end:
                    out.status = _CUT
                    break
                if buffer[at] & 1:  # compressed protocol field
                    ethertype = np.int64(buffer[at])
                    at += 1
                else:
                    ethertype = _be16(buffer, at)
                    at += 2
                if ethertype == 0x21 or ethertype == 0x57:
                    layer = _IP
                elif ethertype == 0x281 or ethertype == 0x283:
                    layer = _MPLS
                else:
                    out.status = _NOT_IP
                    break
            elif layer == _HDLC:
                if at + 4 > end:
                    out.status = _CUT
                    break
                ethertype = _be16(buffer, at + 2)
                at += 4
                layer = _ETHERTYPE
                if ethertype <= 1500:
                    out.status = _NOT_IP
                    break
            elif layer == _LLC:
                if at + 3 > end:
                    out.status = _CUT
                    break
                if buffer[at] == 0xAA and buffer[at + 1] == 0xAA and buffer[at + 2] == 0x03:
                    if at + 8 > end:
                        out.status = _CUT
                        break
                    ethertype = _be16(buffer, at + 6)
                    # organisation 00-80-C2 bridges whole frames (RFC 2684); 1 and 7 are Ethernet
                    if buffer[at + 4] == 0x80 and buffer[at + 5] == 0xC2:
                        at += 10
                        layer = _ETHERNET
                    else:
                        at += 8
                        layer = _ETHERTYPE
                    if ethertype <= 1500 and layer == _ETHERTYPE:
                        out.status = _NOT_IP
                        break
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
                    out.status = _NOT_IP
                    break
            elif layer == _NULL:
                if at + 4 > end:
                    out.status = _CUT
                    break
                family = _le32(buffer, at)
                if family > 0xFFFF:  # written by a machine of the other byte order
                    family = _be32(buffer, at)
                at += 4
                if family == 2 or family == 10 or family == 24 or family == 28 or family == 30:
                    layer = _IP
                elif family >= 0x600:
                    ethertype = family
                    layer = _ETHERTYPE
                else:
                    out.status = _NOT_IP
                    break
            elif layer == _SLL or layer == _SLL2:
                start = 16 if layer == _SLL else 20
                if at + start > end:
                    out.status = _CUT
                    break
                hardware = _be16(buffer, at + 2) if layer == _SLL else _be16(buffer, at + 8)
                ethertype = _be16(buffer, at + 14) if layer == _SLL else _be16(buffer, at)
                at += start
                layer = _ETHERTYPE
                if hardware == 824 or hardware == 778:
                    # netlink has no packets; GRE devices put the inner protocol here
                    if hardware == 824:
                        out.status = _NOT_IP
                        break
                if ethertype == 4:
                    layer = _LLC
                elif ethertype == 0x0C or ethertype == 1 or ethertype <= 1500:  # CAN
                    out.status = _NOT_IP
                    break
            elif layer == _RADIOTAP:
                if at + 8 > end:
                    out.status = _CUT
                    break
                header = _le16(buffer, at + 2)
                if header < 8 or at + header > end:
                    out.status = _CUT
                    break
                pads = _radiotap_pads(buffer, at, at + header)
                start = _wifi_payload(buffer, at + header, end)
                if start < 0:
                    out.status = -start
                    break
                if pads:
                    start = at + header + (start - at - header + 3) // 4 * 4
                at = start
                layer = _LLC
            elif layer == _WIFI:
                start = _wifi_payload(buffer, at, end)
                if start < 0:
                    out.status = -start
                    break
                at = start
                layer = _LLC
            elif layer == _PRISM or layer == _AVS or layer == _PPI:
                if at + 8 > end:
                    out.status = _CUT
                    break
                if layer == _PPI:
                    header = _le16(buffer, at + 2)
                    inner_link = _le32(buffer, at + 4)
                    layer = np.int64(0)
                    if inner_link < len(layer_of_link):
                        layer = np.int64(layer_of_link[inner_link])
                else:
                    header = _be32(buffer, at + 4)
                    if layer == _PRISM and _be32(buffer, at) >> 12 != 0x80211:
                        header = _le32(buffer, at + 4)
                    layer = _WIFI
                if header < 8:
                    out.status = _CUT
                    break
                at += header
            elif layer == _PKTAP:
                if at + 12 > end:
                    out.status = _CUT
                    break
                header = _le32(buffer, at)
                inner_link = _le32(buffer, at + 8)
                layer = np.int64(0)
                if header < 12:
                    out.status = _CUT
                    break
                if inner_link < len(layer_of_link):
                    layer = np.int64(layer_of_link[inner_link])
                if layer == _PKTAP:
                    layer = np.int64(_UNKNOWN)
                at += header
            elif layer == _NFLOG:
                if at + 4 > end:
                    out.status = _CUT
                    break
                at += 4
                found = False
                while at + 4 <= end:
                    # host byte order: a length that fits is the right reading
                    length = _le16(buffer, at)
                    kind = _le16(buffer, at + 2)
                    if length < 4 or at + length > wire_end:
                        length = _be16(buffer, at)
                        kind = _be16(buffer, at + 2)
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
                    out.status = _NOT_IP
                    break
                layer = _IP
            elif layer == _TOKEN_RING:
                if at + 14 > end:
                    out.status = _CUT
                    break
                start = at + 14
                if buffer[at + 8] & 0x80:  # source routing
                    if start >= end:
                        out.status = _CUT
                        break
                    start += np.int64(buffer[start]) & 31
                at = start
                layer = _LLC
            elif layer == _FDDI:
                at += 13
                layer = _LLC
            elif layer == _IPOIB:  # global routing header, then an EtherType and two reserved bytes
                if at + 44 > end:
                    out.status = _CUT
                    break
                ethertype = _be16(buffer, at + 40)
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
                    out.status = _CUT
                    break
                if buffer[at] != 0x03:  # Cisco's form: an EtherType at once
                    ethertype = _be16(buffer, at)
                    at += 2
                    layer = _ETHERTYPE
                    if ethertype <= 1500:
                        out.status = _NOT_IP
                        break
                    continue
                at += 1
                if buffer[at] == 0:  # pad
                    at += 1
                if at >= end:
                    out.status = _CUT
                    break
                if buffer[at] == 0xCC or buffer[at] == 0x8E:
                    at += 1
                    layer = _IP
                elif buffer[at] == 0x80 and at + 6 <= end:
                    ethertype = _be16(buffer, at + 4)
                    at += 6
                    layer = _ETHERTYPE
                else:
                    out.status = _NOT_IP
                    break
            elif layer == _ENC:
                at += 12
                layer = _IP
            elif layer == _PFLOG:
                if at + 4 > end:
                    out.status = _CUT
                    break
                at += (np.int64(buffer[at]) + 3) // 4 * 4
                layer = _IP
            elif layer == _MPACKET:
                at += 8
                layer = _ETHERNET
            else:
                out.status = _UNKNOWN_LINK
                break
        out.tunnels = depth


class Decoder:
    """Decodes batch after batch into rows that it keeps and reuses.

    Args:
        max_tunnels: tunnels within tunnels to open, 0 to 4; 0 leaves all closed.
    """

    def __init__(self, max_tunnels: int = MAX_DEPTH) -> None:
        self.max_tunnels = max_tunnels
        self._rows: NDArray[Any] = np.zeros(0, dtype=HEADER)

    def __call__(self, batch: PacketBatch) -> HeaderBatch:
        """Headers of a batch; valid until the next call."""
        n = len(batch)
        if len(self._rows) < n:
            self._rows = np.zeros(n, dtype=HEADER)
        rows = self._rows[:n]
        decode_frames(
            batch.buffer,
            batch.offset,
            batch.captured,
            batch.wire,
            batch.time_ns,
            batch.link_type,
            batch.direction,
            batch.owner,
            links.LAYER_OF_LINK,
            self.max_tunnels,
            rows,
        )
        return HeaderBatch(rows, batch.buffer)


def decode(batch: PacketBatch, max_tunnels: int = MAX_DEPTH) -> HeaderBatch:
    """Headers of one batch, in memory of their own. See ``Decoder`` for streams."""
    return Decoder(max_tunnels)(batch)
